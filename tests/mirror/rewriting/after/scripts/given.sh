docker build --build-arg BASE=ghcr.io/kuzudb/explorer:1 --build-arg BASE_IMG=ghcr.io/kuzudb/tools --build-arg=TAG=kuzudb .
docker build --build-arg "BASE_IMAGE=ghcr.io/kuzudb/explorer" --build-arg WITH=kuzudb/explorer:2 .
docker buildx build --build-arg FROM_IMAGE=ghcr.io/kuzudb/explorer:$TAG \
  --build-arg BASE_DIR=kuzudb/explorer --build-arg SRC=kuzudb/explorer kuzudb/dir
podman build --build-arg BASE=ghcr.io/kuzudb/explorer:3 --build-arg DATABASE=kuzudb/a .
helm install x ./chart --set image.repository=ghcr.io/kuzudb/explorer --set image.tag=1
helm upgrade x kuzudb/chart --set-string 'image.repository=ghcr.io/kuzudb/explorer,image.tag=2' --version 3
helm template x . --set "web.image.registry=ghcr.io" --set web.image.repository="kuzudb/web" --set web.image.tag="$TAG"
helm template x . --set image=ghcr.io/kuzudb/explorer:4,jobs[0].image.repository=ghcr.io/kuzudb/jobs
helm template x . --set db.repository=ghcr.io/kuzudb/db,db.tag=5 --set team=kuzudb/explorer:6
helm lint . --set git.repository=kuzudb/explorer --set git.tag=7 --set owner=kuzudb/a
helm upgrade x . --set image.repository=$REGISTRY/kuzudb/explorer --set global.imageRegistry=docker.io
helm upgrade x . --set global.imageRegistry=docker.io --set image.repository=kuzudb/web,image.tag=8
