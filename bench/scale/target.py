"""A simulated target: takes what is pushed, and refuses a manifest that is not whole.

Digests are kept as their 32 bytes, tags side by side in flat arrays and manifests packed: a million tags fit.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections import Counter
from itertools import count
from typing import Any
from urllib.parse import parse_qs, unquote

from bench.scale.pages import digest_of_tags, frequencies, page, wanted
from bench.scale.wire import PING, Answer, Asked, Served, refused
from bench.scale.world import World
from registry.descriptor import OCI_MANIFEST, is_digest

PAGE_SIZE = 1000
_ROUTE = re.compile(r"/v2/(.+)/(manifests|blobs/uploads|blobs|tags|referrers)/([^/]*)")
_DICTIONARY = (
    b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":'
    b'"application/vnd.oci.image.config.v1+json","digest":"sha256:0123456789abcdef","size":1},"layers":['
    b'{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:fedcba9876543210","size":1}]}'
)
"""What manifests have in common."""


class _Tags:
    """One repository's tags: a digest and a count of looks each, side by side in flat arrays."""

    def __init__(self, *, held: bool = False) -> None:
        """``held``: from the start."""
        self.held = held
        self.at: dict[str, int] = {}
        self.digests = bytearray()
        self.looks = bytearray()

    def digest(self, tag: str) -> bytes | None:
        at = self.at.get(tag)
        return None if at is None else bytes(self.digests[32 * at : 32 * at + 32])

    def look(self, tag: str) -> bytes | None:
        if (at := self.at.get(tag)) is not None:
            self.looks[at] = min(255, self.looks[at] + 1)
        return self.digest(tag)

    def put(self, tag: str, digest: bytes) -> bool:
        """Whether that changed anything."""
        at = self.at.setdefault(tag, len(self.at))
        if 32 * at == len(self.digests):
            self.digests += digest
            self.looks.append(0)
            return True
        changed = self.digests[32 * at : 32 * at + 32] != digest
        self.digests[32 * at : 32 * at + 32] = digest
        return changed


