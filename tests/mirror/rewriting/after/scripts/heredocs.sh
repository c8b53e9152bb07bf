#!/bin/sh
cat > Dockerfile <<EOF
# kuzudb/not-this:1
ARG VERSION=1.2
FROM ghcr.io/kuzudb/explorer:$VERSION AS tools
FROM tools
COPY --from=ghcr.io/kuzudb/tools /bin/x /bin/x
EOF
docker build -t mine:1 - <<'EOF'
FROM ghcr.io/kuzudb/explorer
RUN cat kuzudb/a
EOF
kubectl apply -f - <<-EOF
	apiVersion: v1
	kind: Pod
	metadata: {name: kuzudb/x}
	spec:
	  containers:
	    - name: kuzudb/x
	      image: ghcr.io/kuzudb/explorer
	    - {image: "ghcr.io/kuzudb/api-server:${VERSION:-0.3}"}
	EOF
cat <<EOF | docker compose -f - up
services:
  a: {image: kuzudb/explorer, build: .}
  b: {image: ghcr.io/kuzudb/db:2}
EOF
tee "$dir/values-prod.yaml" <<"EOF" >/dev/null
image:
  registry: ghcr.io
  repository: kuzudb/explorer
  tag: "1"
backup:
  repository: kuzudb/backup
EOF
while read -r image; do docker pull "$image"; done <<EOF
ghcr.io/kuzudb/explorer:2
# kuzudb/explorer:3
ghcr.io/kuzudb/db:2
EOF
cat <<EOF
FROM
kuzudb/explorer:4
  by kuzudb/team
EOF
bash -s <<EOF
docker run --rm ghcr.io/kuzudb/explorer:5 cat kuzudb/a:1
EOF
psql <<< "SELECT kuzudb/explorer:6" # <<EOF
x=$((1<<shift))
docker pull ghcr.io/kuzudb/explorer:7
cat > notes.txt <<NEVER
kuzudb/explorer:8
