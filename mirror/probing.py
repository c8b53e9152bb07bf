"""Probe: how a region reaches one registry, within its budgets, and without a pull where pulls count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from mirror.engine import Engine
from mirror.graph import MAX_DEPTH, is_foreign
from mirror.ledger.probes import Measurement
from mirror.places import counts
from registry.descriptor import Descriptor, Platform
from registry.errors import Denied, Misconfigured, RegistryError, Throttled, Transient, Unauthorized
from registry.exchange import Registry
from registry.manifest import Manifest
from registry.repository import Source
from registry.timing import Stopwatch

_UNKNOWN = Platform("unknown", "unknown")


class Registries(Protocol):
    """The way to one, as :class:`registry.connections.Connections` has it."""

    def registry(self, host: str, /) -> Registry: ...


@dataclass(frozen=True, slots=True)
class Subject:
    """What a registry is asked about; empty: nothing that it holds is known."""

    repository: str = ""
    """``host/repository``."""
    root: Descriptor | None = None
    """An image there."""
    platforms: tuple[str, ...] = ()
    """Those that the mirror copies; empty: all."""


def probe(
    engine: Engine,
    registries: Registries,
    region: str,
    host: str,
    subject: Subject,
    most_bytes: int,
    *,
    pulls: bool = False,
) -> Measurement:
    """Measure, once: nothing is tried again.

    A layer is read where that costs no pull, or ``pulls`` allows it, ``most_bytes`` of it. ``engine`` is
    asked for manifests, and what it opens is asked on the probe's own terms.

    Raises:
        Throttled: the registry is to be left alone; that is no outage, and nothing was measured.
        Misconfigured: our own terms for it are wrong, which says nothing about the registry.
    """
    watch = Stopwatch(registries.registry(host), subject.repository.partition("/")[2])
    one = Measurement(region, host, engine.ledger.now(), up=True, repository=subject.repository)
    try:
        watch.greet()
        one = _and_content(engine, watch, one, subject, most_bytes, pulls=pulls)
    except Throttled as error:
        if watch.hello_s is None:
            raise
        one = replace(one, error=str(error))
    except Misconfigured:
        raise
    except RegistryError as error:
        one = replace(one, up=_is_up(watch, error), error=str(error))
    return replace(
        one,
        hello_s=watch.hello_s,
        token_s=watch.token_s,
        head_s=watch.head_s,
        first_byte_s=watch.first_byte_s,
        bytes_per_second=watch.bytes_per_second,
    )


def _and_content(
    engine: Engine, watch: Stopwatch, one: Measurement, subject: Subject, most_bytes: int, *, pulls: bool
) -> Measurement:
    if subject.root is None:
        return one
    watch.head(subject.root.digest)
    if counts(engine, one.host) and not pulls:
        return replace(one, error="no layer was read: the registry counts pulls")
    layer = _layer(engine, subject, most_bytes)
    if layer is None:
        return replace(one, error="no layer was read: the image has none")
    watch.read(layer, most_bytes)
    return one


def _is_up(watch: Stopwatch, error: RegistryError) -> bool:
    """Whether the registry is there all the same, and only refuses what was asked, or an account."""
    if isinstance(error, Transient) or watch.hello_s is None:
        return False
    return watch.is_let_in or isinstance(error, Unauthorized | Denied)


def _layer(engine: Engine, subject: Subject, most_bytes: int) -> Descriptor | None:
    """The first one that is large enough, else the largest."""
    source, root = engine.open_repository(subject.repository, gives_way=True), subject.root
    for _ in range(MAX_DEPTH + 1):
        if root is None:
            return None
        manifest = _manifest(engine, source, root.digest)
        if not manifest.is_index:
            return _large([one for one in manifest.blobs if not is_foreign(one)], most_bytes)
        root = _child(manifest.children, subject.platforms)
    return None


def _manifest(engine: Engine, source: Source, digest: str) -> Manifest:
    """As the fleet knows it, else read here and now.

    Not in turn with the runs that need it: a registry that is slow to answer a probe must not hold them up,
    and what they wait out at theirs is nothing to wait for here.
    """
    content = engine.ledger.content
    known = content.manifest(digest)
    if known is None:
        known = source.manifest(digest)
        content.keep_manifest(known)
    return known


def _child(children: Sequence[Descriptor], platforms: tuple[str, ...]) -> Descriptor | None:
    """An image that the mirror copies."""
    wanted = [Platform.parse(text) for text in platforms]
    images = [one for one in children if one.is_manifest and one.platform != _UNKNOWN]
    of_platform = (
        one
        for one in images
        if one.platform and (not wanted or any(wish.covers(one.platform) for wish in wanted))
    )
    return next(of_platform, None) or next((one for one in images if one.platform is None), None)


def _large(blobs: list[Descriptor], enough: int) -> Descriptor | None:
    large = next((one for one in blobs if one.size >= enough), None)
    return large or max(blobs, key=lambda one: one.size, default=None)
