"""How long one registry takes to answer: to a greeting, with a token, for a manifest, for a blob's bytes.

Each step is one exchange, on its own connection's terms, and tells its time; errors as ever.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import httpx

from registry.answers import wire_errors
from registry.descriptor import Descriptor
from registry.exchange import Call, Registry
from registry.manifest import ACCEPT
from registry.reference import check_repository
from registry.urls import at

LONGEST_READ_S = 15.0
"""What has not come by then says enough about the speed."""
AT_ONCE = 64 * 1024
"""So much is waited for before the time is looked at."""
LEAST_BYTES = 128 * 1024
"""Of fewer bytes no speed can be told: they come in the first packets."""


class Stopwatch:
    """One registry and, where a repository is known, its manifests and blobs.

    What was measured stays, in seconds, whatever the next step runs into; None: it was not.
    """

    def __init__(
        self, registry: Registry, repository: str = "", clock: Callable[[], float] = time.monotonic
    ) -> None:
        """``repository``: its path without the host; empty: the registry alone is asked."""
        if repository:
            check_repository(repository, f"{registry.host}/{repository}", registry.host)
        self._registry, self._repository, self._clock = registry, repository, clock
        self._pull = (f"repository:{repository}:pull",) if repository else ()
        self.is_let_in = False
        """Whether the greeting was answered and the token, if one is wanted, issued."""
        self.hello_s: float | None = None
        self.token_s: float | None = None
        self.head_s: float | None = None
        self.first_byte_s: float | None = None
        self.bytes_per_second: float | None = None

    def greet(self) -> None:
        """``GET /v2/``, and the token that it asks for, if it asks for one."""
        began = self._clock()
        with self._registry.greeting() as response:
            self.hello_s = self._clock() - began
            if response.status_code == 401:
                began = self._clock()
                if self._registry.authenticate(response, self._pull):
                    self.token_s = self._clock() - began
        self.is_let_in = True

    def head(self, digest: str) -> None:
        """The manifest, by HEAD and never by GET."""
        call = Call(
            "HEAD",
            "manifest",
            self._url(f"manifests/{digest}"),
            f"{self._repository}@{digest}",
            self._pull,
            (("Accept", ACCEPT),),
            follows=True,
        )
        began = self._clock()
        with self._registry.exchange(call):
            self.head_s = self._clock() - began

    def read(self, blob: Descriptor, most_bytes: int) -> None:
        """When the answer with the blob begins, and how fast its bytes come, if they are enough to say so.

        At most ``most_bytes``, for LONGEST_READ_S; what comes beyond is not waited for.
        """
        wanted = min(most_bytes, blob.size)
        call = Call(
            "GET",
            "blob",
            self._url(f"blobs/{blob.digest}"),
            f"{self._repository}@{blob.digest}",
            self._pull,
            (("Range", f"bytes=0-{wanted - 1}"),) if 0 < wanted < blob.size else (),
            accepted=frozenset({200, 206}),
            follows=True,
            views=True,
            block=AT_ONCE,
        )
        began = self._clock()
        with self._registry.exchange(call) as response, wire_errors(self._registry.host, call.what):
            self.first_byte_s = self._clock() - began
            self.bytes_per_second = self._speed(_blocks(response), wanted)

    def _speed(self, blocks: Iterator[bytes], wanted: int) -> float | None:
        began, got = self._clock(), 0
        while got < wanted and self._clock() - began < LONGEST_READ_S:
            block = next(blocks, b"")
            if not len(block):
                break
            got += len(block)
        seconds = self._clock() - began
        return got / seconds if got >= LEAST_BYTES and seconds > 0 else None

    def _url(self, path: str) -> httpx.URL:
        return at(self._registry.base, f"/v2/{self._repository}/{path}")


def _blocks(response: httpx.Response) -> Iterator[bytes]:
    stream = response.stream
    assert isinstance(stream, httpx.SyncByteStream)  # noqa: S101 - a type that httpx.Response cannot express
    yield from stream
