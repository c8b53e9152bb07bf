"""Two-way mirrors: what the sides last agreed on for each tag, and where they did not.

What was agreed is the base of the next merge and is kept for good. Losing it is safe: the next run is then
a first meeting, which overwrites nothing.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from mirror.ledger.deleted import Deleted, Missed
from mirror.ledger.digests import full, short
from mirror.ledger.keys import Client, Keys
from mirror.ledger.lasting import KEEP, Lasting, rows
from mirror.ledger.newer import own_fields
from mirror.ledger.scripts import NOW
from mirror.ledger.values import DELETED, GONE, HELD, AsRead, Merged, Outcome, Outcomes, Resolved
from mirror.report import THERE
from mirror.spec import MirrorSpec

SETTLED_KEPT = 10
"""Of each tag, how many conflicts that are over stay on record."""
PAGE = 500
_SIDES = "\n"
"""How the fields that name sides begin: no tag does."""
_WRITE = f"{NOW}{KEEP}keep(ARGV[1])\nreturn 1"


@dataclass(frozen=True, slots=True)
class Known:
    """What the ledger knows of a tag before it is looked at."""

    base: str | None = None
    """The digest that the sides had when all had the same."""
    met: frozenset[str] = frozenset()
    """Which sides those were."""
    conflict: Conflict | None = None
    """That is open."""
    missed: Missed | None = None
    """Where sides were seen to have deleted it, and the others are to follow."""
    read: AsRead = field(default_factory=AsRead)


@dataclass(frozen=True, slots=True)
class Conflict:
    """A tag that was left alone, or was and is not any more."""

    tag: str
    kind: str
    """``conflict``, ``deleted`` or ``immutable`` as :class:`mirror.merge.Verdict`; ``moved``: somebody moved
    it while a run was about to."""
    sides: Mapping[str, str | None]
    """What each side had; None: no such tag."""
    base: str | None
    since_s: float
    """Unix time at which it was first seen so."""
    run: str
    reason: str = ""
    settled_s: float | None = None
    """Unix time; None while it is open."""
    rule: str = ""
    """What has settled it: ``newest``, ``prefer``, ``resolve`` for a person; ``equal``: it went by itself;
    ``propagate``: the deletion is carried over; ``unselected``: the mirror is not about the tag any more;
    ``drop``: a person has taken it off the list."""
    took: str | None = None
    """The digest that all sides have since; where the run that decided was overtaken or failed, some do."""

    @classmethod
    def parse(cls, tag: str, text: str, **more: Any) -> Conflict:
        return cls(**{**own_fields(cls, json.loads(text)), **more, "tag": tag})


class Conflicts:
    """One process's view of the mirrors' conflicts; they are written as batches conclude."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._redis, self._keys = client, keys
        self._write = client.register_script(_WRITE)
        self.deleted = Deleted(client, keys)

    def known(self, spec: MirrorSpec, tags: Sequence[str]) -> dict[str, Known]:
        """What is known of each tag, in one exchange, or two where the mirror's sides have changed."""
        if not tags:
            return {}
        agreed = self._keys.agreed(spec.name)
        pipe = self._redis.pipeline(transaction=False)
        for key in (agreed, self._keys.conflicts(spec.name), self._keys.deleted(spec.name)):
            pipe.hmget(key, list(tags))
        found = zip(*pipe.execute(), strict=True)
        reads = [AsRead(*(row.decode() if row else "" for row in three)) for three in found]
        met = self._met(agreed, spec, {read.agreed.split(" ")[1] for read in reads if read.agreed})
        return {tag: _known(tag, read, met) for tag, read in zip(tags, reads, strict=True)}

    def _met(self, agreed: str, spec: MirrorSpec, names: set[str]) -> dict[str, frozenset[str]]:
        now = _sides(spec)
        known = {_name(now): frozenset(now)}
        unknown = sorted(names - set(known))
        rows = self._redis.hmget(agreed, [_SIDES + name for name in unknown]) if unknown else []
        return known | {
            name: frozenset(json.loads(row or "[]")) for name, row in zip(unknown, rows, strict=True)
        }

    def agreed_tags(self, mirror: str) -> Iterator[str]:
        """Every tag that the sides ever agreed on and did not all delete since; in no order."""
        yield from (tag for tag, _ in self.agreed(mirror))

    def agreed(self, mirror: str) -> Iterator[tuple[str, str]]:
        """The same, each with the digest."""
        for tag, row in self._redis.hscan_iter(self._keys.agreed(mirror), count=PAGE):
            if not tag.startswith(_SIDES.encode()):
                yield tag.decode(), full(row.decode().partition(" ")[0])

    def close(self, mirror: str, tags: Collection[str], run: str, rule: str) -> list[str]:
        """Close what is open about those tags and has not changed since it was read here; those tags.

        Nothing is moved: it is on record as over, with ``rule`` as the reason.
        """
        closed = []
        for tag, text in self._redis.hscan_iter(self._keys.conflicts(mirror), count=PAGE):
            if tag.decode() in tags:
                over = json.dumps(json.loads(text) | {"run": run, "rule": rule})
                now_open = Lasting(self._keys.conflicts(mirror), tag.decode(), "", over=text.decode())
                settled = Lasting(self._keys.settled(mirror), tag.decode(), over, SETTLED_KEPT, tied=True)
                self._write(args=[rows((now_open, settled))])
                closed.append(tag.decode())
        return closed

    def forget(self, spec: MirrorSpec, tag: str, read: AsRead) -> None:
        """All sides have deleted it: what they agreed on is over, unless that has changed since."""
        self._write(args=[rows(_forgotten(self._keys, spec, tag, read))])

    def mirrors(self) -> list[str]:
        """Those that ever had a conflict."""
        return sorted(name.decode() for name in self._redis.hkeys(self._keys.conflicted))

    def counts(self) -> dict[str, int]:
        """How many are open, by mirror."""
        mirrors, pipe = self.mirrors(), self._redis.pipeline(transaction=False)
        if not mirrors:
            return {}
        for mirror in mirrors:
            pipe.hlen(self._keys.conflicts(mirror))
        return dict(zip(mirrors, pipe.execute(), strict=True))

    def open(self, mirror: str) -> Iterator[Conflict]:
        """In no order of tags."""
        for tag, text in self._redis.hscan_iter(self._keys.conflicts(mirror), count=PAGE):
            yield Conflict.parse(tag.decode(), text)

    def settled(self, mirror: str) -> Iterator[Conflict]:
        """Those that are over, as far as they are remembered; of each tag the newest first."""
        for tag, text in self._redis.hscan_iter(self._keys.settled(mirror), count=PAGE):
            for line in reversed(text.decode().split("\n")):
                at, _, document = line.partition(" ")
                yield Conflict.parse(tag.decode(), document, settled_s=float(at))


