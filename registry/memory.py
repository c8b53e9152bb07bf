"""An in-memory OCI registry for trials and tests: spec-true, thread per connection, nothing kept.

Clients that push to real registries push to this one (``skopeo copy`` is a test of it). It is not for
production: there is no TLS, no token server and no storage.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple, Self

from registry.descriptor import Descriptor, digest_of
from registry.images import Image, Index
from registry.manifest import Manifest
from registry.memory_api import Api, Deletes, Terms, kind_of
from registry.memory_limits import PullLimits
from registry.memory_store import Blobs, ErrorReply, Store
from registry.memory_wire import Cut, Server

__all__ = ["Cut", "ErrorReply", "Logged", "MemoryRegistry", "Pause", "PullLimits"]

SPOOL_BYTES = 8 * 2**20
REMEMBERED_REQUESTS = 100_000
_POLL_S = 0.02

Hook = Callable[[str, str], None]
"""Called with method and path (with query) before a request is served: it may wait, or raise."""


class Logged(NamedTuple):
    """One request that came, whatever was answered; ``path`` with its query."""

    method: str
    path: str

    @property
    def kind(self) -> str:
        """``manifest``, ``blob``, ``uploads`` (opens a session), ``upload`` (a session), ``tags`` ..."""
        return kind_of(self.path)


@dataclass(frozen=True, slots=True)
class Pause:
    """Requests held back by :meth:`MemoryRegistry.pause`."""

    predicate: Callable[[str, str], bool]
    reached: threading.Event = field(default_factory=threading.Event)
    """Set once the first request is held."""
    released: threading.Event = field(default_factory=threading.Event)

    def release(self) -> None:
        self.released.set()


class MemoryRegistry:
    """A registry at ``host``, in a ``with`` block or by :meth:`serve_forever`.

    Its content outlives :meth:`stop`, so that :meth:`start` brings the same registry back at the same port.
    """

    def __init__(
        self,
        port: int = 0,
        host: str = "127.0.0.1",
        *,
        referrers: bool = True,
        sparse_index: bool = True,
        immutable_tags: bool = False,
        deletes: Deletes = True,
        mounts: bool = True,
        quota_bytes: int | None = None,
        page_size: int = 1000,
        username: str | None = None,
        password: str = "",
        spool_bytes: int = SPOOL_BYTES,
        on_request: Hook | None = None,
        others: Mapping[str, str] | None = None,
        pulls: PullLimits | None = None,
    ) -> None:
        """Say how this registry differs from others.

        ``port`` 0 takes a free one. ``referrers`` False: no referrers API (404) and no OCI-Subject, so
        clients fall back to the tag schema. ``sparse_index`` True, as most registries: an index whose
        children are missing is taken; False: MANIFEST_BLOB_UNKNOWN, as docker-registry answers.
        ``immutable_tags``: a tag once set never moves (TAG_INVALID). ``deletes`` False: 405;
        ``"digests"``: none by tag, as docker-registry 2 answers (400).
        ``mounts`` False: mounts open a session instead. ``quota_bytes``: for all content together; DENIED
        beyond it. ``page_size``: most names a list returns at once. ``username``: Basic authentication
        for every request; ``others``: passwords of further accounts by user name. ``spool_bytes``: larger
        blobs go to a temporary file. ``pulls``: how many manifests may be read, as Docker Hub limits them.
        """
        terms = Terms(
            referrers,
            sparse_index,
            immutable_tags,
            deletes,
            mounts,
            page_size,
            username,
            password,
            others or {},
            pulls,
        )
        self.on_request = on_request
        self._store = Store(spool_bytes, quota_bytes)
        self._api = Api(self._store, terms)
        self._address = (host, port)
        self._server: Server | None = None
        self._thread: threading.Thread | None = None
        self._serving = False
        self._pauses: list[Pause] = []
        self._requests: deque[Logged] = deque(maxlen=REMEMBERED_REQUESTS)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def host(self) -> str:
        """``name:port``, as references write it; known once started."""
        name, port = self._address
        return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"

    def start(self) -> None:
        """Bind and serve in a thread of its own."""
        server = self._bind()
        self._serving = True
        self._thread = threading.Thread(
            target=server.serve_forever, args=(_POLL_S,), name=f"registry {self.host}", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Close the port and cut every connection; the content stays."""
        for pause in list(self._pauses):
            pause.release()
        server, self._server = self._server, None
        if server is None:
            return
        if self._serving:
            server.shutdown()
            self._serving = False
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        server.server_close()
        server.cut_all()

    def close(self) -> None:
        """Stop, and remove temporary files; what was small enough for memory can still be looked at."""
        self.stop()
        self._store.close()

    def serve_forever(self) -> None:
        """Serve in this thread until interrupted or stopped, then close."""
        server = self._server or self._bind()
        self._serving = True
        try:
            server.serve_forever(_POLL_S)
        finally:
            self.close()

    def bind(self) -> Self:
        """Take the port, so that :attr:`host` is known before :meth:`serve_forever`. Raises OSError."""
        if self._server is None:
            self._bind()
        return self

    def manifests(self, repository: str) -> dict[str, Manifest]:
        """By digest; empty for a repository nobody pushed to."""
        with self._store.lock:
            held = self._store.repositories.get(repository)
            return dict(held.manifests) if held else {}

    def tags(self, repository: str) -> dict[str, str]:
        """Digest by tag; empty for a repository nobody pushed to."""
        with self._store.lock:
            held = self._store.repositories.get(repository)
            return dict(held.tags) if held else {}

    def tag(self, repository: str, tag: str) -> str | None:
        """The digest ``tag`` is at, if it is there."""
        return self.tags(repository).get(tag)

    @property
    def repositories(self) -> list[str]:
        with self._store.lock:
            return sorted(self._store.repositories)

    @property
    def blobs(self) -> Blobs:
        """Every blob's bytes by digest; assigning corrupts one, deleting loses one."""
        return Blobs(self._store)

    def holds_blob(self, repository: str, digest: str) -> bool:
        with self._store.lock:
            held = self._store.repositories.get(repository)
            return held is not None and digest in held.blobs and digest in self._store.contents

    def hold(self, repository: str, content: Image | Index, tag: str | None = None) -> Descriptor:
        """Have an image, an artifact or an index with everything below it, without a request."""
        if isinstance(content, Index):
            for child in content.children:
                self.hold(repository, child)
        else:
            for blob in content.blobs:
                self._store.hold_blob(repository, blob.descriptor.digest, blob.open())
        manifest = content.manifest
        self._store.add_manifest(repository, tag or manifest.digest, manifest)
        return manifest.descriptor

    def hold_blob(self, repository: str, data: bytes) -> str:
        """Have a blob without a request; returns its digest."""
        return self._store.hold_blob(repository, digest_of(data), (data,))

    def plant(self, repository: str, tag_or_digest: str, manifest: Manifest) -> None:
        """Hold any manifest, checked by nobody and without a request: a hostile or a broken one."""
        self._store.add_manifest(repository, tag_or_digest, manifest)

    def untag(self, repository: str, tag: str) -> None:
        """Lose a tag, without a request; what it named stays."""
        with self._store.lock:
            self._store.repositories[repository].tags.pop(tag, None)

    @property
    def open_sessions(self) -> int:
        """Upload sessions that were neither finished nor cancelled."""
        return self._store.sessions

    @property
    def requests(self) -> list[Logged]:
        """The requests so far, oldest first (the last REMEMBERED_REQUESTS of them)."""
        return list(self._requests)

    def forget_requests(self) -> None:
        self._requests.clear()

    def count(self, kind: str, method: str | None = None) -> int:
        """How many requests of a kind (see :attr:`Logged.kind`) came."""
        return sum(one.kind == kind and method in {None, one.method} for one in self.requests)

    @contextmanager
    def pause(self, predicate: Callable[[str, str], bool]) -> Iterator[Pause]:
        """Hold back every request that ``predicate(method, path)`` names, until released or left."""
        pause = Pause(predicate)
        self._pauses.append(pause)
        try:
            yield pause
        finally:
            self._pauses.remove(pause)
            pause.release()

    def _bind(self) -> Server:
        if self._server is not None:
            raise RuntimeError(f"{self.host} is already being served")
        self._server = Server(self._address, self._admit, self._api.serve)
        self._address = (self._address[0], self._server.server_address[1])
        return self._server

    def _admit(self, method: str, path: str) -> None:
        """Log a request, then let pauses and the hook have it; they may raise ErrorReply or Cut."""
        self._requests.append(Logged(method, path))
        for pause in list(self._pauses):
            if pause.predicate(method, path):
                pause.reached.set()
                pause.released.wait()
        if self.on_request is not None:
            self.on_request(method, path)
