#!/bin/sh
cat > Dockerfile <<EOF
# kuzudb/not-this:1
ARG VERSION=1.2
FROM kuzudb/explorer:$VERSION AS tools
FROM tools
COPY --from=kuzudb/tools /bin/x /bin/x
EOF
docker build -t mine:1 - <<'EOF'
FROM kuzudb/explorer
RUN cat kuzudb/a
EOF
kubectl apply -f - <<-EOF
	apiVersion: v1
	kind: Pod
	metadata: {name: kuzudb/x}
	spec:
	  containers:
	    - name: kuzudb/x
	      image: kuzudb/explorer
	    - {image: "kuzudb/api-server:${VERSION:-0.3}"}
	EOF
cat <<EOF | docker compose -f - up
services:
  a: {image: kuzudb/explorer, build: .}
  b: {image: kuzudb/db:2}
EOF
tee "$dir/values-prod.yaml" <<"EOF" >/dev/null
image:
  registry: docker.io
  repository: kuzudb/explorer
  tag: "1"
backup:
  repository: kuzudb/backup
EOF
while read -r image; do docker pull "$image"; done <<EOF
kuzudb/explorer:2
# kuzudb/explorer:3
docker.io/kuzudb/db:2
EOF
cat <<EOF
FROM
kuzudb/explorer:4
  by kuzudb/team
EOF
bash -s <<EOF
docker run --rm kuzudb/explorer:5 cat kuzudb/a:1
EOF
psql <<< "SELECT kuzudb/explorer:6" # <<EOF
x=$((1<<shift))
docker pull kuzudb/explorer:7
cat > notes.txt <<NEVER
kuzudb/explorer:8