def _known(tag: str, read: AsRead, met: Mapping[str, frozenset[str]]) -> Known:
    digest, _, name = read.agreed.partition(" ")
    return Known(
        full(digest) if digest else None,
        met[name] if digest else frozenset(),
        Conflict.parse(tag, read.conflict) if read.conflict else None,
        Missed.parse(read.deleted) if read.deleted else None,
        read,
    )


def agreements_of(
    keys: Keys, run: str, resolved: Iterable[Resolved], outcomes: Outcomes, spec: MirrorSpec
) -> Iterator[Lasting]:
    """What a batch of a two-way mirror that is being concluded leaves behind for the next run.

    Of rollbacks and repairs, too: what they moved must not be taken for a push.
    """
    if not spec.two_way or spec.verifies:
        return
    sides, is_named = _sides(spec), False
    for one in resolved:
        if one.merged is None:
            continue  # all have what they had
        own = [outcomes.get((one.tag, target.repository)) for target in spec.targets]
        is_good = all(outcome and outcome.state in THERE for outcome in own)
        if one.descriptor is not None and is_good:
            if not is_named:
                is_named = True
                yield Lasting(keys.agreed(spec.name), _SIDES + _name(sides), json.dumps(sides))
            yield _base(keys, spec, one, agreement(spec, one.descriptor.digest))
            yield from _closed(keys, run, one, one.merged, spec, own)
        elif one.kind == GONE:
            yield _base(keys, spec, one, "")
            yield from _closed(keys, run, one, one.merged, spec, own)
        elif one.kind == DELETED:
            yield _base(keys, spec, one, one.merged.read.agreed)
            yield from _closed(keys, run, one, one.merged, spec, own)
            missed = Missed.of(run, one, one.merged, spec)
            yield _tied(keys.deleted(spec.name), one.tag, missed.row(), one.merged.read.deleted)
        elif (now := _open(one, one.merged, own)) is not None:
            document = _document(run, one, now, spec) | {"reason": _reason(one, own)}
            yield _base(keys, spec, one, one.merged.read.agreed)
            yield _tied(keys.conflicts(spec.name), one.tag, json.dumps(document), one.merged.read.conflict)
            yield Lasting(keys.conflicted, spec.name, "1", tied=True)
        if not is_good and _has_replaced(one, own):
            yield from _over(keys, run, one, one.merged, spec, has_replaced=True)


