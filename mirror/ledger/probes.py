"""Probes: how each region reaches each registry now, how reliably it did, and when a registry was down.

A measurement is taken by one script that also says whether the registry went down or came back by it, so
that this is told exactly once, whoever probes how often. What is kept is bounded by regions and registries,
whatever the number of mirrors and tags: a day by the hour, 30 days by the day.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from mirror.ledger import probe_scripts as scripts
from mirror.ledger.keys import Client, Keys
from mirror.ledger.measured import (
    DAY_S,
    DAYS_KEPT,
    Availability,
    Change,
    Incident,
    Measurement,
    Reach,
    Span,
    Standing,
    availability,
    best_first,
    number,
)
from mirror.ledger.newer import own_fields
from mirror.ledger.samples import Samples

__all__ = [
    "Availability",
    "Change",
    "Incident",
    "Measurement",
    "Probes",
    "Reach",
    "Span",
    "Standing",
    "best_first",
]

Place = tuple[str, str]
"""Region and host."""

FAILURES = 2
"""So many failed probes in a row are an outage: one may be an accident of the way there."""
FRESH_S = 3600.0
"""How long a probe that somebody asked for is gone by."""
KEEP_S = (DAYS_KEPT + 1) * DAY_S
PASS_S = 3600
"""How long it is known which regions are through with a probe that somebody waits for."""
MOST_CHANGES = 500
MOST_PLACES = 10_000
"""Regions times registries that are read at once."""
AHEAD_S = 60
_FIELDS = ("last", "since", "reason", "latency", "speed", "fresh", "was_up")


class Probes:
    """One fleet's probes; times are on the server's clock."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._redis, self._keys = client, keys
        self.samples = Samples(client, keys)
        script = client.register_script
        self._record, self._keep_only = script(scripts.RECORD), script(scripts.KEEP_ONLY)
        self._send, self._begin = script(scripts.SEND_SLOT), script(scripts.BEGIN_SLOT)

    # -- writing -----------------------------------------------------------------------------------

    def record(
        self, one: Measurement, probe: str, fresh_s: float = FRESH_S, failures: int = FAILURES
    ) -> Literal["registry_down", "registry_back", ""]:
        """Take a measurement; what it changes, told in the same step.

        What was never up as seen from there is down without a word: it is out of reach by design. Nothing
        changes where ``probe``, its id, was taken already or a later one was. ``fresh_s``: for how long it
        is gone by; ``failures``: how many in a row are an outage.
        """
        keys = self._keys
        own = [keys.probes(one.region, one.host), keys.probed, keys.seen_from(one.host)]
        names = [*own, keys.outages, keys.events]
        words = [
            probe,
            f"{one.at:.3f}",
            int(one.up),
            _word(one.latency_s),
            _word(one.bytes_per_second),
            json.dumps(one.document()),
            fresh_s,
            failures,
            one.region,
            one.host,
            KEEP_S,
            MOST_CHANGES,
            one.error,
        ]
        told: Literal["registry_down", "registry_back", ""] = self._record(names, words).decode()
        return told

    def is_recorded(self, region: str, host: str, probe: str) -> bool:
        """Whether the probe of that id is the last one that was taken there."""
        held: bytes | None = self._redis.hget(self._keys.probes(region, host), "id")
        return held == probe.encode()

    def send_slot(self, region: str, slot: int, now: float, lost_after_s: float) -> bool:
        """Whether the region is to be sent a pass for the slot (Unix time), by whoever asks.

        Not again for the same slot or an earlier one, nor while the last one waits to be begun: after
        ``lost_after_s`` its message is taken to be lost.
        """
        words = [region, slot, now, now - lost_after_s, now + AHEAD_S]
        return bool(self._send([self._keys.probe_slots], words))

    def begin_slot(self, region: str, slot: int) -> bool:
        """Whether the region is to be probed now: its last pass is begun then.

        By that one's own message, or by an older one that waited as long for a worker: else a region that is
        busy for longer than ``lost_after_s`` would never be, since each message is overtaken before its turn.
        """
        return bool(self._begin([self._keys.probe_slots], [region, slot]))

    def end_pass(self, probe: str, region: str, left_out: Mapping[str, str]) -> None:
        """Say that the region is through with that probe; ``left_out``: hosts not asked, and why."""
        key, pipe = self._keys.probe_pass(probe), self._redis.pipeline()
        pipe.hset(key, region, json.dumps(left_out)).expire(key, PASS_S).execute()

    def ended(self, probe: str) -> dict[str, dict[str, str]]:
        """By region that is through with the probe: hosts that were not asked, and why."""
        rows = self._redis.hgetall(self._keys.probe_pass(probe))
        return {region.decode(): json.loads(left_out) for region, left_out in rows.items()}

    def keep_only(self, places: Iterable[Place]) -> int:
        """Forget what is probed no more: all other regions and hosts; how many that were."""
        words = [word for place in places for word in place]
        roots = [self._keys.probes("", "").removesuffix(":"), self._keys.seen_from("")]
        return int(self._keep_only([self._keys.probed], [*roots, *words]))

    # -- reading -----------------------------------------------------------------------------------

    def places(self) -> list[Place]:
        """Every region and host that was probed in the last 30 days, sorted."""
        members = self._redis.zrevrange(self._keys.probed, 0, MOST_PLACES - 1)
        return sorted((region, host) for region, _, host in (m.decode().partition("\n") for m in members))

    def latest(self, places: Sequence[Place] | None = None) -> list[Reach]:
        """How regions reach registries, in the order of ``places``; None: all that were ever probed."""
        asked = self.places() if places is None else places
        if not asked:
            return []
        pipe = self._redis.pipeline(transaction=False)
        for region, host in asked:
            pipe.hmget(self._keys.probes(region, host), *_FIELDS)
        *rows, now = pipe.time().execute()
        return [_reach(place, row, now[0] + now[1] / 1e6) for place, row in zip(asked, rows, strict=True)]

    def availability(self, places: Sequence[Place]) -> list[Availability]:
        """How reliably each was reached, in the same order."""
        if not places:
            return []
        pipe = self._redis.pipeline(transaction=False)
        for region, host in places:
            pipe.hgetall(self._keys.probes(region, host))
        *rows, now = pipe.time().execute()
        return [availability(row, float(now[0])) for row in rows]

    def changes(self, limit: int = MOST_CHANGES) -> list[Change]:
        """Registries that went down or came back in the last 30 days, newest first."""
        oldest = self._redis.time()[0] - DAYS_KEPT * DAY_S
        told = map(Change.parse, self._redis.lrange(self._keys.outages, 0, limit - 1))
        return [change for change in told if change.at >= oldest]

    def incidents(self, limit: int = MOST_CHANGES) -> list[Incident]:
        """Outages of the last 30 days by when they began, newest first; those that go on among them."""
        over = [
            Incident(one.region, one.host, one.since, one.at, one.reason, one.at)
            for one in self.changes()
            if one.kind == "registry_back"
        ]
        lasting = [
            Incident(one.region, one.host, one.down_since, None, one.reason, one.last.at)
            for one in self.latest()
            if one.down_since is not None and one.last is not None and one.was_up
        ]
        return sorted(over + lasting, key=lambda one: one.down_s, reverse=True)[:limit]


def _reach(place: Place, row: Sequence[bytes | None], now: float) -> Reach:
    last, since, reason, latency_s, speed, fresh, was_up = (part.decode() if part else "" for part in row)
    return Reach(
        *place,
        Measurement(**own_fields(Measurement, json.loads(last))) if last else None,
        number(since),
        reason,
        number(latency_s),
        number(speed),
        fresh=bool(fresh) and float(fresh) >= now,
        was_up=bool(was_up),
    )


def _word(value: float | None) -> str:
    return "-" if value is None else f"{value:.9g}"
