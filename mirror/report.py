"""What happened, as values: the ledger's side of ``status``, ``watch`` and the end of every run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

RunState = Literal["planned", "open", "done", "failed", "cancelled"]
"""``planned``: cut into batches, and not begun; ``done``: every tag is current or updated; ``failed``: ended,
and some tags failed."""
TagState = Literal[
    "pending", "current", "updated", "failed", "superseded", "held", "pinned", "waiting", "cancelled"
]
"""``held``: left alone, and somebody has to decide; ``pinned``: left alone because somebody has."""
DeletionState = Literal["waiting", "deleting", "deleted", "absent", "kept", "failed"]
"""``waiting``: for its grace; ``deleting``: begun; ``absent``: gone already; ``kept``: a guard says no."""
THERE: frozenset[str] = frozenset({"current", "updated"})
"""States of a tag that is what it is to be."""
FOLLOWS = "not moved, because of "
"""What the reason of a held-back target begins with; the reason itself stands at the other one."""


@dataclass(frozen=True, slots=True)
class Moved:
    """Bytes and blobs by how they came to be in a target."""

    copied_bytes: int = 0
    mounted_bytes: int = 0
    present_bytes: int = 0
    copied_blobs: int = 0
    mounted_blobs: int = 0
    present_blobs: int = 0

    def __add__(self, other: Moved) -> Moved:
        return Moved(*(a + b for a, b in zip(_values(self), _values(other), strict=True)))


@dataclass(frozen=True, slots=True)
class TargetReport:
    """One tag in one target."""

    repository: str
    region: str
    state: TagState
    reason: str = ""
    kind: str = ""
    """The error's class in :mod:`registry.errors` (``Unauthorized``, ``NotFound``, ...), where one failed."""
    previous: str | None = None
    """The digest the tag had before this run moved it."""
    moved: Moved = field(default_factory=Moved)
    signed: bool | None = None
    """Whether the source has a signature of it; None: the run has not looked for any."""
    left_out: tuple[str, ...] | None = None
    """Platforms of it that the mirror does not copy; None: the run has not looked at them."""


@dataclass(frozen=True, slots=True)
class TagReport:
    """One tag of a run; ``state`` is the worst of its targets'."""

    tag: str
    digest: str | None
    state: TagState
    reason: str
    targets: tuple[TargetReport, ...]
    repository: str = ""
    """Where it was taken from, ``host/repository`` or ``oci:DIR``; empty: from any target."""
    ref: str = ""
    """What it was taken from there: a tag or a digest."""
    rest: str = ""
    """In a run of many repositories: which one it is, as the wildcard stands for it."""

    @property
    def label(self) -> str:
        """What tells it from the run's others; a repository that cannot be listed has no tag."""
        return label_of(self.rest, self.tag)


@dataclass(frozen=True, slots=True)
class RegionReport:
    """How far one region is; ``planned_bytes`` grows while graphs are walked."""

    region: str
    tags_landed: int = 0
    tags_flipped: int = 0
    planned_bytes: int = 0
    moved: Moved = field(default_factory=Moved)


@dataclass(frozen=True, slots=True)
class FailureReport:
    """Tags that failed for one reason; what is each one's alone, its name and digests, reads ``…``."""

    reason: str
    count: int
    kinds: tuple[str, ...] = ()
    """As TargetReport's, of all targets in which they failed."""
    examples: tuple[str, ...] = ()
    """Some of the tags."""


@dataclass(frozen=True, slots=True)
class Deletion:
    """One tag that is gone from the source, in one target."""

    tag: str
    target: str
    region: str
    digest: str
    """What we put there."""
    state: DeletionState
    reason: str = ""
    kind: str = ""
    since_s: float = 0.0
    """Unix time at which a list first lacked it."""
    due_s: float = 0.0
    """Before this it is not deleted."""


@dataclass(frozen=True, slots=True)
class ExtraReport:
    """Tags of one target repository that are none of the mirror's."""

    repository: str
    count: int = 0
    tags: tuple[str, ...] = ()
    """The first of them."""
    error: str = ""
    """Why it is not known; empty otherwise."""