def _base(keys: Keys, spec: MirrorSpec, one: Resolved, value: str) -> Lasting:
    """What all agree on, where nobody has written that since this run looked; the rest is tied to it."""
    over = one.merged.read.agreed if one.merged else ""
    return Lasting(keys.agreed(spec.name), one.tag, value, over=over)


def _tied(key: str, field: str, value: str, over: str) -> Lasting:
    return Lasting(key, field, value, over=over, tied=True)


def _forgotten(keys: Keys, spec: MirrorSpec, tag: str, read: AsRead) -> Iterator[Lasting]:
    yield Lasting(keys.agreed(spec.name), tag, "", over=read.agreed)
    yield Lasting(keys.deleted(spec.name), tag, "", tied=True)


def agreement(spec: MirrorSpec, digest: str) -> str:
    """How it stands in the ledger that all sides of a mirror have the digest."""
    return f"{short(digest)} {_name(_sides(spec))}"


def _open(one: Resolved, merged: Merged, own: Sequence[Outcome | None]) -> Merged | None:
    """The conflict that the tag ended in, as it is on record; None where it failed otherwise."""
    since = merged.since or one.at
    if one.kind == HELD:
        return Merged(merged.seen, merged.base, merged.kind, since=since)
    moved = [outcome is not None and outcome.state == "held" and outcome.kind == HELD for outcome in own]
    if not any(moved):
        return None
    seen = tuple(
        outcome.previous if is_moved and outcome else before
        for before, outcome, is_moved in zip(merged.seen, own, moved, strict=True)
    )
    return Merged(seen, merged.base, "moved", since=since)


def _closed(
    keys: Keys, run: str, one: Resolved, merged: Merged, spec: MirrorSpec, own: Sequence[Outcome | None]
) -> Iterator[Lasting]:
    if merged.read.deleted and one.kind != DELETED:
        yield _tied(keys.deleted(spec.name), one.tag, "", merged.read.deleted)
    if spec.kind == "rollback":
        return  # the next run closes what it sees to be over
    if merged.read.conflict:
        yield _tied(keys.conflicts(spec.name), one.tag, "", merged.read.conflict)
    if merged.read.conflict or merged.rule:
        yield from _over(keys, run, one, merged, spec, has_replaced=_has_replaced(one, own))


def _has_replaced(one: Resolved, own: Iterable[Outcome | None]) -> bool:
    """Whether a decision has moved the tag anywhere, or may have: what it was there is nowhere else."""
    return one.is_decided and any(o and (o.may_have_moved or o.state == "updated") for o in own)


def _over(
    keys: Keys, run: str, one: Resolved, merged: Merged, spec: MirrorSpec, *, has_replaced: bool
) -> Iterator[Lasting]:
    """A conflict that is over. What was replaced goes on record, whatever another run has seen since."""
    took = one.descriptor.digest if one.descriptor else None
    rule = merged.rule or ("propagate" if one.kind == DELETED else "equal")
    document = _document(run, one, merged, spec) | {"rule": rule, "took": took}
    yield Lasting(keys.settled(spec.name), one.tag, json.dumps(document), SETTLED_KEPT, tied=not has_replaced)
    yield Lasting(keys.conflicted, spec.name, "1", tied=True)


def _document(run: str, one: Resolved, merged: Merged, spec: MirrorSpec) -> dict[str, Any]:
    seen = zip(spec.targets, merged.seen, strict=True)
    return {
        "kind": merged.kind,
        "sides": {target.repository: digest for target, digest in seen},
        "base": merged.base,
        "since_s": merged.since or one.at,
        "run": run,
    }


def _reason(one: Resolved, own: Sequence[Outcome | None]) -> str:
    return one.reason or next((o.reason for o in own if o and o.state == "held" and o.kind == HELD), "")


def _sides(spec: MirrorSpec) -> list[str]:
    return sorted(target.repository for target in spec.targets)


def _name(sides: Sequence[str]) -> str:
    return sha256(json.dumps(sides).encode()).hexdigest()[:8]
