resource "docker_image" "x" {
  name = "kuzudb/explorer:0.7.1"
}
resource "docker_container" "x" {
  image = docker_image.x.image_id
}
module "m" { source = "kuzudb/explorer/aws" 
 container_image = "ghcr.io/kuzudb/explorer:0.7.1" }
