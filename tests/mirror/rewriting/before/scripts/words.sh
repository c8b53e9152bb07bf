#!/bin/sh
# Words that look like images and are none
kubectl rollout status deploy/explorer --namespace kuzudb/explorer
kubectl run test --image=kuzudb/explorer:0.7.1 --image kuzudb/cli:0.9
sealift rewrite . --map docker.io/kuzudb/explorer=ghcr.io/kuzudb/explorer
docker run --add-host kuzudb.example:6380 -e TOKEN=kuzudb/explorer/Secret busybox
curl https://registry.example/v2/docker.io/kuzudb/explorer/manifests/0.7.1
cat > sealift.yaml <<EOF
mirrors:
  - source: docker.io/kuzudb/explorer
EOF
