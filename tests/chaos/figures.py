"""The figures of a storm: as text, and as the table in docs/guarantees.md."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.plan import Plan

DOCUMENT = Path(__file__).parents[2] / "docs" / "guarantees.md"
BEGIN, END = "<!-- figures: written by make chaos -->", "<!-- end of figures -->"

QUEUE_STEPS = ("", ":3", ":9")
"""The ends of a queue's names, one for each priority: flips, release, backfill."""
KINDS: dict[str, tuple[str, str]] = {
    "ledger: one of each": (
        r"sealift:ledger:(runs|open|generation|clock|workers|sweeper|[a-z-]+)",
        "their number",
    ),
    "ledger: runs": (r"sealift:ledger:run:.*", "30 days after the run"),
    "ledger: batches": (r"sealift:ledger:batch:.*", "7 days after the batch"),
    "ledger: newest": (r"sealift:ledger:newest:.*", "one for each target repository"),
    "ledger: history": (r"sealift:ledger:history:.*", "one for each mirror"),
    "ledger: kept": (
        r"sealift:ledger:kept(-for|-manifests)?:.*",
        "one for each target repository, two for each image that is kept",
    ),
    "ledger: sides": (
        r"sealift:ledger:(agreed|conflicts|settled|deleted):.*",
        "four for each two-way mirror",
    ),
    "ledger: probes": (
        r"sealift:ledger:(probes|seen-from):.*",
        "one for each registry, and one for each region and registry",
    ),
    "ledger: told": (r"sealift:ledger:told:.*", "some for each mirror, registry and region"),
    "ledger: derived": (r"sealift:ledger:.*", "expire within hours or days"),
    "chords": (r"sealift:celery-taskset-meta-.*", "7 days: left by chords that were killed"),
    "results": (r"sealift:celery-task-meta-.*", "7 days: failures of tasks"),
    "bindings": (r"sealift:_kombu\.binding.*", "some for each queue and worker"),
    "messages at work": (r"sealift:unacked.*", "what workers hold"),
    "queues": (r"sealift:(control|east|west)(:3|:9)?", "three for each region, and for control"),
    "control messages": (r"sealift:.*(pidbox|reply|celeryev).*", "seconds"),
}
"""Every kind of key by its pattern, the first that fits, and what bounds its number."""
MAY_STAY = frozenset(
    {
        "ledger: one of each",
        "ledger: newest",
        "ledger: history",
        "ledger: kept",
        "ledger: sides",
        "bindings",
        "messages at work",
        "queues",
        "control messages",
    }
)
"""Kinds whose keys need no end of their own."""


def kind_of(key: str) -> str | None:
    """The kind of a key; None where it is of none."""
    return next((kind for kind, (pattern, _) in KINDS.items() if re.fullmatch(pattern, key)), None)


def keys_by_kind(client: Any) -> dict[str, int]:
    """How many keys there are of each kind."""
    return dict(Counter(kind_of(key.decode()) or "unknown" for key in client.scan_iter(count=5000)))


def unexplained(client: Any) -> list[str]:
    """Keys of no known kind, and those that should have an end and have none."""
    found = []
    for key in client.scan_iter(count=5000):
        kind = kind_of(key.decode())
        if kind is None:
            found.append(f"{key.decode()}: of no known kind")
        elif kind not in MAY_STAY and client.ttl(key) == -1:
            found.append(f"{key.decode()}: never expires")
    return found


@dataclass(frozen=True, slots=True)
class SideFigures:
    """Of two-way mirrors."""

    pushes: int
    decisions: int
    settled: int
    held: int
    met: int

    def rows(self) -> list[tuple[str, str]]:
        return [
            ("pushes at sides of two-way mirrors", f"{self.pushes:,}"),
            ("of these overwritten, as they came between the last look and the PUT", f"{self.met}"),
            ("decisions by people about tags that had moved apart", f"{self.decisions:,}"),
            ("conflicts that are over, as far as they are remembered", f"{self.settled:,}"),
            ("tags that are apart at the end, each on record", f"{self.held}"),
        ]


@dataclass(frozen=True, slots=True)
class EventFigures:
    """Of probes and receivers."""

    outages: int
    told_down: int
    """Changes that probes told, as far as they are kept."""
    events: int
    messages: int
    failures: int

    def rows(self) -> list[tuple[str, str]]:
        return [
            ("times that a registry was away", f"{self.outages:,}"),
            ("times that a region's probes found one to be down, and back later", f"{self.told_down:,}"),
            ("events, each told at least once", f"{self.events:,}"),
            ("messages that told of them", f"{self.messages:,}"),
            ("messages refused, unread, or taken without an answer", f"{self.failures:,}"),
        ]


