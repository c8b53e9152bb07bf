"""Reading a registry with http.client alone: the observer shares no line with what it observes."""

from __future__ import annotations

import hashlib
import http.client
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

ACCEPT = (
    "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json, "
    "application/vnd.docker.distribution.manifest.v2+json"
)
ATTEMPTS = 3
TIMEOUT_S = 10.0
DEEPEST = 4


class Unreadable(Exception):
    """The registry did not answer as one does: nothing can be concluded from it."""


class Place(NamedTuple):
    """A repository in one registry."""

    host: str
    repository: str

    @classmethod
    def parse(cls, name: str) -> Place:
        host, _, repository = name.partition("/")
        return cls(host, repository)

    def __str__(self) -> str:
        return f"{self.host}/{self.repository}"


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes


class Reader:
    """One thread's connections, kept open; a request is repeated where the connection failed."""

    def __init__(self) -> None:
        self._open: dict[str, http.client.HTTPConnection] = {}

    def ask(self, host: str, method: str, path: str) -> Answer:
        """The answer if it is 200 or 404; Unreadable."""
        said = ""
        for _ in range(ATTEMPTS):
            try:
                answer = self._once(host, method, path)
            except (OSError, http.client.HTTPException) as error:
                self._drop(host)
                said = repr(error)
                continue
            if answer.status in {200, 404}:
                return answer
            said = f"status {answer.status}"
        raise Unreadable(f"{method} {host}{path}: {said}")

    def tag(self, place: Place, tag: str) -> str | None:
        """The digest that the tag is at; None where there is no such tag."""
        answer = self.ask(place.host, "HEAD", f"/v2/{place.repository}/manifests/{tag}")
        return answer.headers["Docker-Content-Digest"] if answer.status == 200 else None

    def tags(self, place: Place) -> list[str]:
        answer = self.ask(place.host, "GET", f"/v2/{place.repository}/tags/list?n=10000")
        return list(json.loads(answer.body)["tags"] or ()) if answer.status == 200 else []

    def manifest(self, place: Place, digest: str) -> bytes | None:
        answer = self.ask(place.host, "GET", f"/v2/{place.repository}/manifests/{digest}")
        return answer.body if answer.status == 200 else None

    def blob_size(self, place: Place, digest: str) -> int | None:
        answer = self.ask(place.host, "HEAD", f"/v2/{place.repository}/blobs/{digest}")
        return int(answer.headers["Content-Length"]) if answer.status == 200 else None

    def blob(self, place: Place, digest: str) -> bytes | None:
        answer = self.ask(place.host, "GET", f"/v2/{place.repository}/blobs/{digest}")
        return answer.body if answer.status == 200 else None

    def close(self) -> None:
        for host in list(self._open):
            self._drop(host)

    def _once(self, host: str, method: str, path: str) -> Answer:
        if host not in self._open:
            self._open[host] = http.client.HTTPConnection(host, timeout=TIMEOUT_S)
        self._open[host].request(method, path, headers={"Accept": ACCEPT})
        reply = self._open[host].getresponse()
        return Answer(reply.status, reply.headers, reply.read())

    def _drop(self, host: str) -> None:
        connection = self._open.pop(host, None)
        if connection is not None:
            connection.close()


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class Graphs:
    """Which image graphs were seen whole where; shared by the observer's threads.

    What was seen is believed until it is asked for ``afresh``: a registry under observation loses
    nothing, and the proof of a flip must not take longer than the flip.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._whole: set[tuple[Place, str]] = set()
        self._blobs: dict[tuple[Place, str], int] = {}
        self._hashed: set[tuple[str, str]] = set()

    def faults(self, reader: Reader, place: Place, digest: str, *, afresh: bool = False) -> list[str]:
        """What ``place`` lacks of everything that ``digest`` reaches; empty if it is whole. Unreadable."""
        if not afresh and (place, digest) in self._whole:
            return []
        found = list(self._walk(reader, place, digest, DEEPEST, afresh=afresh))
        if not found:
            with self._lock:
                self._whole.add((place, digest))
        return found

    def knows(self, place: Place, digest: str) -> bool:
        """Whether the graph was seen whole there."""
        return (place, digest) in self._whole

    def wrong_bytes(self, reader: Reader, place: Place, digest: str) -> str:
        """What is wrong with a blob's bytes; empty if they hash to its digest. Unreadable."""
        content = reader.blob(place, digest)
        with self._lock:
            self._hashed.add((place.host, digest))
        if content is None:
            return f"blob {digest} is gone from {place}"
        hashed = digest_of(content)
        return "" if hashed == digest else f"blob {digest} of {place} hashes to {hashed}"

    def seen(self) -> list[tuple[Place, str]]:
        """Every graph seen whole, for another look."""
        with self._lock:
            return list(self._whole)

    def unhashed(self) -> list[tuple[Place, str]]:
        """Blobs whose bytes nobody has looked at yet, one place for each registry and digest."""
        with self._lock:
            by_registry = {(place.host, digest): (place, digest) for place, digest in self._blobs}
            return [blob for key, blob in by_registry.items() if key not in self._hashed]

    def blobs(self) -> list[tuple[Place, str]]:
        """One place for each registry and digest."""
        with self._lock:
            return list({(place.host, digest): (place, digest) for place, digest in self._blobs}.values())

    def _walk(self, reader: Reader, place: Place, digest: str, depth: int, *, afresh: bool) -> Iterator[str]:
        content = reader.manifest(place, digest)
        if content is None:
            yield f"manifest {digest} is missing in {place}"
            return
        if (hashed := digest_of(content)) != digest:
            yield f"manifest {digest} of {place} hashes to {hashed}"
            return
        document: dict[str, Any] = json.loads(content)
        if depth == 0:
            yield f"manifest {digest} of {place} nests too deep"
            return
        for child in document.get("manifests", ()):
            yield from self._walk(reader, place, child["digest"], depth - 1, afresh=afresh)
        blobs = [*([document["config"]] if "config" in document else ()), *document.get("layers", ())]
        for blob in blobs:
            yield from self._blob(reader, place, blob["digest"], int(blob["size"]), afresh=afresh)

    def _blob(self, reader: Reader, place: Place, digest: str, size: int, *, afresh: bool) -> Iterator[str]:
        if not afresh and self._blobs.get((place, digest)) == size:
            return
        held = reader.blob_size(place, digest)
        if held is None:
            yield f"blob {digest} is missing in {place}"
        elif held != size:
            yield f"blob {digest} of {place} has {held} bytes instead of {size}"
        else:
            with self._lock:
                self._blobs[place, digest] = size
