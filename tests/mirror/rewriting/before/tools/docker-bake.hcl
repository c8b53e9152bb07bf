target "explorer" {
  contexts = { base = "docker-image://kuzudb/api-server:0.3" }
  tags = ["registry.example.com/explorer:latest"]
}
