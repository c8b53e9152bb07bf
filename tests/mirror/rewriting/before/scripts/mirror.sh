#!/bin/sh
sealift mirror docker.io/kuzudb/explorer:0.7.1 --to ghcr.io/kuzudb/explorer
sealift move --from docker.io/kuzudb --to ghcr.io/kuzudb
docker pull docker.io/kuzudb/explorer:0.7.1
trivy image --severity HIGH kuzudb/explorer:0.7.1 | tee kuzudb/report:1
docker save -o kuzudb/out.tar kuzudb/cli:0.9
x=$(docker inspect --format '{{.Id}}' kuzudb/cli:0.9)
