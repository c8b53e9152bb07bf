resource "docker_image" "explorer" {
  name = "docker.io/kuzudb/explorer:0.7.1"
}

resource "docker_container" "explorer" {
  image = "kuzudb/explorer:0.7.1" # short
  name  = "explorer"
}
