"""A ledger to rehearse on: what is written stays apart and is gone afterwards, what is known is known.

It lies beside the fleet's ledger, on the same server, under a prefix of its own. What the engine asks about
content (what was seen where, who has claimed a tag) is answered by both together; manifests that are read
go into the fleet's cache, so that the run does not read them again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mirror.ledger import Ledger
from mirror.ledger.batches import BEFORE_FLIP, Batches, Outcome, OutcomeState
from mirror.ledger.conflicts import Conflict, Conflicts, Known
from mirror.ledger.content import Content, Hold, Sight
from mirror.ledger.gone import Gone
from mirror.ledger.keeps import Keeps
from mirror.ledger.keys import Client, Keys
from mirror.ledger.lasting import Lasting
from mirror.ledger.leases import Lease
from mirror.ledger.pins import Pins
from mirror.ledger.proofs import Proofs
from mirror.ledger.questions import Question
from mirror.ledger.remembered import Remembered
from mirror.ledger.sources import Listed, Sources
from mirror.ledger.terms import Terms
from mirror.ledger.turns import Turns
from mirror.ledger.values import Outcomes, Resolved
from mirror.report import TagReport
from mirror.spec import MirrorSpec
from registry.manifest import Manifest

LONGEST_S = 86400
"""After so long what a rehearsal that was killed has left is gone."""
PORTION = 1000


class Scratch:
    """Room for the ledgers of one plan, beside ``known`` on its server and below ``prefix``."""

    def __init__(self, client: Client, prefix: str, known: Ledger) -> None:
        self._redis, self._prefix, self._known = client, prefix, known
        self._made = 0

    def ledger(self, kept: Callable[[], None] = lambda: None) -> RehearsalLedger:
        """A new one; ``kept`` as it has it."""
        self._made += 1
        return RehearsalLedger(self._redis, f"{self._prefix}{self._made}:", self._known, kept)

    def erase(self) -> None:
        """Leave nothing of any of them on the server."""
        names: list[bytes] = []
        for name in self._redis.scan_iter(match=f"{_literal(self._prefix)}*", count=PORTION):
            names.append(name)
            if len(names) == PORTION:
                self._redis.unlink(*names)
                names = []
        if names:
            self._redis.unlink(*names)


class RehearsalLedger(Ledger):
    """One rehearsal's own ledger, below the ``prefix`` of its fleet and beside ``known``."""

    def __init__(
        self, client: Client, prefix: str, known: Ledger, kept: Callable[[], None] = lambda: None
    ) -> None:
        """``kept`` is told, in the thread that read it, of each manifest that went into the fleet's cache."""
        super().__init__(client, prefix)
        self._prefix, self._known_ledger = prefix, known
        self._listing: Ledger = known
        self.fixed, self.probes = known.fixed, known.probes
        self.gone = _RehearsedGone(client, self.keys, known.history)
        self.content = RehearsedContent(client, self.keys, known.content, kept)
        self.batches = _RehearsedBatches(client, self.keys, known.batches)
        self.proofs = _RehearsedProofs(client, self.keys, known.proofs)
        self.conflicts = _RehearsedConflicts(client, self.keys, known.conflicts)
        self.sources = self._sources = _RehearsedSources(client, self.keys, known.sources)
        self.keeps = _RehearsedKeeps(client, known.keys)
        self.turns = Turns(client, self.keys, self.content.leases)
        self._begin_for_a_time()

    def _begin_for_a_time(self) -> None:
        """What a fleet keeps for good has an end here: a key that is written to keeps the one it has."""
        keys, pipe = self.keys, self._redis.pipeline(transaction=False)
        pipe.set(keys.generation, 0, ex=LONGEST_S)
        pipe.zadd(keys.runs, {"": 0}).expire(keys.runs, LONGEST_S)
        for counted in (keys.totals, keys.samples):
            pipe.hset(counted, "", 0).expire(counted, LONGEST_S)
        for waiting in (keys.open, keys.parked):
            pipe.zadd(waiting, {"": 0}).expire(waiting, LONGEST_S)
        pipe.execute()

    def take_up(self, listing: Ledger, run: str) -> None:
        """Have a run of the same id, with the same terms and no batch; it was listed in ``listing``."""
        self._listing, self._sources.listing = listing, listing.sources
        row = listing._redis.hgetall(listing.keys.run(run))  # noqa: SLF001 - another Ledger
        own = {**row, b"state": b"open", b"listed": b"0"}
        self._redis.hset(self.keys.run(run), mapping=own)
        self._redis.expire(self.keys.run(run), LONGEST_S)
        for counted in (self.keys.progress(run), self.keys.failures(run)):
            self._redis.hset(counted, "", 0)
            self._redis.expire(counted, LONGEST_S)

    def borrow(self, batch: str) -> None:
        """Have a copy of a batch that waits in the listing's ledger, opened."""
        row = self._listing._redis.hgetall(self._listing.keys.batch(batch))  # noqa: SLF001 - another Ledger
        key = self.keys.batch(batch)
        self._redis.hset(key, mapping={**row, b"state": b"resolving"})
        self._redis.expire(key, LONGEST_S)

    def give_back(self, batch: str) -> None:
        """Forget the copy."""
        keys = self.keys
        self._redis.unlink(
            *(key(batch) for key in (keys.batch, keys.ended, keys.tags, keys.outcomes, keys.associates))
        )

    def note_withheld(self, host: str, digest: str) -> None:
        """A manifest that the run would read and the rehearsal has not."""
        self._redis.sadd(self._withheld(host), digest)
        self._redis.expire(self._withheld(host), LONGEST_S)

    def withheld(self, host: str) -> int:
        """How many manifests those are, each once."""
        return int(self._redis.scard(self._withheld(host)))

    def _withheld(self, host: str) -> str:
        return f"{self._prefix}withheld:{host}"

    # -- what the fleet's ledger knows as well ------------------------------------------------------

    def begin_question(self, targets: Sequence[str], tags: Sequence[str], pinned_of: str = "") -> Question:
        generation, now, new, _ = super().begin_question(targets, tags)
        unclaimed = self._known_ledger.batches.unclaimed(targets, new)
        return generation, now, unclaimed, self._known_ledger.pins.of(pinned_of, tags)

    def confirm(self, on: Client | None = None) -> list[Any]:
        """Nothing here is promised to anybody."""
        return [] if on is None else list(on.execute())


