ARG IMAGE=kuzudb/explorer:0.7.1
ARG VERSION=0.9
FROM ${IMAGE} AS one
FROM ${IMAGE}-debug AS two
FROM ghcr.io/kuzudb/cli:${VERSION} AS cli
COPY --from=ghcr.io/kuzudb/wheels:2 /wheels /wheels