class Target:
    """Answers one request at a time."""

    def __init__(self, host: str = "") -> None:
        """``host``: as clients know it, for absolute Locations."""
        self._base = f"http://{host}" if host else ""
        self.served = Served()
        self.again: Counter[str] = Counter()
        """Puts of what was there already: ``tag``, ``manifest``, ``blob``."""
        self._repositories: dict[str, _Tags] = {}
        self._numbers: dict[str, bytes] = {}
        """Repositories as four bytes."""
        self._blobs: set[bytes] = set()
        """Repository and digest."""
        self._contents: dict[bytes, bytes] = {}
        """Of blobs, by digest."""
        self._manifests: dict[bytes, bytes] = {}
        """Packed, by repository and digest."""
        self._sessions: dict[str, str] = {}
        self._session_numbers = count(1)

    def fill(self, world: World) -> None:
        """Hold what is not new in ``world``, as if it had been pushed before anybody counted."""
        for number in range(world.size.repositories):
            if not world.is_new(number):
                self._fill(world, number)

    def _fill(self, world: World, number: int) -> None:
        repository = world.repository(number)
        tags = self._repositories[repository] = _Tags(held=True)
        for tag in range(world.tags_in(number)):
            image = world.image(number, world.image_number(tag))
            key = self._key(repository, image.digest)
            tags.put(world.tag(tag), key[4:])
            if key in self._manifests:
                continue
            self._manifests[key] = _packed(image.manifest)
            for blob in image.blobs:
                blob_key = self._key(repository, blob.digest)
                self._blobs.add(blob_key)
                self._contents.setdefault(blob_key[4:], blob.content)

    def serve(self, asked: Asked) -> Answer:
        kind, answer = self._route(asked)
        self.served.note(asked.method, kind, answer.status)
        return answer

    def document(self) -> dict[str, Any]:
        tags = list(self._repositories.values())
        return {
            "answers": self.served.document(),
            "again": dict(self.again),
            "tags": sum(len(one.at) for one in tags),
            "manifests": len(self._manifests),
            "blobs": len(self._blobs),
            "sessions": len(self._sessions),
            "looks": frequencies(one.looks for one in tags if not one.held),
            "looks_held": frequencies(one.looks for one in tags if one.held),
        }

    def digest(self) -> str:
        """Of everything that is tagged."""
        return digest_of_tags(
            (name, tag, bytes(tags.digests[32 * at : 32 * at + 32]))
            for name, tags in self._repositories.items()
            for tag, at in tags.at.items()
        )

    def _route(self, asked: Asked) -> tuple[str, Answer]:
        match = _ROUTE.fullmatch(asked.path)
        if match is None:
            return "other", PING if asked.path in {"/v2", "/v2/"} else refused(
                404, "NOT_FOUND", "no endpoint"
            )
        repository, kind, item = match[1], match[2], unquote(match[3])
        if kind == "manifests":
            serve = self._put if asked.method == "PUT" else self._get
            return "manifest" if is_digest(item) else "tag", serve(asked, repository, item)
        if kind == "blobs/uploads":
            return "upload", self._upload(asked, repository, item)
        if kind == "blobs":
            return "blob", self._blob(repository, item)
        if kind == "referrers":
            return kind, refused(404, "NOT_FOUND", "no referrers here")
        return kind, self._list(asked, repository)

    def _number(self, repository: str) -> bytes:
        return self._numbers.setdefault(repository, len(self._numbers).to_bytes(4, "big"))

    def _key(self, repository: str, digest: str) -> bytes:
        return self._number(repository) + bytes.fromhex(digest.partition(":")[2])

    def _get(self, _: Asked, repository: str, item: str) -> Answer:
        raw = bytes.fromhex(item.partition(":")[2]) if is_digest(item) else self._look(repository, item)
        packed = self._manifests.get(self._number(repository) + raw)
        if packed is None:
            return refused(404, "MANIFEST_UNKNOWN", "no such manifest")
        head = f"Content-Type: {OCI_MANIFEST}\r\nDocker-Content-Digest: sha256:{raw.hex()}\r\n"
        return Answer(200, head, _unpacked(packed))

    def _look(self, repository: str, tag: str) -> bytes:
        """The tag's digest; nothing where there is no such tag."""
        tags = self._repositories.get(repository)
        return (tags.look(tag) if tags else None) or b""

    def _put(self, asked: Asked, repository: str, item: str) -> Answer:
        digest = f"sha256:{hashlib.sha256(asked.body).hexdigest()}"
        if is_digest(item) and item != digest:
            return refused(400, "DIGEST_INVALID", f"the body is {digest}")
        document = json.loads(asked.body)
        if asked.media_type != OCI_MANIFEST or document.get("mediaType") != OCI_MANIFEST:
            return refused(400, "MANIFEST_INVALID", "only images are simulated")
        needed = [one["digest"] for one in (document["config"], *document["layers"])]
        missing = [one for one in needed if self._key(repository, one) not in self._blobs]
        if missing:
            return refused(400, "MANIFEST_BLOB_UNKNOWN", f"not in {repository}: {', '.join(missing)}")
        key = self._key(repository, digest)
        if key not in self._manifests:
            self._manifests[key] = _packed(asked.body)
        elif is_digest(item):
            self.again["manifest"] += 1
        if not is_digest(item) and not self._repositories.setdefault(repository, _Tags()).put(item, key[4:]):
            self.again["tag"] += 1
        location = f"Location: {self._base}/v2/{repository}/manifests/{digest}\r\n"
        return Answer(201, f"{location}Docker-Content-Digest: {digest}\r\n")

    def _upload(self, asked: Asked, repository: str, session: str) -> Answer:
        query = parse_qs(asked.query)
        if asked.method == "POST":
            return self._begin(repository, query.get("mount", [""])[0], query.get("from", [""])[0])
        if self._sessions.get(session) != repository:
            return refused(404, "BLOB_UPLOAD_UNKNOWN", "no such upload session")
        if asked.method == "PUT":
            return self._finish(asked, repository, session, query.get("digest", [""])[0])
        if asked.method == "DELETE":
            del self._sessions[session]
            return Answer(204)
        return refused(405, "UNSUPPORTED", "blobs come whole")

    def _begin(self, repository: str, mount: str, origin: str) -> Answer:
        if mount and origin and self._key(origin, mount) in self._blobs:
            self._blobs.add(self._key(repository, mount))
            return Answer(201, f"Location: {self._base}/v2/{repository}/blobs/{mount}\r\n")
        session = f"{next(self._session_numbers):x}"
        self._sessions[session] = repository
        return Answer(
            202, f"Location: {self._base}/v2/{repository}/blobs/uploads/{session}\r\nRange: 0-0\r\n"
        )

    def _finish(self, asked: Asked, repository: str, session: str, digest: str) -> Answer:
        if f"sha256:{hashlib.sha256(asked.body).hexdigest()}" != digest:
            return refused(400, "DIGEST_INVALID", "other bytes")
        del self._sessions[session]
        key = self._key(repository, digest)
        if key in self._blobs:
            self.again["blob"] += 1
        self._blobs.add(key)
        self._contents.setdefault(key[4:], asked.body)
        return Answer(
            201,
            f"Location: {self._base}/v2/{repository}/blobs/{digest}\r\nDocker-Content-Digest: {digest}\r\n",
        )

    def _blob(self, repository: str, digest: str) -> Answer:
        key = self._key(repository, digest) if is_digest(digest) else b""
        if key not in self._blobs:
            return refused(404, "BLOB_UNKNOWN", "no such blob")
        head = f"Content-Type: application/octet-stream\r\nDocker-Content-Digest: {digest}\r\n"
        return Answer(200, head, self._contents[key[4:]])

    def _list(self, asked: Asked, repository: str) -> Answer:
        tags = self._repositories.get(repository)
        if tags is None:
            return refused(404, "NAME_UNKNOWN", "no such repository")
        last, count = wanted(asked, PAGE_SIZE)
        names = sorted(tag for tag in tags.at if tag > last)
        following = count if len(names) > count else 0
        path = f"/v2/{repository}/tags/list"
        return page(path, {"name": repository}, "tags", names[:count], following)


def _packed(content: bytes) -> bytes:
    packer = zlib.compressobj(1, zlib.DEFLATED, -15, zdict=_DICTIONARY)
    return packer.compress(content) + packer.flush()


def _unpacked(packed: bytes) -> bytes:
    return zlib.decompressobj(-15, zdict=_DICTIONARY).decompress(packed)