class RehearsedContent(Content):
    """What both ledgers know about content; leases are the rehearsal's own."""

    def __init__(self, client: Client, keys: Keys, known: Content, kept: Callable[[], None]) -> None:
        super().__init__(client, keys)
        self._known, self._kept = known, kept

    def manifest(self, digest: str) -> Manifest | None:
        return self._known.manifest(digest)

    def begin_reading(self, digest: str) -> Lease | Manifest | None:
        taken = super().begin_reading(digest)
        found = self.manifest(digest) if isinstance(taken, Lease) else None
        if found is None or not isinstance(taken, Lease):
            return taken
        self.leases.release(taken)
        return found

    def end_reading(self, lease: Lease, manifest: Manifest) -> None:
        self._known.keep_manifest(manifest)
        self.leases.release(lease)
        self._kept()

    def keep_manifests(self, manifests: Sequence[Manifest], on: Client | None = None) -> None:  # noqa: ARG002 - another server may be meant
        self._known.keep_manifests(manifests)

    def begin_copy(
        self, source: str, digest: str, hosts: Sequence[str]
    ) -> tuple[Lease, tuple[str, str] | None] | None:
        begun = super().begin_copy(source, digest, hosts)
        if begun is None:
            return None
        places = [place for place in (begun[1], self._known.holder(digest, hosts)) if place]
        return begun[0], min(places, key=lambda place: hosts.index(place[0]), default=None)

    def seen(self, host: str, repository: str, digests: Sequence[str]) -> set[str]:
        return super().seen(host, repository, digests) | self._known.seen(host, repository, digests)

    def sight(self, host: str, repository: str, digest: str) -> Sight:
        own = super().sight(host, repository, digest)
        return _together(own, self._known.sight(host, repository, digest), repository)

    def hold(self, digest: str, wanted: Sequence[tuple[str, str, str]]) -> list[Hold] | str:
        held = super().hold(digest, wanted)
        for one in held if isinstance(held, list) else ():
            known = self._known.sight(one.host, one.repository, digest)
            one.sight = _together(one.sight, known, one.repository)
        return held


