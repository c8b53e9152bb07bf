variable "BASE" { default = "docker.io/kuzudb/base:1" }
target "app" {
  context = "kuzudb/app"
  args = { BASE_IMAGE = "kuzudb/base:1" }
  tags = ["docker.io/kuzudb/app:latest"]
  cache-from = ["type=registry,ref=docker.io/kuzudb/app:cache"]
}
