"""The simulated source: a world that is read page by page, counted and limited as Docker Hub counts."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any
from urllib.parse import unquote

from bench.scale.pages import digest_of_tags, frequencies, page, wanted
from bench.scale.wire import PING, Answer, Asked, Served, refused
from bench.scale.world import World
from registry.descriptor import OCI_INDEX, OCI_MANIFEST, is_digest
from registry.memory_limits import PullLimits
from registry.memory_store import ErrorReply

_ROUTE = re.compile(r"/v2/(.+)/(manifests|blobs|tags|referrers)/([^/]+)")
_EMPTY_INDEX = f'{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[]}}'.encode()


class Source:
    """Answers one request at a time. What was asked is counted for each tag and image, in a byte each."""

    def __init__(self, world: World, limits: PullLimits, page_size: int = 1000) -> None:
        """``page_size``: most names a list returns at once."""
        self.world, self._limits, self._page_size = world, limits, page_size
        self.served = Served()
        size = world.size
        self._looks = [bytearray(world.tags_in(number)) for number in range(size.repositories)]
        self._reads = [bytearray(world.images_in(number)) for number in range(size.repositories)]
        self._configs = [bytearray(world.images_in(number)) for number in range(size.repositories)]
        self._layers: Counter[str] = Counter()
        self._most_pulls = 0

    def serve(self, asked: Asked) -> Answer:
        kind, answer = self._route(asked)
        self.served.note(asked.method, kind, answer.status)
        return answer

    def document(self) -> dict[str, Any]:
        """Answers, most pulls in a window, and how many tags and contents were asked for how often."""
        return {
            "answers": self.served.document(),
            "most_pulls": self._most_pulls,
            "overdrawn": sum(self._limits.refused.values()),
            "looks": frequencies(self._looks),
            "reads": frequencies(self._reads),
            "configs": frequencies(self._configs),
            "layers": frequencies([self._layers.values()]),
        }

    def digest(self) -> str:
        """Of everything that is tagged: what that of every target has to be."""
        world = self.world
        return digest_of_tags(
            (
                world.repository(number),
                world.tag(tag),
                bytes.fromhex(world.image(number, world.image_number(tag)).digest[7:]),
            )
            for number in range(world.size.repositories)
            for tag in range(world.tags_in(number))
        )

    def _route(self, asked: Asked) -> tuple[str, Answer]:
        if asked.method not in {"GET", "HEAD"}:
            return "other", refused(405, "UNSUPPORTED", "a source is only read")
        if asked.path == "/v2/_catalog":
            return "catalog", self._catalog(asked)
        if match := _ROUTE.fullmatch(asked.path):
            return match[2], self._in_repository(asked, match[1], match[2], unquote(match[3]))
        return "other", PING if asked.path in {"/v2", "/v2/"} else refused(404, "NOT_FOUND", "no endpoint")

    def _in_repository(self, asked: Asked, name: str, kind: str, item: str) -> Answer:
        number = self.world.repository_number(name)
        if number is None:
            return refused(404, "NAME_UNKNOWN", "no such repository")
        if kind == "manifests":
            return self._manifest(asked, number, item)
        if kind == "blobs":
            return self._blob(number, item)
        if kind == "referrers":
            return Answer(200, f"Content-Type: {OCI_INDEX}\r\n", _EMPTY_INDEX)
        return self._tags(asked, number, name)

    def _catalog(self, asked: Asked) -> Answer:
        last, count = wanted(asked, self._page_size)
        names, more = self.world.repositories_after(last, count)
        return page("/v2/_catalog", {}, "repositories", names, count if more else 0)

    def _tags(self, asked: Asked, repository: int, name: str) -> Answer:
        last, count = wanted(asked, self._page_size)
        names, more = self.world.tags_after(repository, last, count)
        return page(f"/v2/{name}/tags/list", {"name": name}, "tags", names, count if more else 0)

    def _manifest(self, asked: Asked, repository: int, item: str) -> Answer:
        number = self._named(repository, item)
        if number is None:
            return refused(404, "MANIFEST_UNKNOWN", "no such manifest")
        told = self._limits.pulled if asked.method == "GET" else self._limits.looked
        try:
            limits = told("")
        except ErrorReply as error:
            return refused(429, error.code, error.message, _lines(error.headers))
        self._most_pulls = max(self._most_pulls, *self._limits.used.values(), 0)
        if asked.method == "GET":
            _count(self._reads[repository], number)
        image = self.world.image(repository, number)
        head = f"Content-Type: {OCI_MANIFEST}\r\nDocker-Content-Digest: {image.digest}\r\n{_lines(limits)}"
        return Answer(200, head, image.manifest)

    def _named(self, repository: int, item: str) -> int | None:
        """The number of the image that a tag or digest names."""
        if is_digest(item):
            return self.world.image_number_of(repository, item)
        tag = self.world.tag_number(repository, item)
        if tag is None:
            return None
        _count(self._looks[repository], tag)
        return self.world.image_number(tag)

    def _blob(self, repository: int, digest: str) -> Answer:
        blob = self.world.blob_of(repository, digest)
        if blob is None:
            return refused(404, "BLOB_UNKNOWN", "no such blob")
        kind, *numbers = blob.name.split(" ")
        if kind == "config":
            _count(self._configs[repository], int(numbers[1]))
        else:
            self._layers[blob.name] += 1
        head = f"Content-Type: application/octet-stream\r\nDocker-Content-Digest: {digest}\r\n"
        return Answer(200, head, blob.content)


def _count(counts: bytearray, at: int) -> None:
    counts[at] = min(255, counts[at] + 1)


def _lines(headers: dict[str, str]) -> str:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items())
