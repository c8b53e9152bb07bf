# syntax=docker/dockerfile:1
ARG TAG=1.2
ARG BASE=kuzudb/base
ARG FULL=ghcr.io/kuzudb/full:3
FROM ghcr.io/kuzudb/a:${TAG} AS a
FROM --platform=$BUILDPLATFORM ghcr.io/kuzudb/b:${TAG} AS b
FROM ${FULL} AS c
FROM ${BASE}:9 AS d
FROM python
COPY --from=ghcr.io/kuzudb/tools /x /x
COPY --from=a kuzudb/local /y
COPY kuzudb/x /z
RUN --mount=type=bind,from=ghcr.io/kuzudb/m:1,target=/m docker build kuzudb/explorer && docker run ghcr.io/kuzudb/q:1 cat kuzudb/r
ENV IMAGE=ghcr.io/kuzudb/env:1
LABEL a="kuzudb/lbl"
HEALTHCHECK CMD curl ghcr.io/kuzudb/hc
