"""Blobs that a registry of the mirror holds already are read there, where that is better than at the source.

Of sources that limit what they give (G7): whoever misses a blob first reads it at the source, alone in the
whole fleet; everybody else waits for that copy and reads it from there, the nearest first. Of others: where
a registry that is nearer than the source is known to hold it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from mirror.ledger.content import Content
from mirror.reading import Readable
from mirror.several import Failures, Several
from registry.descriptor import Descriptor
from registry.errors import NotFound, RegistryError
from registry.repository import Repository, Source

SHUNNED_S = 300.0
"""A registry that cannot be read from here (another region's, no rights) is left out for so long."""


@dataclass(frozen=True, slots=True)
class Shunned:
    """Hosts that this process cannot read from. Thread-safe."""

    _until: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, host: str) -> None:
        with self._lock:
            self._until[host] = time.monotonic() + SHUNNED_S

    def __contains__(self, host: str) -> bool:
        with self._lock:
            return self._until.get(host, 0.0) > time.monotonic()


class Served(Several):
    """A blob at a sibling for as long as that serves it, then at the source."""

    def __init__(self, sibling: Repository, source: Source, failed: Callable[[RegistryError], None]) -> None:
        """``failed`` is told why the sibling was given up."""
        super().__init__()
        self._sibling, self._source, self._told = sibling, source, failed
        self._is_given_up = False

    @property
    def name(self) -> str:
        return self._now.name

    @property
    def host(self) -> str:
        return self._now.host

    @property
    def _now(self) -> Source:
        return self._in_order()[0]

    def _in_order(self) -> Sequence[Source]:
        return [self._source] if self._is_given_up else [self._sibling, self._source]

    def _failed(self, place: Source, error: RegistryError) -> bool:
        if place is self._source:
            raise error
        self._is_given_up = True
        self._told(error)
        return True

    def _worst(self, failures: Failures) -> RegistryError:
        return failures[self._source.name]


@dataclass(frozen=True, slots=True)
class Siblings:
    """The registries of one mirror, as one region sees them."""

    content: Content
    open_repository: Callable[[str], Repository]
    hosts: tuple[str, ...]
    """The nearest first."""
    shunned: Shunned
    once: bool = True
    """Whether the source is read once in the fleet; otherwise nobody waits for anybody."""

    @contextmanager
    def reading(self, blob: Descriptor, source: Source) -> Iterator[Readable | None]:
        """Where the blob is to be read; None while another worker of the fleet reads it at the source."""
        hosts = [host for host in self.hosts if host not in self.shunned]
        if not self.once:
            known = self.content.holder(blob.digest, hosts)
            yield self._served(known, blob, source) if known else source
            return
        begun = self.content.begin_copy(source.host, blob.digest, hosts)
        if begun is None:
            yield None
            return
        lease, holder = begun
        try:
            if holder is None:
                yield source
                return
        finally:
            self.content.leases.release(lease)
        yield self._served(holder, blob, source)

    def _served(self, holder: tuple[str, str], blob: Descriptor, source: Source) -> Served:
        host, repository = holder

        def failed(error: RegistryError) -> None:
            self.content.forget(host, repository, [blob.digest])
            if not isinstance(error, NotFound):
                self.shunned.add(host)

        return Served(self.open_repository(f"{host}/{repository}"), source, failed)
