resource "docker_image" "explorer" {
  name = "ghcr.io/kuzudb/explorer:0.7.1"
}

resource "docker_container" "explorer" {
  image = "ghcr.io/kuzudb/explorer:0.7.1" # short
  name  = "explorer"
}
