"""What a plan says of one mirror, as values: what would move, what that costs, what makes it wait. No I/O."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from mirror.ledger.budgets import BudgetReport
from mirror.report import Deletion, Moved, RunReport
from mirror.tally import Tally

State = Literal["current", "move", "new", "held", "conflict", "missing", "error"]
"""``move``: the target has another digest under the tag; ``held``: it would be left alone on purpose;
``conflict``: of a two-way mirror: it would be left alone, and somebody has to decide;
``missing``: the source, or every side, has no such tag."""
MOST_TAGS = 10_000
"""Tags that a plan names one by one; the others are counted."""
MOST_RUNS = 5


@dataclass(frozen=True, slots=True)
class PlannedTarget:
    """One tag in one target."""

    repository: str
    region: str
    state: State
    previous: str | None = None
    """The digest that the tag has in the target today."""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class PlannedTag:
    """One tag that would be mirrored."""

    tag: str
    digest: str | None
    """What it is to be everywhere: its digest at the source; None if the source lacks it or did not say, and
    where sides of a two-way mirror are in conflict."""
    targets: tuple[PlannedTarget, ...]
    repository: str = ""
    """Where it would be taken from."""
    rest: str = ""
    """In a run of many repositories: which one it is, as the wildcard stands for it."""
    taken_from: tuple[str, ...] = ()
    """Of a two-way mirror, where it moves: the sides that have that digest already."""
    rule: str = ""
    """Of a two-way mirror: the rule that would decide a conflict, ``newest`` or ``prefer``."""

    @property
    def label(self) -> str:
        """What tells it from the plan's others; a repository that cannot be listed has no tag."""
        return ":".join(part for part in (self.rest, self.tag) if part)

    @property
    def moves(self) -> bool:
        return any(target.state in {"new", "move"} for target in self.targets)


@dataclass(frozen=True, slots=True)
class Pulls:
    """What one registry that counts reading has to give, and what the run needs of it."""

    host: str
    needed: int
    """By the run; at least, where manifests were not read."""
    spent: int
    """By the plan; what it has read is kept for the run."""
    left: int | None = None
    """To the run now, the reserve for others taken off; None: the registry has not said."""
    per_window: int | None = None
    window_s: int | None = None
    until_s: float | None = None
    """Unix time at which the window ends at the latest."""

    @property
    def windows(self) -> int | None:
        """How many windows have to end before the run does; None where that cannot be known."""
        if self.left is None or not self.per_window:
            return None if self.left is None or self.needed > self.left else 0
        return max(0, math.ceil((self.needed - self.left) / self.per_window))

    @property
    def ready_s(self) -> float | None:
        """Unix time at which the last pull can be made at the latest; None: at once, or nobody knows."""
        if not self.windows or self.until_s is None or self.window_s is None:
            return None
        return self.until_s + (self.windows - 1) * self.window_s

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "windows": self.windows, "ready_s": self.ready_s}


def pulls_of(host: str, needed: int, spent: int, budgets: Iterable[BudgetReport], kept_share: float) -> Pulls:
    """From what the ledger knows of the host's budgets; ``kept_share`` of each is not to be touched."""
    known = [one for one in budgets if one.host == host and one.limit is not None]
    if not known:
        return Pulls(host, needed, spent)
    kept = [math.ceil((one.limit or 0) * kept_share - 1e-6) for one in known]
    left = [
        max(0, (one.remaining or 0) - one.under_way - share) for one, share in zip(known, kept, strict=True)
    ]
    return Pulls(
        host,
        needed,
        spent,
        left=sum(left),
        per_window=sum((one.limit or 0) - share for one, share in zip(known, kept, strict=True)),
        window_s=max(one.window_s or 0 for one in known),
        until_s=max(one.until_s or 0.0 for one in known),
    )


