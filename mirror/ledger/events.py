"""Events: what is worth telling people, in the order in which it came, the last MOST_EVENTS of them.

They are written by the scripts that end runs, conclude batches and take probes (:mod:`.event_scripts`). What
no script changes, that a region has no worker, is told to :class:`Events` as often as it is seen.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Literal

from mirror.ledger import event_scripts
from mirror.ledger.event_scripts import KEEP_S, MOST_EVENTS
from mirror.ledger.keys import Client, Keys
from mirror.ledger.lasting import Lasting
from mirror.ledger.values import Outcomes
from mirror.spec import MirrorSpec

__all__ = ["MOST_EVENTS", "Event", "Events", "Name", "of_tags"]

Name = Literal[
    "failed",
    "recovered",
    "split",
    "conflict",
    "registry_down",
    "registry_back",
    "budget",
    "backfill_done",
    "damage",
    "repaired",
    "no_workers",
]
FIRST = "0-0"
"""Before all events."""


@dataclass(frozen=True, slots=True)
class Event:
    """One of them. ``more`` holds what there is to say: other people's text is in it."""

    id: str
    at_s: float
    """Unix time, by the server's clock."""
    number: int
    """Counted from the first on: what lies between two that are read is gone."""
    name: str
    """A :data:`Name`; of a newer fleet perhaps another."""
    mirror: str = ""
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Some of the tags that it is about."""
        return tuple(str(name) for name in self.more.get("names") or ())

    @property
    def mirrors(self) -> tuple[str, ...]:
        """Those that it is about; none: about no mirror, or all."""
        named = (self.mirror,) if self.mirror else self.more.get("mirrors") or ()
        return tuple(str(name) for name in named)

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        own = {"id": self.id, "at_s": self.at_s, "event": self.name, "mirror": self.mirror or None}
        return own | {"more": dict(self.more)}


class Events:
    """One fleet's."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._redis, self._keys = client, keys
        self._note = client.register_script(event_scripts.NOTE)

    def no_workers(self, region: str, mirrors: Sequence[str]) -> bool:
        """The region has none, and these mirrors run there by schedules: an event where that is news."""
        more = {"region": region, "count": len(mirrors), "mirrors": list(mirrors)}
        keys = [self._keys.events, self._keys.told("no_workers", region)]
        return bool(self._note(keys, [KEEP_S, "no_workers", json.dumps(more)]))

    def has_workers(self, region: str) -> None:
        """It has one: that it has none is news again."""
        self._redis.delete(self._keys.told("no_workers", region))

    def recent(self, limit: int) -> list[Event]:
        """The last ones, the newest first."""
        return [_event(*row) for row in self._redis.xrevrange(self._keys.events, count=limit)]

    def after(self, cursor: str, limit: int) -> list[Event]:
        """Those that came after the one of that id, in their order."""
        return [_event(*row) for row in self._redis.xrange(self._keys.events, f"({cursor}", count=limit)]


def of_tags(
    keys: Keys, run: str, spec: MirrorSpec, kept: Iterable[Lasting], outcomes: Outcomes
) -> list[dict[str, Any]]:
    """What a batch that concludes is to tell: conflicts that are new (the script sees), and split tags."""
    place = keys.conflicts(spec.name)
    conflicts = [one.field for one in kept if one.key == place and one.value]
    split = sorted({tag for (tag, _), outcome in outcomes.items() if outcome.state == "split"})
    found = []
    if conflicts:
        found.append(_told("conflict", run, spec, conflicts) | {"unless": place, "place": spec.name})
    if split:
        subject = sha256("\n".join([spec.known_as, spec.rest, *split]).encode()).hexdigest()[:16]
        found.append(_told("split", run, spec, split) | {"subject": subject})
    return found


def _told(event: Name, run: str, spec: MirrorSpec, tags: Sequence[str]) -> dict[str, Any]:
    prefix = f"{spec.rest}:" if spec.rest else ""
    own = {"event": event, "run": run, "mirror": spec.known_as, "tags": list(tags), "prefix": prefix}
    return own | {"subject": "", "unless": ""}


def _event(identity: bytes, fields: Mapping[bytes, bytes]) -> Event:
    row = {key.decode(): value.decode(errors="replace") for key, value in fields.items()}
    name = identity.decode()
    at_s = int(name.partition("-")[0]) / 1000
    more = json.loads(row["more"])
    if "names" in more:
        more["names"] = list(more["names"] or ())  # to Lua an empty list is an empty object
    return Event(name, at_s, int(row["number"]), row["event"], row["mirror"], more)
