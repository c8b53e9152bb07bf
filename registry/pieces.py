"""Uploads in pieces (distribution-spec 1.1, "Pushing a blob in chunks"), and sessions that outlive a worker.

Registries differ: GHCR answers 416 to pieces above 4 MiB, ECR 201 with a Range that stays at the first
piece, Google has no pieces at all, and CNCF distribution takes a piece with a wrong Content-Range without
a word. So what comes back is compared with what was sent, and anything else is Refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import httpx

from registry.descriptor import Descriptor
from registry.errors import NotFound, Refused, Unsafe
from registry.exchange import Call, Content, Outgoing, Registry
from registry.repository import Upload
from registry.uploads import OCTETS, end_upload, upload_url

MAX_NOTE_CHARS = 4096
_RANGE = re.compile(r"(?:bytes[= ])?0-(\d{1,19})")
_MIN_LENGTH = re.compile(r"\d{1,10}")


@dataclass(frozen=True, slots=True)
class RemotePieces:
    """One repository's; satisfies :class:`registry.repository.Pieces`."""

    registry: Registry
    repository: str

    def send(
        self, upload: Upload, blob: Descriptor, start: int, end: int, chunks: Iterable[bytes | memoryview]
    ) -> Upload:
        """See Pieces. Refused where the registry does not confirm exactly these bytes."""
        what = self._what(blob)
        url, is_own = upload_url(self.registry, upload.location, what)
        claim = ("Content-Range", f"{start}-{end - 1}")
        body, accepted = Outgoing(chunks, end - start), frozenset({202})
        call = Call("PATCH", "upload", url, what, self._push, (OCTETS, claim), body, accepted, is_own)
        with self.registry.exchange(call) as response:
            has = _received(response)
            location = response.headers.get("location", "")
        if has != end:
            said = "does not say what it has" if has is None else f"says that it has {has}"
            raise Refused(self.registry.host, what, f"sent bytes up to {end}, the registry {said}", 202)
        return self._moved(upload, location, what, url)

    def progress(self, upload: Upload, blob: Descriptor) -> tuple[Upload, int | None]:
        """See Pieces."""
        what = self._what(blob)
        url, is_own = upload_url(self.registry, upload.location, what)
        accepted = frozenset({200, 202, 204, 404, 405, 501})
        call = Call("GET", "upload", url, what, self._push, accepted=accepted, is_own=is_own)
        with self.registry.exchange(call) as response:
            status, has = response.status_code, _received(response)
            location = response.headers.get("location", "")
        if status == 404:
            raise NotFound(self.registry.host, what, "the upload session is no more", 404)
        if status in {405, 501} or has is None:
            return upload, None
        # "0-0" is how registries write nothing; a session with one byte in it is nobody's.
        return self._moved(upload, location, what, url), has if has > 1 else 0

    def finish(self, upload: Upload, blob: Descriptor) -> None:
        """See Pieces. Raises DigestMismatch where the registry has other bytes than ``blob`` promises."""
        end_upload(self.registry, upload, blob, self._what(blob), self._push, Content())

    def note(self, upload: Upload) -> str | None:
        """Path and query of a session on the registry's own host.

        There it is worth nothing without the registry's credentials; elsewhere it is itself the credential.
        """
        try:
            url, is_own = upload_url(self.registry, upload.location, "")
        except Unsafe:
            return None
        note = url.raw_path.decode("ascii")
        return note if is_own and len(note) <= MAX_NOTE_CHARS else None

    def noted(self, note: str) -> Upload:
        """The session of a note: always on the registry's own host."""
        return Upload(f"{self.registry.base}/{note.lstrip('/')}")

    def _moved(self, upload: Upload, location: str, what: str, current: httpx.URL) -> Upload:
        """The session at its new location; some registries have one for the whole session."""
        if not location:
            return upload
        moved = str(upload_url(self.registry, location, what, current)[0])
        return Upload(moved, upload.least_bytes)

    def _what(self, blob: Descriptor) -> str:
        return f"{self.repository}@{blob.digest}"

    @property
    def _push(self) -> tuple[str, ...]:
        return (f"repository:{self.repository}:pull,push",)


def least_bytes(response: httpx.Response) -> int:
    """How small a piece may be, the last one excepted (``OCI-Chunk-Min-Length``)."""
    stated = response.headers.get("oci-chunk-min-length", "")
    return int(stated) if _MIN_LENGTH.fullmatch(stated) else 0


def _received(response: httpx.Response) -> int | None:
    match = _RANGE.fullmatch(response.headers.get("range", ""))
    return int(match[1]) + 1 if match else None
