#!/usr/bin/env bash
set -eu
IMAGE=kuzudb/explorer
IMG=kuzudb/img:1
docker run "$IMAGE:1"
docker   run -it --rm -p 80:80 -v kuzudb/a:/b kuzudb/explorer bash -c 'cat kuzudb/x'
docker run $OPTS kuzudb/explorer:3
docker run --rm --name x --entrypoint cat kuzudb/explorer:4 kuzudb/y:5
docker run -v a/b:c kuzudb/explorer:5
sudo docker run kuzudb/explorer:6 < kuzudb/in > kuzudb/out
DOCKER_BUILDKIT=1 docker build --build-arg X=kuzudb/x:1 -f kuzudb/Dockerfile kuzudb/dir
docker save kuzudb/explorer:7 | gzip > kuzudb/explorer.tgz
docker inspect --format '{{.Id}}' kuzudb/explorer:8
xargs -n1 docker pull <<EOT
kuzudb/explorer:9
docker.io/kuzudb/explorer:10
EOT
kubectl set image deploy/x x=kuzudb/explorer:11
kubectl run t --image=kuzudb/explorer:12 --rm -it -- sh
kubectl create job t --image kuzudb/explorer:13
kubectl debug pod/x --image=busybox
helm upgrade x ./chart --set image.repository=kuzudb/explorer --set image.tag=14
helm install x oci://docker.io/kuzudb/chart
ssh host "docker pull kuzudb/explorer:15"
ssh host 'docker run --rm kuzudb/explorer:16 ls kuzudb/z'
skopeo inspect docker://kuzudb/explorer:17
skopeo copy docker://kuzudb/explorer:18 dir:kuzudb/out
cd kuzudb/explorer && docker compose up
echo "docker run kuzudb/explorer:19"
docker tag kuzudb/explorer:20 mine:1
docker rm kuzudb/x
grype kuzudb/explorer:21
grype dir:kuzudb/explorer
trivy image --input kuzudb/x.tar
trivy config kuzudb/explorer
singularity pull docker://kuzudb/explorer:22
docker run --gpus all -d kuzudb/explorer:23
docker run -e TOKEN -u 1000:1000 -w /a/b kuzudb/explorer:24 /a/b
docker run --pull=always kuzudb/explorer:25
docker run --env-file kuzudb/env kuzudb/explorer:26
docker run -dp 80:80 kuzudb/explorer:27
docker run -it"${x}" kuzudb/explorer:28
docker --context x run kuzudb/explorer:29
alias k='docker run --rm kuzudb/explorer:30'
docker images kuzudb/explorer
docker ps --filter ancestor=kuzudb/explorer:31
sealift mirror docker.io/kuzudb/explorer:1 --to ghcr.io/kuzudb/explorer
sealift mirror docker.io/kuzudb/explorer \
  --to ghcr.io/kuzudb/explorer
./bin/sealift plan -f fleet.yaml; docker pull kuzudb/explorer:32
