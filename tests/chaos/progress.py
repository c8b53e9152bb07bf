"""How runs come along, read from the ledger: which are open, and how long each stood still after a fault."""

from __future__ import annotations

import json
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from mirror.ledger.keys import Client, Keys

EVERY_S = 0.25


@dataclass(slots=True)
class _Run:
    mirror: str
    lane: str
    signature: object = None
    struck: float | None = None
    """The first fault since the run last moved."""
    faults: list[str] = field(default_factory=list)


class Heal(NamedTuple):
    """A release run that stood still, from the first fault to its next step."""

    seconds: float
    at: float
    run: str
    faults: tuple[str, ...]
    """What struck meanwhile."""


class Progress:
    """Looks at the ledger a few times a second; only release runs heal: others rightly wait for them."""

    def __init__(self, keys: Keys, client: Client, trace: Path) -> None:
        self._keys, self._client, self._trace = keys, client, trace
        self._runs: dict[str, _Run] = {}
        self._looked = 0.0
        self.open: set[str] = set()
        self.ended = 0
        self.steps = 0
        """That runs were seen to take."""
        self.heals: list[Heal] = []

    def open_of(self, mirrors: Collection[str]) -> int:
        """How many runs of these are open."""
        return sum(one.mirror in mirrors for run, one in self._runs.items() if run in self.open)

    def struck(self, now: float, fault: str) -> None:
        self._write({"at": now, "fault": fault})
        for run in self._runs.values():
            if run.struck is None:
                run.struck = now
            run.faults.append(fault)

    def look(self, now: float) -> bool:
        """Read what moved, if it is time to; LedgerError."""
        if time.monotonic() - self._looked < EVERY_S:
            return False
        self._looked = time.monotonic()
        members = [member.decode() for member in self._client.zrange(self._keys.open, 0, -1)]
        self.open = {member.partition(".")[0] for member in members}
        for run in self.open - set(self._runs):
            mirror, lane = self._client.hmget(self._keys.run(run), "mirror", "lane")
            self._runs[run] = _Run((mirror or b"").decode(), (lane or b"").decode())
        for run in list(self._runs):
            self._follow(run, [one for one in members if one.startswith(f"{run}.")], now)
        return True

    def _follow(self, run: str, batches: list[str], now: float) -> None:
        track = self._runs[run]
        signature = self._signature(run, batches)
        if signature != track.signature or run not in self.open:
            self.steps += 1
            self._write({"at": now, "run": run, "moved": _told(signature)})
            if track.struck is not None and track.lane == "release":
                self.heals.append(Heal(now - track.struck, now, run, tuple(track.faults)))
            track.signature, track.struck, track.faults = signature, None, []
        if run not in self.open:
            del self._runs[run]
            self.ended += 1

    def _signature(self, run: str, batches: list[str]) -> object:
        pipe = self._client.pipeline(transaction=False)
        pipe.hmget(self._keys.run(run), "state", "cursor", "concluded", "batches")
        pipe.hgetall(self._keys.progress(run))
        for batch in batches:
            pipe.hgetall(self._keys.batch(batch))
        run_row, counts, *rows = pipe.execute()
        moving = [{k: v for k, v in row.items() if k != b"attempts"} for row in rows]
        return (run_row, counts, moving)

    def _write(self, facts: dict[str, object]) -> None:
        with self._trace.open("a") as trace:
            trace.write(json.dumps(facts) + "\n")


def _told(signature: Any) -> dict[str, object]:
    """The signature in short, for whoever reads the trace of a storm that went wrong."""
    run_row, _, batches = signature
    told = [
        {key.decode(): value.decode() for key, value in row.items() if key not in {b"tags", b"run"}}
        for row in batches
    ]
    return {"run": [value.decode() if value else "" for value in run_row], "batches": told}
