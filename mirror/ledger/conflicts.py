"""Two-way mirrors: what the sides last agreed on for each tag, and where they did not.

What was agreed is the base of the next merge and is kept for good. Losing it is safe: the next run is then
a first meeting, which overwrites nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from mirror.ledger.digests import full, short
from mirror.ledger.keys import Client, Keys
from mirror.ledger.lasting import Lasting
from mirror.ledger.values import GONE, HELD, Merged, Outcome, Outcomes, Resolved
from mirror.spec import MirrorSpec

SETTLED_KEPT = 10
"""Of each tag, how many conflicts that are over stay on record."""
PAGE = 500
_SIDES = "\n"
"""How the fields that name sides begin: no tag does."""
_GOOD = frozenset({"current", "updated"})


@dataclass(frozen=True, slots=True)
class Known:
    """What the ledger knows of a tag before it is looked at."""

    base: str | None = None
    """The digest that the sides had when all had the same."""
    met: frozenset[str] = frozenset()
    """Which sides those were."""
    conflict: Conflict | None = None
    """That is open."""


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
    """What has settled it: ``newest``, ``prefer``, ``resolve`` for a person; ``equal``: it went by itself."""
    took: str | None = None
    """The digest that all sides have since."""

    @classmethod
    def parse(cls, tag: str, text: str, **more: Any) -> Conflict:
        return cls(tag=tag, **json.loads(text), **more)


class Conflicts:
    """One process's view of the mirrors' conflicts; they are written as batches conclude."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._redis, self._keys = client, keys

    def known(self, spec: MirrorSpec, tags: Sequence[str]) -> dict[str, Known]:
        """What is known of each tag, in one exchange, or two where the mirror's sides have changed."""
        if not tags:
            return {}
        agreed = self._keys.agreed(spec.name)
        pipe = self._redis.pipeline(transaction=False)
        pipe.hmget(agreed, list(tags)).hmget(self._keys.conflicts(spec.name), list(tags))
        bases, conflicts = pipe.execute()
        rows = [row.decode().split(" ") if row else None for row in bases]
        met = self._met(agreed, spec, {row[1] for row in rows if row})
        return {
            tag: Known(
                full(row[0]) if row else None,
                met[row[1]] if row else frozenset(),
                Conflict.parse(tag, text) if text else None,
            )
            for tag, row, text in zip(tags, rows, conflicts, strict=True)
        }

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
        for field, _ in self._redis.hscan_iter(self._keys.agreed(mirror), count=PAGE):
            if not field.startswith(_SIDES.encode()):
                yield field.decode()

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


def agreements_of(
    keys: Keys, run: str, resolved: Iterable[Resolved], outcomes: Outcomes, spec: MirrorSpec
) -> Iterator[Lasting]:
    """What a batch of a two-way mirror that is being concluded leaves behind for the next run.

    Of rollbacks and repairs, too: what they moved must not be taken for a push.
    """
    if not spec.two_way or spec.verifies:
        return
    sides = _sides(spec)
    name, is_named = _name(sides), False
    for one in resolved:
        if one.merged is None and spec.kind != "rollback":
            continue  # all have what they had
        own = [outcomes.get((one.tag, target.repository)) for target in spec.targets]
        if one.descriptor is not None and all(outcome and outcome.state in _GOOD for outcome in own):
            if not is_named:
                is_named = True
                yield Lasting(keys.agreed(spec.name), _SIDES + name, json.dumps(sides))
            yield Lasting(keys.agreed(spec.name), one.tag, agreement(spec, one.descriptor.digest))
            if one.merged is not None:
                yield from _closed(keys, run, one, one.merged, spec)
        elif one.merged is None:
            continue  # a rollback that moved nothing
        elif one.kind == GONE:
            yield Lasting(keys.agreed(spec.name), one.tag, "")
            yield from _closed(keys, run, one, one.merged, spec)
        elif (now := _open(one, one.merged, own)) is not None:
            document = _document(run, one, now, spec) | {"reason": _reason(one, own)}
            yield Lasting(keys.conflicted, spec.name, "1")
            yield Lasting(keys.conflicts(spec.name), one.tag, json.dumps(document))


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


def _closed(keys: Keys, run: str, one: Resolved, merged: Merged, spec: MirrorSpec) -> Iterator[Lasting]:
    if merged.since:
        yield Lasting(keys.conflicts(spec.name), one.tag, "")
    if merged.since or merged.rule:
        took = one.descriptor.digest if one.descriptor else None
        document = _document(run, one, merged, spec) | {"rule": merged.rule or "equal", "took": took}
        yield Lasting(keys.conflicted, spec.name, "1")
        yield Lasting(keys.settled(spec.name), one.tag, json.dumps(document), SETTLED_KEPT)


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
