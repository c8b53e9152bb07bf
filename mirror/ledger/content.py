"""Content that is known to be somewhere: manifests by digest, who holds which blob.

All of it is derived: losing it costs requests, never truth. Every key expires.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import redis

from mirror.ledger import lease_scripts
from mirror.ledger.accounts import RegionBatch, totals_of
from mirror.ledger.batches import KEEP_S
from mirror.ledger.keys import Client, Keys
from mirror.ledger.leases import LONGEST_S, Lease, Leases
from mirror.ledger.place_scripts import LEAVE
from mirror.ledger.totals import counts
from mirror.ledger.values import Placing, placed_rows
from registry.manifest import Manifest

MANIFEST_TTL_S = 6 * 3600
_READING = "manifests"
"""The place of the lease of whoever reads a manifest."""
MOST_KNOWN = 250_000
"""Places of blobs that the fleet remembers, two for each blob of each registry."""
RECENT_BYTES = 2**20
RECENT_MANIFESTS = 256
RECENT_S = 300.0
"""What a process keeps parsed, by whichever is reached first."""
REFERRERS_TTL_S = 7 * 86400
EMPTY_TTL_S = 7 * 86400
SESSION_TTL_S = 86400
"""Registries forget upload sessions themselves, after ten minutes (GHCR) to a week (CNCF distribution)."""
WHOLE_TTL_S = 7 * 86400
"""Registries learn to take pieces with a new version."""


Became = Literal["unknown", "there", "uploaded"]


@dataclass(frozen=True, slots=True)
class Memory:
    """How long it is believed that a blob is where it was seen, in seconds."""

    present_s: int = 300
    """... without another look: content can be deleted behind our back."""
    mount_s: int = 86400
    """... as a place to mount from: a wrong hint costs nothing but a copy."""


@dataclass(frozen=True, slots=True)
class Noted:
    """An upload session that somebody opened: dead if nobody has the blob's lease any more."""

    note: str
    """As the target's Repository spells it."""
    offset: int
    """Bytes that the registry confirmed; 0 if the blob is sent whole."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What is known about one blob in one repository before anybody looks there."""

    is_present: bool
    holder: str | None
    """Where to mount it from."""
    was_here: bool
    """It was seen in this very repository, perhaps long ago."""
    session: Noted | None
    takes_pieces: bool
    """Unless this registry was seen to refuse them."""


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a blob of ``size`` bytes in a target, by the name that the run uses."""

    target: str
    placing: Placing
    size: int


@dataclass(slots=True)
class Hold:
    """The lease of one blob at one registry, with what was known of the blob in one repository there."""

    lease: Lease
    host: str
    repository: str
    sight: Sight
    became: Became = "unknown"
    """What is known of it when the lease is given up."""
    done: Done | None = None
    """What was done about it, where that is counted."""


class _Recent:
    """The manifests that this process used last: a step asks for what the step before it had. Thread-safe."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[Manifest, float]] = {}
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, digest: str) -> Manifest | None:
        """None also after a while: the fleet's cache has to see that the manifest is still of use."""
        manifest, since = self._kept.get(digest, (None, 0.0))
        return manifest if time.monotonic() - since < RECENT_S else None

    def keep(self, manifest: Manifest) -> None:
        """Keep it; the oldest make room."""
        if manifest.size > RECENT_BYTES:
            return
        with self._lock:
            known, _ = self._kept.pop(manifest.digest, (None, 0.0))
            self._kept[manifest.digest] = manifest, time.monotonic()
            self._bytes += 0 if known else manifest.size
            while self._bytes > RECENT_BYTES or len(self._kept) > RECENT_MANIFESTS:
                self._bytes -= self._kept.pop(next(iter(self._kept)))[0].size


