target "explorer" {
  contexts = { base = "docker-image://ghcr.io/kuzudb/api-server:0.3" }
  tags = ["registry.example.com/explorer:latest"]
}
