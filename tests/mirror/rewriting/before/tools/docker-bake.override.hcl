variable "REPO" { default = "kuzudb/explorer" }
variable "BASE_IMAGE" { default = "kuzudb/base:1" }
target "app" {
  tags = ["kuzudb/explorer:latest", "docker.io/kuzudb/explorer:${TAG}"]
  contexts = { base = "docker-image://kuzudb/base:1" }
  cache-from = ["type=registry,ref=kuzudb/explorer:cache", "docker.io/kuzudb/explorer:cache"]
  args = { BASE = "docker.io/kuzudb/base:1" }
}
