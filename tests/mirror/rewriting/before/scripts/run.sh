#!/usr/bin/env bash
# Usage: run.sh   (runs kuzudb/explorer:0.7.1)
set -euo pipefail
IMAGE="${IMAGE:-kuzudb/explorer:0.7.1}"
FALLBACK_IMAGE=kuzudb/explorer:0.6.1
TAG=0.7.1
docker pull docker.io/kuzudb/explorer:"$TAG" || docker pull kuzudb/explorer:$TAG
docker run --rm -it --name=kuzudb -u 1000:1000 -v kuzudb/data:/database kuzudb/explorer:${TAG} "$@"
kubectl set image deployment/explorer explorer=kuzudb/explorer:0.7.1
git clone https://github.com/kuzudb/explorer && cd explorer
