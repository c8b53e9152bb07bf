variable "REPO" { default = "kuzudb/explorer" }
variable "BASE_IMAGE" { default = "kuzudb/base:1" }
target "app" {
  tags = ["kuzudb/explorer:latest", "docker.io/kuzudb/explorer:${TAG}"]
  contexts = { base = "docker-image://ghcr.io/kuzudb/base:1" }
  cache-from = ["type=registry,ref=kuzudb/explorer:cache", "ghcr.io/kuzudb/explorer:cache"]
  args = { BASE = "ghcr.io/kuzudb/base:1" }
}
