"""Where each tag of a mirror was moved, when and by which run: the last moves, for good."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from itertools import islice
from typing import Any

from mirror.ledger.digests import full, short
from mirror.ledger.keys import Client, Keys
from mirror.ledger.lasting import Lasting
from mirror.ledger.values import Outcomes, Resolved
from mirror.report import Deletion
from mirror.spec import TARGETS, MirrorSpec

PAGE = 500
MOST_NAMES = 5000
"""So many tags are looked through for one that a person may have meant."""
_PLACES = "\n"
"""How the fields that name a source and targets begin: no tag does."""
_Named = tuple[str, list[str]]
"""(source, targets)."""


@dataclass(frozen=True, slots=True)
class Flip:
    """One tag, moved by one run."""

    tag: str
    at_s: float
    """Unix time at which the run was through with the tag."""
    run: str
    to: str
    """The digest; empty where it was deleted."""
    previous: Mapping[str, str | None]
    """By the targets that were moved: the digest that the tag had there, None if it was new."""
    source: str = TARGETS
    """Where the run took it from; of a rollback no source, but the targets."""

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


class History:
    """One hash for each mirror (of a wildcard for each repository), and in it the last flips of each tag."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._redis, self._keys = client, keys

    def of(self, mirror: str, tags: Sequence[str]) -> dict[str, list[Flip]]:
        """The flips of those tags, the newest first; a tag without any is left out."""
        key = self._keys.history(mirror)
        rows = zip(tags, self._redis.hmget(key, list(tags)) if tags else (), strict=True)
        known = {tag: row.decode() for tag, row in rows if row}
        named: dict[str, _Named] = {}
        return {tag: self._flips(key, tag, row, named) for tag, row in known.items()}

    def last(self, mirror: str, tag: str) -> Flip | None:
        """What we put there last, and where; None where we never moved the tag, or it is forgotten."""
        return next(iter(self.of(mirror, [tag]).get(tag, ())), None)

    def all(self, mirror: str) -> Iterator[Flip]:
        """Of every tag, in no order of tags; of each the newest first."""
        key, named = self._keys.history(mirror), dict[str, _Named]()
        for field, row in self._redis.hscan_iter(key, count=PAGE):
            if not field.startswith(_PLACES.encode()):
                yield from self._flips(key, field.decode(), row.decode(), named)

    def names(self, mirror: str) -> list[str]:
        """Tags that have a history: of very many, some."""
        found = self._redis.hscan_iter(self._keys.history(mirror), count=PAGE, no_values=True)
        names = (name.decode() for name in islice(found, MOST_NAMES))
        return [name for name in names if not name.startswith(_PLACES)]

    def _flips(self, key: str, tag: str, row: str, named: dict[str, _Named]) -> list[Flip]:
        """``named``: what was read already of places, by the name under which lines have them."""
        lines = [line.partition(" ") for line in reversed(row.split("\n"))]
        values = [(float(at), *json.loads(value)) for at, _, value in lines]
        names = list({name for *_, name in values for name in _each(name)} - named.keys())
        if names:
            rows = self._redis.hmget(key, [_PLACES + name for name in names])
            named |= {name: _named(found) for name, found in zip(names, rows, strict=True)}
        return [
            Flip(tag, at, run, full(to) if to else "", *_where(before, [named[one] for one in _each(name)]))
            for at, run, to, before, name in values
        ]


def flips_of(
    keys: Keys, run: str, resolved: Iterable[Resolved], outcomes: Outcomes, spec: MirrorSpec, most: int
) -> Iterator[Lasting]:
    """What a batch that is being concluded adds to the history: a line for each tag that it moved.

    Of each tag the last ``most`` stay; 0: nothing is added.
    """
    if not most:
        return
    key, named = keys.history(spec.name), set[str]()
    for one in resolved:
        held = {t.repository: outcomes.get((one.tag, t.repository)) for t in spec.targets}
        moved = {name: o for name, o in held.items() if o is not None and o.state == "updated"}
        to = one.descriptor.digest if one.descriptor else None
        before = {name: o.previous for name, o in moved.items() if o.previous != to}  # else it was repaired
        if not before or one.descriptor is None:
            continue
        places = _places(key, spec.source, list(before))
        name = places.field.removeprefix(_PLACES)
        if name not in named:
            named.add(name)
            yield places
        digests = [_short(digest) for digest in before.values()]
        row = [run, _short(one.descriptor.digest), digests if len(set(digests)) > 1 else digests[0], name]
        yield Lasting(key, one.tag, json.dumps(row, separators=(",", ":")), most)


def deletion_of(keys: Keys, spec: MirrorSpec, one: Deletion) -> tuple[Lasting, list[str]]:
    """What the deletion of a tag in one target adds, a move to nothing: it counts as ours no more.

    The place, and what the script needs for the line: key, tag, digest, the name of the place.
    """
    key = keys.history(spec.name)
    place = _places(key, spec.source, [one.target])
    return place, [key, one.tag, short(one.digest), place.field.removeprefix(_PLACES)]


def _places(key: str, source: str, targets: list[str]) -> Lasting:
    """Named by what it is, so that many lines name it in eight letters."""
    text = json.dumps([source, targets])
    return Lasting(key, _PLACES + sha256(text.encode()).hexdigest()[:8], text)


def _named(row: bytes | None) -> _Named:
    source, targets = json.loads(row) if row else (TARGETS, [])
    return source, targets


def _each(name: str | list[str]) -> list[str]:
    """A line names its places together, that of a deletion one by one."""
    return [name] if isinstance(name, str) else name


def _where(digests: str | list[str | None] | None, places: list[_Named]) -> tuple[dict[str, str | None], str]:
    """What the tag was, by target, and the source."""
    targets = [target for _, own in places for target in own]
    each = digests if isinstance(digests, list) else [digests] * len(targets)
    before = {target: full(one) if one else None for target, one in zip(targets, each, strict=True)}
    return before, places[0][0]


def _short(digest: str | None) -> str | None:
    return None if digest is None else short(digest)
