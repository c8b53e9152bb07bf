#!/usr/bin/env bash
# Usage: run.sh   (runs kuzudb/explorer:0.7.1)
set -euo pipefail
IMAGE="${IMAGE:-ghcr.io/kuzudb/explorer:0.7.1}"
FALLBACK_IMAGE=ghcr.io/kuzudb/explorer:0.6.1
TAG=0.7.1
docker pull ghcr.io/kuzudb/explorer:"$TAG" || docker pull ghcr.io/kuzudb/explorer:$TAG
docker run --rm -it --name=kuzudb -u 1000:1000 -v kuzudb/data:/database ghcr.io/kuzudb/explorer:${TAG} "$@"
kubectl set image deployment/explorer explorer=ghcr.io/kuzudb/explorer:0.7.1
git clone https://github.com/kuzudb/explorer && cd explorer
