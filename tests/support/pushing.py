"""Putting images into a plain registry with nothing but http.client: independent of what it helps to test."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterable
from dataclasses import dataclass

from registry.descriptor import OCI_INDEX
from registry.images import Blob, Image, Index
from registry.manifest import ACCEPT

TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: http.client.HTTPMessage
    body: bytes


def ask(
    host: str, method: str, path: str, body: bytes | None = None, content_type: str | None = None
) -> Reply:
    """One request over a connection of its own; whatever comes back is returned.

    It accepts every kind of manifest: docker-registry denies having what one does not accept.
    """
    connection = http.client.HTTPConnection(host, timeout=TIMEOUT_S)
    try:
        headers = {"Accept": ACCEPT} | ({"Content-Type": content_type} if content_type else {})
        connection.request(method, path, body, headers)
        reply = connection.getresponse()
        return Reply(reply.status, reply.headers, reply.read())
    finally:
        connection.close()


def push(name: str, content: Image | Index, tag: str | None = None) -> str:
    """Store ``content`` in ``name`` (``host/repository``), under ``tag`` if given; returns its digest."""
    if isinstance(content, Index):
        for child in content.children:
            push(name, child)
    else:
        for blob in content.blobs:
            push_blob(name, blob)
    manifest = content.manifest
    put_manifest(name, tag or content.digest, manifest.content, manifest.media_type)
    return content.digest


def push_blob(name: str, blob: Blob) -> None:
    host, _, repository = name.partition("/")
    digest = blob.descriptor.digest
    if ask(host, "HEAD", f"/v2/{repository}/blobs/{digest}").status == 200:
        return
    opened = ask(host, "POST", f"/v2/{repository}/blobs/uploads/")
    assert opened.status == 202, opened
    location = opened.headers["Location"].removeprefix(f"http://{host}")
    sign = "&" if "?" in location else "?"
    path = f"{location}{sign}digest={digest}"
    stored = ask(host, "PUT", path, b"".join(blob.open()), "application/octet-stream")
    assert stored.status == 201, stored


def put_manifest(name: str, tag_or_digest: str, content: bytes, media_type: str) -> None:
    host, _, repository = name.partition("/")
    stored = ask(host, "PUT", f"/v2/{repository}/manifests/{tag_or_digest}", content, media_type)
    assert stored.status == 201, stored


def put_referrers(name: str, subject: str, referrers: Iterable[Image]) -> str:
    """The tag-schema index of ``subject``, as clients keep it where a registry has no referrers API.

    Returns its tag (distribution-spec 1.1, "Referrers Tag Schema").
    """
    manifests = [referrer.manifest.descriptor.document() for referrer in referrers]
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}
    tag = subject.replace(":", "-")
    put_manifest(name, tag, json.dumps(index).encode(), OCI_INDEX)
    return tag


def blob_exists(name: str, digest: str) -> bool:
    host, _, repository = name.partition("/")
    return ask(host, "HEAD", f"/v2/{repository}/blobs/{digest}").status == 200