class Content:
    """What the fleet knows about content, shared by all its workers."""

    def __init__(self, client: Client, keys: Keys, longest_lease_s: float = LONGEST_S) -> None:
        self._redis = client
        self._keys = keys
        self._whole: set[str] = set()
        self._recent = _Recent()
        self.leases = Leases(client, keys, longest_lease_s)

    def manifest(self, digest: str) -> Manifest | None:
        """A manifest's bytes from the fleet's cache, parsed; those used last are in this process.

        What is read stays: a batch that waits for pulls, window after window, must find those it has made.
        """
        recent = self._recent.get(digest)
        if recent is not None:
            return recent
        value: bytes | None = self._redis.getex(self._keys.manifest(digest), ex=MANIFEST_TTL_S)
        return self._parsed(digest, value) if value is not None else None

    def _parsed(self, digest: str, value: bytes) -> Manifest:
        media_type, _, content = value.partition(b"\n")
        manifest = Manifest.parse(content, media_type.decode(), digest.partition(":")[0])
        self._recent.keep(manifest)
        return manifest

    def begin_reading(self, digest: str) -> Lease | Manifest | None:
        """The right to be the one who reads the manifest at its source; None while another has it.

        Or the manifest, if it has been read meanwhile.
        """
        taken = self.leases.take_all([_READING], digest, [self._keys.manifest(digest)])
        if isinstance(taken, str):
            return None
        (lease,), (value,) = taken
        if value is None:
            return lease
        self.leases.release(lease)
        return self._parsed(digest, value)

    def end_reading(self, lease: Lease, manifest: Manifest) -> None:
        """Keep what was read and give the lease up; where nothing was read, its release is enough."""
        pipe = self._redis.pipeline(transaction=False)
        self.keep_manifests([manifest], on=pipe)
        self.leases.lay_down(lease)
        pipe.eval(lease_scripts.RELEASE, 1, self._keys.lease(lease.place, lease.what), lease.token)
        pipe.execute()

    def keep_manifest(self, manifest: Manifest) -> None:
        self.keep_manifests([manifest])

    def keep_manifests(self, manifests: Sequence[Manifest], on: Client | None = None) -> None:
        """Keep several at once, or together with what else is ``on`` its way."""
        pipe = self._redis.pipeline(transaction=False) if on is None else on
        for manifest in manifests:
            self._recent.keep(manifest)
            value = manifest.media_type.encode() + b"\n" + manifest.content
            pipe.set(self._keys.manifest(manifest.digest), value, ex=MANIFEST_TTL_S)
        if on is None:
            pipe.execute()

    def seen(self, host: str, repository: str, digests: Sequence[str]) -> set[str]:
        """Those of ``digests`` that were seen in ``repository`` lately; ``host`` separates registries."""
        if not digests:
            return set()
        present = self._redis.mget([self._keys.present(host, repository, digest) for digest in digests])
        return {digest for digest, seen in zip(digests, present, strict=True) if seen}

    def sight(self, host: str, repository: str, digest: str) -> Sight:
        """Everything about one blob in one exchange."""
        return self._sight(host, repository, self._redis.mget(self._sight_names(host, repository, digest)))

    def hold(self, digest: str, wanted: Sequence[tuple[str, str, str]]) -> list[Hold] | str:
        """Take the leases of the blob at every place that is ``wanted``, and look at what is known there.

        Wanted are (place, host, repository). The place is returned where another has it: then none is taken.
        """
        asked = [self._sight_names(host, repository, digest) for _, host, repository in wanted]
        taken = self.leases.take_all(
            [place for place, *_ in wanted], digest, [name for names in asked for name in names]
        )
        if isinstance(taken, str):
            return taken
        leases, values = taken
        each = len(asked[0])
        return [
            Hold(lease, host, repository, self._sight(host, repository, values[at * each : (at + 1) * each]))
            for at, (lease, (_, host, repository)) in enumerate(zip(leases, wanted, strict=True))
        ]

    def begin_copy(
        self, source: str, digest: str, hosts: Sequence[str]
    ) -> tuple[Lease, tuple[str, str] | None] | None:
        """The right to be the one who reads the blob at its source; None while another has it.

        With it the first of ``hosts`` where a repository is known to hold the blob, and that repository.
        """
        names = [self._keys.holder(host, digest) for host in hosts]
        taken = self.leases.take_all([f"read {source}"], digest, names)
        if isinstance(taken, str):
            return None
        (lease,), values = taken
        known = ((host, value.decode()) for host, value in zip(hosts, values, strict=False) if value)
        return lease, next(known, None)

    def holder(self, digest: str, hosts: Sequence[str]) -> tuple[str, str] | None:
        """The first of ``hosts`` where a repository is known to hold the blob, and that repository."""
        values = self._redis.mget([self._keys.holder(host, digest) for host in hosts]) if hosts else ()
        known = ((host, value.decode()) for host, value in zip(hosts, values, strict=False) if value)
        return next(known, None)

    def let_go(self, holds: Sequence[Hold], ttl: Memory, counted_for: RegionBatch | None = None) -> None:
        """Give the leases up and remember what was seen, in one exchange; and what it was done for.

        Raises nothing where Redis is away: a lease lapses by itself, and what is forgotten is looked at
        again.
        """
        pipe = self._redis.pipeline(transaction=False)
        for hold in holds:
            lease = hold.lease
            self.leases.lay_down(lease)
            key = self._keys.lease(lease.place, lease.what)
            if hold.became == "unknown" and hold.done is None:
                pipe.eval(lease_scripts.RELEASE, 1, key, lease.token)
                continue
            place = hold.host, hold.repository, lease.what
            self._leave(pipe, place, ttl, hold.became, (key, lease.token), counted_for, hold.done)
        with contextlib.suppress(redis.RedisError):
            pipe.execute()

    def _sight_names(self, host: str, repository: str, digest: str) -> list[str]:
        keys = self._keys
        return [
            keys.present(host, repository, digest),
            keys.holder(host, digest),
            keys.session(host, repository, digest),
            keys.whole(host),
        ]

    def _sight(self, host: str, repository: str, values: Sequence[bytes | None]) -> Sight:
        present, holder, session, whole = values
        elsewhere = holder.decode() if holder and not present else ""
        offset, _, note = session.decode().partition(" ") if session else ("", "", "")
        return Sight(
            is_present=bool(present),
            holder=elsewhere if elsewhere not in {"", repository} else None,
            was_here=bool(present) or elsewhere == repository,
            session=Noted(note, int(offset)) if session else None,
            takes_pieces=not whole and host not in self._whole,
        )

    def note_session(self, host: str, repository: str, digest: str, session: Noted) -> None:
        """Keep a session where whoever brings the blob next will find it; never one that is a secret."""
        self.note_sessions([(host, repository, digest, session)])

    def note_sessions(self, noted: Iterable[tuple[str, str, str, Noted]]) -> None:
        """The same for several, in one exchange, by (host, repository, digest)."""
        pipe = self._redis.pipeline(transaction=False)
        for *place, session in noted:
            pipe.set(self._keys.session(*place), f"{session.offset} {session.note}", ex=SESSION_TTL_S)
        pipe.execute()

    def drop_session(self, host: str, repository: str, digest: str) -> None:
        self._redis.delete(self._keys.session(host, repository, digest))

    def note_whole(self, host: str) -> None:
        """A registry was seen to refuse pieces: blobs are sent whole from now on."""
        self._whole.add(host)
        self._redis.set(self._keys.whole(host), "1", ex=WHOLE_TTL_S)

    def saw(
        self,
        host: str,
        repository: str,
        digest: str,
        ttl: Memory,
        became: Became = "there",
        counted_for: RegionBatch | None = None,
        done: Done | None = None,
    ) -> None:
        """As :meth:`let_go` where there is no lease: another repository of a registry whose turn it was."""
        nobodys = self._keys.lease(host, digest), ""
        self._leave(self._redis, (host, repository, digest), ttl, became, nobodys, counted_for, done)

    def saw_manifests(self, seen: Iterable[tuple[str, str, str]], ttl: Memory, on: Client) -> None:
        """Remember manifests, by (host, repository, digest), together with what else is ``on`` its way.

        Not as something to mount: only blobs are.
        """
        for one in seen:
            on.set(self._keys.present(*one), "1", ex=ttl.present_s)

    def _leave(
        self,
        on: Client,
        place: tuple[str, str, str],
        ttl: Memory,
        became: Became,
        lease: tuple[str, str],
        counted_for: RegionBatch | None,
        done: Done | None,
    ) -> None:
        (host, repository, digest), (lease_key, token), keys = place, lease, self._keys
        names = [keys.present(*place), keys.holder(host, digest), keys.known, keys.session(*place), lease_key]
        words: list[str | int] = [token, became, repository, ttl.present_s, ttl.mount_s]
        words += [keys.root, MOST_KNOWN]
        if counted_for and done:
            ((item, row),) = placed_rows({(digest, done.target): done.placing}).items()
            told = counts(totals_of(counted_for.region, host, done.placing, done.size))
            batch, region = counted_for.batch, counted_for.region
            names += [keys.batch(batch), keys.placed(batch, region), keys.totals]
            words += [item, done.placing.how, row, KEEP_S, told]
        on.eval(LEAVE, len(names), *names, *words)

    def forget(self, host: str, repository: str, digests: Iterable[str]) -> None:
        """The registry denies having them: no longer believe what was remembered."""
        if names := [
            name
            for digest in digests
            for name in (self._keys.present(host, repository, digest), self._keys.holder(host, digest))
        ]:
            self._redis.delete(*names)

    def was_empty(self, run: str, repository: str) -> bool | None:
        """Whether the repository held nothing when the run first came to it; None: nobody has looked."""
        value: bytes | None = self._redis.hget(self._keys.empty(run), repository)
        return None if value is None else value == b"1"

    def note_empty(self, run: str, repository: str, *, is_empty: bool) -> bool:
        """Keep what was found for all of the run; the first answer stays, and is returned."""
        key, pipe = self._keys.empty(run), self._redis.pipeline(transaction=False)
        pipe.hsetnx(key, repository, int(is_empty)).expire(key, EMPTY_TTL_S).hget(key, repository)
        return bool(pipe.execute()[-1] == b"1")

    def note_referrers(self, host: str) -> None:
        """Referrers were seen at a registry."""
        self._redis.set(self._keys.referrers_api(host), "1", ex=REFERRERS_TTL_S)
