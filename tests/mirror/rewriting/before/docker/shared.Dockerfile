# syntax=docker/dockerfile:1
ARG TAG=1.2
ARG BASE=kuzudb/base
ARG FULL=kuzudb/full:3
FROM kuzudb/a:${TAG} AS a
FROM --platform=$BUILDPLATFORM kuzudb/b:${TAG} AS b
FROM ${FULL} AS c
FROM ${BASE}:9 AS d
FROM python
COPY --from=kuzudb/tools /x /x
COPY --from=a kuzudb/local /y
COPY kuzudb/x /z
RUN --mount=type=bind,from=kuzudb/m:1,target=/m docker build kuzudb/explorer && docker run kuzudb/q:1 cat kuzudb/r
ENV IMAGE=kuzudb/env:1
LABEL a="kuzudb/lbl"
HEALTHCHECK CMD curl docker.io/kuzudb/hc