@dataclass(slots=True)
class Result:
    plan: Plan
    faults: dict[str, int]
    classes: tuple[str, ...]
    tags: int
    targets: int
    moves: int
    flips: int
    observed: Counter[str]
    runs: int
    violations: list[str]
    lost: list[str]
    stuck: list[str]
    leftover: list[str]
    rollbacks: int
    sides: SideFigures
    events: EventFigures
    went_back: int
    longest_heal_s: float
    longest_heal_of: list[str]
    window_median_s: float
    window_worst_s: float
    copied_twice: int
    copied: int
    keys_before: dict[str, int]
    keys_after: dict[str, int]
    unexplained_keys: list[str]
    restarts: dict[str, int]
    networks: list[str]
    """Regions that were cut off by their packets; the others were from Redis only."""
    blew_s: float = 0.0
    took_s: float = 0.0

    @property
    def is_good(self) -> bool:
        bad = self.violations or self.lost or self.stuck or self.leftover or self.unexplained_keys
        return not (bad or self.missing)

    @property
    def missing(self) -> list[str]:
        """Classes of faults that did not come up as often as planned."""
        counts = ((one, self.faults.get(one, 0)) for one in self.classes)
        return [f"{one}: {count} of {self.plan.each}" for one, count in counts if count < self.plan.each]

    @property
    def deaf(self) -> int:
        return sum(count for why, count in self.restarts.items() if why.endswith("deaf"))

    def rows(self) -> list[tuple[str, str]]:
        return [
            ("tags", f"{self.tags}, each in {self.targets} targets"),
            ("moves of tags at the source", f"{self.moves:,}"),
            ("runs that ended", f"{self.runs:,}"),
            ("flips seen by the observer", f"{self.flips:,}"),
            ("looks at tags", f"{self.observed['looks']:,}"),
            ("proofs that another target held the whole new graph", f"{self.observed['checked G2']:,}"),
            ("proofs that could not be made", f"{self.observed['undecided']:,}"),
            ("blobs hashed", f"{self.observed['hashed']:,}"),
            ("**violations**", f"**{len(self.violations)}**"),
            ("**tags lost** (not what the source has, after the last run)", f"**{len(self.lost)}**"),
            ("**runs stuck**", f"**{len(self.stuck)}**"),
            ("messages and open batches left over", f"{len(self.leftover)}"),
            ("Redis keys that nothing bounds", f"{len(self.unexplained_keys)}"),
            ("rollbacks of up to three tags, asked for", f"{self.rollbacks}"),
            ("former images seen to be kept, in one target each", f"{self.observed['kept']:,}"),
            ("tags taken back after a move that failed elsewhere", f"{self.went_back}"),
            ("longest time from a fault to the next step of a release run", f"{self.longest_heal_s:.1f} s"),
            ("window in which targets differ about a tag, median", f"{self.window_median_s:.2f} s"),
            ("the same, worst", f"{self.window_worst_s:.1f} s"),
            *self.sides.rows(),
            *self.events.rows(),
            ("regions that could be cut off from everything", ", ".join(self.networks) or "none"),
            ("workers that were deaf by their heartbeat", f"{self.deaf}"),
            ("bytes sent to the targets", f"{self.copied:,}"),
            ("of these sent to a registry that had them", f"{self.copied_twice:,}"),
            ("duration of the storm", f"{self.blew_s:.0f} s"),
        ]

    def text(self) -> str:
        lines = [f"{name.replace('*', ''):60} {value.replace('*', '')}" for name, value in self.rows()]
        lines += [f"  fault: {name:50} {count}" for name, count in sorted(self.faults.items())]
        lines += [f"  ended and restarted: {name:36} {count}" for name, count in self.restarts.items()]
        lines += [
            f"  keys: {kind:70} {self.keys_before.get(kind, 0):6} {n:6}"
            for kind, n in self.keys_after.items()
        ]
        for title in ("violations", "lost", "stuck", "leftover", "unexplained_keys", "missing"):
            lines += [f"{title}: {one}" for one in getattr(self, title)[:40]]
        lines.append(f"longest heal: {self.longest_heal_s:.1f} s, faults meanwhile: {self.longest_heal_of}")
        return "\n".join(lines)

    def markdown(self) -> str:
        head = ["| | |", "|---|---|"]
        facts = [f"| {name} | {value} |" for name, value in self.rows()]
        faults = ["", "| fault | times |", "|---|---|"]
        faults += [f"| {name} | {count:,} |" for name, count in sorted(self.faults.items())]
        keys = ["", "| Redis keys | before | after | bounded by |", "|---|---|---|---|"]
        for kind, count in sorted(self.keys_after.items()):
            keys.append(f"| {kind} | {self.keys_before.get(kind, 0):,} | {count:,} | {KINDS[kind][1]} |")
        return "\n".join([*head, *facts, *faults, *keys])


def write(result: Result) -> None:
    """Put the figures between the marks in docs/guarantees.md."""
    text = DOCUMENT.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n{result.markdown()}\n\n{END}{after}")
