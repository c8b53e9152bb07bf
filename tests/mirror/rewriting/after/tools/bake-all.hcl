variable "BASE" { default = "ghcr.io/kuzudb/base:1" }
target "app" {
  context = "kuzudb/app"
  args = { BASE_IMAGE = "ghcr.io/kuzudb/base:1" }
  tags = ["docker.io/kuzudb/app:latest"]
  cache-from = ["type=registry,ref=ghcr.io/kuzudb/app:cache"]
}