@dataclass(frozen=True, slots=True)
class FoundReport:
    """What a verifying run found in one target of the mirror, in tags."""

    repository: str
    """As the mirror has it: of many repositories the wildcard."""
    verified: int = 0
    missing: int = 0
    different: int = 0
    damaged: int = 0
    behind: int = 0
    """Nothing is wrong with them: what they are to be has not been copied yet."""
    held: int = 0
    """Of a two-way mirror: its sides moved apart, and nobody has decided."""
    unchecked: int = 0
    """Nothing can be said of them: a registry could not be asked, or only by pulls that count."""
    read: int = 0
    """Those of the verified whose bytes were all read in the pass that the run is of."""
    extra: int = 0
    """Not the mirror's; what its source has lost, perhaps. Nothing wrong by itself."""
    extras: tuple[ExtraReport, ...] = ()
    """The first repositories that have such tags, or whose list is not known."""
    extras_left: int = 0
    """How many such repositories there are beside these."""

    @property
    def wrong(self) -> dict[str, int]:
        """How many tags are not what they are to be, by what is wrong with them."""
        counts = {"missing": self.missing, "different": self.different, "damaged": self.damaged}
        return {word: count for word, count in {**counts, "behind": self.behind}.items() if count}


@dataclass(frozen=True, slots=True)
class DeepReport:
    """How far the reading of all bytes is, which may take several runs."""

    began_s: float
    """Unix time at which the first of them began to read."""
    read: int
    """Tags whose bytes were all read since, each counted in every target."""
    tags: int
    """... of so many that the run is about."""
    bytes: int
    """What this run has read to its end."""
    is_over: bool
    """The run left nothing unread that it could read: the next one begins a new pass."""


@dataclass(frozen=True, slots=True)
class RunReport:
    """One run, without its tags (they may be many: see :meth:`mirror.ledger.Ledger.tag_reports`)."""

    run: str
    mirror: str
    lane: str
    state: RunState
    source: str
    started_s: float
    """Unix time."""
    finished_s: float | None
    listed: bool
    """Whether every tag of the run is known; until then ``tags`` grows."""
    tags: int
    states: dict[str, int]
    """Concluded tags by TagState; ``pending`` for the rest."""
    regions: tuple[RegionReport, ...]
    repositories: int | None = None
    """Of a wildcard: how many were listed to their end; else None."""
    failures: tuple[FailureReport, ...] = ()
    """Why tags of concluded batches failed, the most frequent reasons first."""
    deletions: dict[str, int] = field(default_factory=dict)
    """Tags that the source has no more, counted in each target: how many are ``deleted``, ``waiting`` for
    their grace, ``kept`` by a guard, ``absent`` or ``failed``."""
    error: str = ""
    """Why the run as a whole failed (the source cannot be listed, ...); empty otherwise."""
    error_kind: str = ""
    kind: str = "mirror"
    """As :data:`mirror.spec.Kind`."""
    found: tuple[FoundReport, ...] = ()
    """What a verifying run has found so far, by target."""
    deep: DeepReport | None = None
    """Of a run that verifies bytes, too."""
    is_paused: bool = False
    """Nothing further of an open run is begun until it is resumed."""
    waits: str = ""
    """The last trouble that an open run waits out; empty where nothing is known to be in its way."""
    waits_until_s: float | None = None
    """Until when, in Unix time."""

    @property
    def ended(self) -> bool:
        return self.state not in {"planned", "open"}

    @property
    def rests(self) -> bool:
        """Nothing of it goes on before somebody resumes it."""
        return self.is_paused or self.state == "planned"

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


Tags = Iterator[TagReport]


def label_of(rest: str, tag: str) -> str:
    """What tells a tag from the others of its mirror; ``rest``: of a wildcard, what it stands for."""
    return ":".join(part for part in (rest, tag) if part)


def _values(moved: Moved) -> tuple[int, ...]:
    return (
        moved.copied_bytes,
        moved.mounted_bytes,
        moved.present_bytes,
        moved.copied_blobs,
        moved.mounted_blobs,
        moved.present_blobs,
    )
