#!/usr/bin/env bash
set -eu
IMAGE=ghcr.io/kuzudb/explorer
IMG=kuzudb/img:1
docker run "$IMAGE:1"
docker   run -it --rm -p 80:80 -v kuzudb/a:/b ghcr.io/kuzudb/explorer bash -c 'cat kuzudb/x'
docker run $OPTS ghcr.io/kuzudb/explorer:3
docker run --rm --name x --entrypoint cat ghcr.io/kuzudb/explorer:4 kuzudb/y:5
docker run -v a/b:c ghcr.io/kuzudb/explorer:5
sudo docker run ghcr.io/kuzudb/explorer:6 < kuzudb/in > kuzudb/out
DOCKER_BUILDKIT=1 docker build --build-arg X=kuzudb/x:1 -f kuzudb/Dockerfile kuzudb/dir
docker save ghcr.io/kuzudb/explorer:7 | gzip > kuzudb/explorer.tgz
docker inspect --format '{{.Id}}' ghcr.io/kuzudb/explorer:8
xargs -n1 docker pull <<EOT
ghcr.io/kuzudb/explorer:9
ghcr.io/kuzudb/explorer:10
EOT
kubectl set image deploy/x x=ghcr.io/kuzudb/explorer:11
kubectl run t --image=ghcr.io/kuzudb/explorer:12 --rm -it -- sh
kubectl create job t --image ghcr.io/kuzudb/explorer:13
kubectl debug pod/x --image=busybox
helm upgrade x ./chart --set image.repository=ghcr.io/kuzudb/explorer --set image.tag=14
helm install x oci://ghcr.io/kuzudb/chart
ssh host "docker pull ghcr.io/kuzudb/explorer:15"
ssh host 'docker run --rm ghcr.io/kuzudb/explorer:16 ls kuzudb/z'
skopeo inspect docker://ghcr.io/kuzudb/explorer:17
skopeo copy docker://kuzudb/explorer:18 dir:kuzudb/out
cd kuzudb/explorer && docker compose up
echo "docker run ghcr.io/kuzudb/explorer:19"
docker tag ghcr.io/kuzudb/explorer:20 mine:1
docker rm kuzudb/x
grype ghcr.io/kuzudb/explorer:21
grype dir:kuzudb/explorer
trivy image --input kuzudb/x.tar
trivy config kuzudb/explorer
singularity pull docker://ghcr.io/kuzudb/explorer:22
docker run --gpus all -d ghcr.io/kuzudb/explorer:23
docker run -e TOKEN -u 1000:1000 -w /a/b ghcr.io/kuzudb/explorer:24 /a/b
docker run --pull=always ghcr.io/kuzudb/explorer:25
docker run --env-file kuzudb/env ghcr.io/kuzudb/explorer:26
docker run -dp 80:80 ghcr.io/kuzudb/explorer:27
docker run -it"${x}" ghcr.io/kuzudb/explorer:28
docker --context x run ghcr.io/kuzudb/explorer:29
alias k='docker run --rm ghcr.io/kuzudb/explorer:30'
docker images ghcr.io/kuzudb/explorer
docker ps --filter ancestor=kuzudb/explorer:31
sealift mirror docker.io/kuzudb/explorer:1 --to ghcr.io/kuzudb/explorer
sealift mirror docker.io/kuzudb/explorer \
  --to ghcr.io/kuzudb/explorer
./bin/sealift plan -f fleet.yaml; docker pull ghcr.io/kuzudb/explorer:32