class _RehearsedSources(Sources):
    """What another ledger's listing has shown."""

    def __init__(self, client: Client, keys: Keys, known: Sources) -> None:
        super().__init__(client, keys)
        self.listing = self._known = known

    def digest_tags(self, run: str, repository: str, names: Sequence[str]) -> Listed:
        own, known = super().digest_tags(run, repository, names), self._known.digest_tags(run, repository, ())
        tags = self.listing.digest_tags(run, repository, names).tags if own.tags is None else own.tags
        return Listed(tags, own.has_referrers or known.has_referrers)


class _RehearsedProofs(Proofs):
    def __init__(self, client: Client, keys: Keys, known: Proofs) -> None:
        super().__init__(client, keys)
        self._known = known

    def known(self, repository: str, wanted: Mapping[str, str], since: float) -> set[str]:
        return super().known(repository, wanted, since) | self._known.known(repository, wanted, since)


class _RehearsedKeeps(Keeps):
    """What the fleet keeps; a rehearsal adds nothing."""

    def take(
        self,
        repository: str,  # noqa: ARG002 - as Keeps has it
        tag: str,  # noqa: ARG002
        wanted: str,  # noqa: ARG002
        most: int,  # noqa: ARG002
        manifests: Sequence[Manifest],  # noqa: ARG002
    ) -> int:
        return 0


class _RehearsedGone(Gone):
    """Deletions on a side are followed, as far as is known before all sides were listed."""

    def is_wanted(self, run: str, spec: MirrorSpec) -> bool:  # noqa: ARG002 - as Gone has it
        return True


class _RehearsedConflicts(Conflicts):
    """What the sides have really agreed on."""

    def __init__(self, client: Client, keys: Keys, known: Conflicts) -> None:
        super().__init__(client, keys)
        self._known = known

    def known(self, spec: MirrorSpec, tags: Sequence[str]) -> dict[str, Known]:
        return self._known.known(spec, tags)

    def agreed_tags(self, mirror: str) -> Iterator[str]:
        return self._known.agreed_tags(mirror)

    def open(self, mirror: str) -> Iterator[Conflict]:
        return self._known.open(mirror)


class _NothingRemembered(Remembered):
    """Nothing that was only rehearsed is kept for good."""

    def of(
        self,
        run: str,  # noqa: ARG002 - as Remembered has it
        resolved: Sequence[Resolved],  # noqa: ARG002
        outcomes: Outcomes,  # noqa: ARG002
        spec: MirrorSpec,  # noqa: ARG002
    ) -> list[Lasting]:
        return []

    def lagging(self, reports: Sequence[TagReport], spec: MirrorSpec) -> list[str | int]:  # noqa: ARG002
        return ["", "", 0]


class _RehearsedBatches(Batches):
    def __init__(self, client: Client, keys: Keys, known: Batches) -> None:
        super().__init__(client, keys, _NothingRemembered(keys, Pins(client, keys), Terms(client, keys), 0))
        self._known = known

    def record(
        self,
        batch: str,
        outcomes: Mapping[tuple[str, str], Outcome],
        over: Sequence[OutcomeState] = BEFORE_FLIP,
        *,
        on: Client | None = None,
    ) -> None:
        """What a fleet drops when the batch is concluded has an end here as well."""
        super().record(batch, outcomes, over, on=on)
        (self._redis if on is None else on).expire(self._keys.outcomes(batch), LONGEST_S)

    def has_claims(self, repository: str) -> bool:
        return super().has_claims(repository) or self._known.has_claims(repository)


def _together(own: Sight, known: Sight, repository: str) -> Sight:
    """The rehearsal's own word is the later one. Sessions that workers have left are not taken up here."""
    last = own if own.holder or own.was_here else known
    is_present = own.is_present or known.is_present
    return replace(
        last,
        is_present=is_present,
        holder=None if is_present or last.holder == repository else last.holder,
        was_here=is_present or last.was_here,
        session=None,
        takes_pieces=own.takes_pieces and known.takes_pieces,
    )


def _literal(text: str) -> str:
    """As a pattern of SCAN that means itself."""
    return "".join(f"\\{mark}" if mark in "*?[]\\" else mark for mark in text)