@dataclass(frozen=True, slots=True)
class Rate:
    """How fast the last runs of a mirror were, from begin to end."""

    runs: int
    tags_per_s: float
    bytes_per_s: float

    def seconds(self, tags: int, written: int) -> float:
        """For so many tags that move, and bytes that are written."""
        for_bytes = written / self.bytes_per_s if self.bytes_per_s else 0.0
        return max(tags / self.tags_per_s, for_bytes)


def rate_of(mirror: str, runs: Iterable[RunReport]) -> Rate | None:
    """Measured on the last runs of the mirror that moved something; None where there are none."""
    moved = [one for one in runs if one.mirror == mirror and one.finished_s and one.states.get("updated")]
    moved = moved[:MOST_RUNS]
    seconds = sum((one.finished_s or 0.0) - one.started_s for one in moved)
    if seconds <= 0:
        return None
    copied = sum(sum((region.moved for region in one.regions), Moved()).copied_bytes for one in moved)
    return Rate(len(moved), sum(one.states["updated"] for one in moved) / seconds, copied / seconds)


@dataclass(slots=True)
class Forecast:
    """What a run of one mirror would do, and what it would cost."""

    mirror: str
    source: str
    run: str = ""
    """The run that waits to be begun with exactly this; empty where the plan is not kept."""
    error: str = ""
    """Why there is no plan; everything else then says nothing."""
    error_kind: str = ""
    selected: int = 0
    moving: int = 0
    """Tags that would move in at least one target."""
    dropped: Counter[str] = field(default_factory=Counter)
    """By the rule that dropped them."""
    dropped_tags: list[tuple[str, str]] = field(default_factory=list)
    """(tag, rule) of the first MOST_TAGS."""
    counts: Counter[State] = field(default_factory=Counter)
    """How many (tag, target) are in each state."""
    tags: list[PlannedTag] = field(default_factory=list)
    """The first MOST_TAGS."""
    tally: Tally = field(default_factory=Tally)
    """What the run would ask and move; at least that, where manifests were not read."""
    unread: int = 0
    """Manifests that were not read, for want of pulls or because only HEADs were asked for."""
    pulls: Sequence[Pulls] = ()
    paced_s: float = 0.0
    """How long the requests take at the pace that the operator allows."""
    rate: Rate | None = None
    deletions: list[Deletion] = field(default_factory=list)
    """Tags of targets that the source has no more: what becomes of them, and when."""
    two_way: bool = False
    """There is no source: those that another side has deleted."""

    def drop(self, dropped: Sequence[tuple[str, str]]) -> None:
        """Tags that were listed and not selected, with the rule of each."""
        self.dropped.update(rule for _, rule in dropped)
        self.dropped_tags += dropped[: MOST_TAGS - len(self.dropped_tags)]

    def add(self, tag: PlannedTag) -> None:
        self.selected += 1
        self.moving += tag.moves
        self.counts.update(target.state for target in tag.targets)
        if len(self.tags) < MOST_TAGS:
            self.tags.append(tag)

    @property
    def is_current(self) -> bool:
        return self.counts.keys() <= {"current"}

    @property
    def seconds(self) -> float | None:
        """How long the work would take, waits for budgets left out; None where nothing was measured."""
        if self.is_current:
            return 0.0
        if self.rate is None or self.unread:
            return None
        return max(self.rate.seconds(self.moving, sum(self.tally.written.values())), self.paced_s)

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "mirror": self.mirror,
            "source": self.source,
            "run": self.run or None,
            "error": self.error,
            "error_kind": self.error_kind,
            "selected": self.selected,
            "dropped": dict(self.dropped),
            "dropped_tags": self.dropped_tags,
            "counts": dict(self.counts),
            "tags": [asdict(tag) for tag in self.tags],
            "tags_left_out": self.selected - len(self.tags),
            "estimate": "heads" if self.unread else "read",
            "unread_manifests": self.unread,
            **self.tally.document(),
            "pulls": [one.document() for one in self.pulls],
            "paced_s": self.paced_s,
            "expected_s": self.seconds,
            "rate": asdict(self.rate) if self.rate else None,
            "deletions": [asdict(one) for one in self.deletions],
        }
