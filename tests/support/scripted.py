"""One repository, ``team/app``, as scripted registries hold it."""

from __future__ import annotations

import json
from typing import Any

from registry.client import RemoteRepository
from registry.descriptor import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, Descriptor, digest_of
from registry.manifest import Manifest
from tests.support.wire import Script, answering


def described(content: bytes, media_type: str = OCI_LAYER) -> Descriptor:
    return Descriptor(media_type, digest_of(content), len(content))


APP = "/v2/team/app"
LAYER = bytes(range(256)) * 2500
BLOB = described(LAYER)
CONFIG = described(b"{}", OCI_CONFIG)
HELD = f"{APP}/blobs/{BLOB.digest}"
UPLOADS = f"{APP}/blobs/uploads/"


def manifest_of(**members: Any) -> Manifest:
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": CONFIG.document(),
        "layers": [BLOB.document()],
        **members,
    }
    return Manifest.parse(json.dumps(document).encode())


MANIFEST = manifest_of()
MANIFEST_HEADERS = {"Content-Type": OCI_MANIFEST, "Docker-Content-Digest": MANIFEST.digest}


def refusing(status: int, code: str = "", message: str = "", **headers: str) -> Script:
    errors = {"errors": [{"code": code, "message": message}]}
    return answering(status, json.dumps(errors), {k.replace("_", "-"): v for k, v in headers.items()})


def read(repository: RemoteRepository, blob: Descriptor = BLOB, offset: int = 0) -> bytes:
    with repository.open_blob(blob, offset) as blocks:
        return b"".join(bytes(block) for block in blocks)
