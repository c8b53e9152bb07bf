"""What an in-memory registry holds: content by digest, and per repository its blobs, manifests and tags."""

from __future__ import annotations

import hashlib
import tempfile
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from registry.descriptor import is_digest
from registry.manifest import Manifest
from registry.repository import BLOCK


class ErrorReply(Exception):
    """A request refused with an error of the distribution-spec ("Error Codes").

    A hook (``MemoryRegistry(on_request=...)``) raises it to make one request fail.
    """

    def __init__(
        self, status: int, code: str, message: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(status, code, message)
        self.status, self.code, self.message = status, code, message or code.lower()
        self.headers = dict(headers or {})


@dataclass(frozen=True, slots=True)
class Content:
    """Bytes that no longer change: small ones in memory, big ones in a temporary file."""

    size: int
    data: bytes | Path

    def blocks(self, start: int = 0, length: int | None = None) -> Iterator[memoryview]:
        """``length`` bytes from ``start``; a block may be overwritten by the next one."""
        left = self.size - start if length is None else length
        if isinstance(self.data, bytes):
            view = memoryview(self.data)[start : start + left]
            yield from (view[at : at + BLOCK] for at in range(0, len(view), BLOCK))
            return
        buffer = memoryview(bytearray(min(BLOCK, max(left, 1))))
        with self.data.open("rb", buffering=0) as file:
            file.seek(start)
            while left and (count := file.readinto(buffer[: min(left, BLOCK)])):
                left -= count
                yield buffer[:count]

    def read(self) -> bytes:
        return self.data if isinstance(self.data, bytes) else self.data.read_bytes()

    def discard(self) -> None:
        if isinstance(self.data, Path):
            self.data.unlink(missing_ok=True)


class Session:
    """One upload session: hashed as it comes, in memory up to a limit and then in a file."""

    def __init__(self, store: Store, repository: str) -> None:
        self.id = uuid.uuid4().hex
        self.repository = repository
        self.size = 0
        self.lock = threading.Lock()
        self._store = store
        self._sha256 = hashlib.sha256()
        self._memory = bytearray()
        self._file: BinaryIO | None = None
        self._path: Path | None = None

    def write(self, block: bytes | memoryview) -> None:
        self._store.charge(len(block))
        if self._file is None and self.size + len(block) > self._store.spool_bytes:
            self._path = self._store.spool_folder() / self.id
            self._file = self._path.open("wb", buffering=0)
            self._file.write(self._memory)
            self._memory.clear()
        self._sha256.update(block)
        if self._file is None:
            self._memory += block
        else:
            self._file.write(block)
        self.size += len(block)

    def digest(self, algorithm: str) -> str:
        if algorithm == "sha256":
            return f"sha256:{self._sha256.hexdigest()}"
        other = hashlib.new(algorithm)
        for block in self._content().blocks():
            other.update(block)
        return f"{algorithm}:{other.hexdigest()}"

    def close(self) -> Content:
        """End the session: its bytes are now the caller's."""
        content = self._content()
        if self._file is not None:
            self._file.close()
        return content

    def discard(self) -> None:
        self.close().discard()
        self._store.charge(-self.size)

    def _content(self) -> Content:
        return Content(self.size, bytes(self._memory) if self._path is None else self._path)


@dataclass(slots=True)
class Held:
    """One repository's share of the registry."""

    blobs: set[str] = field(default_factory=set)
    manifests: dict[str, Manifest] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


class Store:
    """Everything a registry holds; each method is safe to call from several threads."""

    def __init__(self, spool_bytes: int, quota_bytes: int | None) -> None:
        self.spool_bytes = spool_bytes
        self.contents: dict[str, Content] = {}
        self.repositories: dict[str, Held] = {}
        self.lock = threading.RLock()
        self._quota_bytes = quota_bytes
        self._used_bytes = 0
        self._sessions: dict[str, Session] = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def close(self) -> None:
        """Forget the open sessions and remove the temporary files; what is in memory stays readable."""
        with self.lock:
            while self._sessions:
                self._sessions.popitem()[1].discard()
            if self._folder is not None:
                self._folder.cleanup()
                self._folder = None

    def spool_folder(self) -> Path:
        with self.lock:
            if self._folder is None:
                self._folder = tempfile.TemporaryDirectory(prefix="sealift-registry-")
            return Path(self._folder.name)

    def charge(self, count: int) -> None:
        """Count ``count`` bytes (negative: give them back) against the quota."""
        with self.lock:
            if count > 0 and self._quota_bytes is not None and self._used_bytes + count > self._quota_bytes:
                raise ErrorReply(403, "DENIED", f"quota exceeded: at most {self._quota_bytes} bytes")
            self._used_bytes += count

    def held(self, repository: str) -> Held:
        """What is in ``repository``; NAME_UNKNOWN if nothing was ever pushed to it."""
        with self.lock:
            try:
                return self.repositories[repository]
            except KeyError:
                raise ErrorReply(404, "NAME_UNKNOWN", f"no repository {repository}") from None

    def blob(self, repository: str, digest: str) -> Content:
        with self.lock:
            held = self.repositories.get(repository)
            content = self.contents.get(digest)
            if held is None or content is None or digest not in held.blobs:
                raise ErrorReply(404, "BLOB_UNKNOWN", f"no blob {digest} in {repository}")
            return content

    def add_blob(self, repository: str, digest: str, content: Content) -> None:
        with self.lock:
            if self.contents.setdefault(digest, content) is not content:
                content.discard()
                self.charge(-content.size)
            self.repositories.setdefault(repository, Held()).blobs.add(digest)

    def hold_blob(self, repository: str, digest: str, chunks: Iterable[bytes]) -> str:
        """Have a blob, unchecked; returns ``digest``."""
        session = Session(self, repository)
        for chunk in chunks:
            session.write(chunk)
        self.add_blob(repository, digest, session.close())
        return digest

    def link_blob(self, repository: str, digest: str, origin: str) -> bool:
        """Make a blob of ``origin`` a blob of ``repository`` too, if it is one."""
        with self.lock:
            held = self.repositories.get(origin)
            if held is None or digest not in held.blobs or digest not in self.contents:
                return False
            self.repositories.setdefault(repository, Held()).blobs.add(digest)
            return True

    def remove_blob(self, repository: str, digest: str) -> None:
        with self.lock:
            self.blob(repository, digest)
            self.repositories[repository].blobs.discard(digest)
            if not any(digest in held.blobs for held in self.repositories.values()):
                content = self.contents.pop(digest)
                content.discard()
                self.charge(-content.size)

    def manifest(self, repository: str, tag_or_digest: str) -> Manifest:
        with self.lock:
            held = self.held(repository)
            digest = held.tags.get(tag_or_digest, tag_or_digest)
            try:
                return held.manifests[digest]
            except KeyError:
                what = f"no manifest {tag_or_digest} in {repository}"
                raise ErrorReply(404, "MANIFEST_UNKNOWN", what) from None

    def add_manifest(self, repository: str, tag_or_digest: str, manifest: Manifest) -> None:
        with self.lock:
            held = self.repositories.setdefault(repository, Held())
            if manifest.digest not in held.manifests:
                self.charge(manifest.size)
            held.manifests[manifest.digest] = manifest
            if not is_digest(tag_or_digest):
                held.tags[tag_or_digest] = manifest.digest

    def remove_manifest(self, repository: str, tag_or_digest: str) -> None:
        """By tag: the tag alone; by digest: the manifest and every tag on it (distribution-spec 1.1)."""
        with self.lock:
            manifest = self.manifest(repository, tag_or_digest)
            held = self.repositories[repository]
            if held.tags.pop(tag_or_digest, None) is None:
                del held.manifests[manifest.digest]
                self.charge(-manifest.size)
                for tag in [tag for tag, digest in held.tags.items() if digest == manifest.digest]:
                    del held.tags[tag]

    def open_session(self, repository: str) -> Session:
        session = Session(self, repository)
        with self.lock:
            self._sessions[session.id] = session
        return session

    def session(self, repository: str, session_id: str) -> Session:
        with self.lock:
            session = self._sessions.get(session_id)
            if session is None or session.repository != repository:
                raise ErrorReply(404, "BLOB_UPLOAD_UNKNOWN", "no such upload session")
            return session

    def close_session(self, session: Session) -> None:
        with self.lock:
            self._sessions.pop(session.id, None)

    @property
    def sessions(self) -> int:
        """How many upload sessions are open."""
        return len(self._sessions)


class Blobs(MutableMapping[str, bytes]):
    """Every blob of the registry by digest, for tests: assigning other bytes corrupts a blob in place."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getitem__(self, digest: str) -> bytes:
        return self._store.contents[digest].read()

    def __setitem__(self, digest: str, data: bytes) -> None:
        with self._store.lock:
            if digest not in self._store.contents:
                raise KeyError(digest)
            self._store.contents[digest].discard()
            self._store.contents[digest] = Content(len(data), data)

    def __delitem__(self, digest: str) -> None:
        """Lose the content behind every repository's back."""
        with self._store.lock:
            self._store.contents.pop(digest).discard()

    def __iter__(self) -> Iterator[str]:
        with self._store.lock:
            return iter(list(self._store.contents))

    def __len__(self) -> int:
        return len(self._store.contents)
