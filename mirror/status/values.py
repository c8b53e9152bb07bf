"""What the status page shows, as values; ``status.json`` is them as they are. Times are Unix times."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

State = Literal["in step", "behind", "differs", "down", "unknown"]
"""Of a mirror: its registries hold the same; a move of the source is not everywhere yet; something is
missing, different or damaged for another reason, or people have to decide; a registry is down; nothing is
known."""
HeldState = Literal["same", "unsigned", "different", "missing", "damaged", "unknown"]
"""``unsigned``: the image is the same, and signed at the source; what belongs to it is not all there."""
Role = Literal["source", "target", "side"]


@dataclass(frozen=True, slots=True)
class Held:
    """One tag in one registry, as the last run found or left it."""

    state: HeldState
    digest: str | None = None
    """None: there is none, or it is not known."""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class TagStatus:
    """One tag and what it is in each place, in the order of the mirror's places."""

    tag: str
    digest: str | None
    """At the source; of a two-way mirror: on which its sides agree."""
    held: tuple[Held, ...]
    behind_since: float | None = None
    """Since when the source's move is known and not everywhere; None: it is everywhere."""
    signed: bool | None = None
    """Whether a signature of it was found at the source; None: no run that is known has looked for any."""
    left_out: tuple[str, ...] | None = None
    """Its platforms that are not copied; None: all are, or no run that is known has looked."""

    @property
    def is_same(self) -> bool:
        return all(one.state == "same" for one in self.held)


@dataclass(frozen=True, slots=True)
class Checked:
    """What the last verifying run found in one place, in tags."""

    verified: int
    missing: int
    different: int
    damaged: int
    behind: int
    unchecked: int
    extra: int

    @property
    def wrong(self) -> int:
        return self.missing + self.different + self.damaged


@dataclass(frozen=True, slots=True)
class Verified:
    """The last run that verified the mirror."""

    run: str
    at: float
    state: str
    """As :data:`mirror.report.RunState`."""
    deep: bool
    """Whether bytes were read, too."""


@dataclass(frozen=True, slots=True)
class Place:
    """One repository of a mirror."""

    repository: str
    host: str
    """Names one of the registries; empty for a folder, or one that is not shown."""
    role: Role
    region: str
    """Of a source: empty."""
    pull: str
    """How to pull from there: ``docker pull host/repository:tag``; empty where docker cannot."""
    checked: Checked | None = None


@dataclass(frozen=True, slots=True)
class OpenRun:
    """One run that is under way."""

    run: str
    kind: str
    lane: str
    started: float
    tags: int
    done: int
    """Tags that it is through with."""
    listed: bool
    """Whether all tags are known; until then ``tags`` grows."""
    planned_bytes: int
    moved_bytes: int
    """... of these, copied, mounted or found to be there."""
    paused: bool
    waits: str
    """What it waits for; empty: nothing."""


@dataclass(frozen=True, slots=True)
class LastRun:
    """The last run that brought tags, whether it is over or not."""

    run: str
    state: str
    started: float
    finished: float | None
    failed: int
    """Tags."""
    error: str


@dataclass(frozen=True, slots=True)
class MirrorStatus:
    """One mirror."""

    name: str
    state: State
    why: str
    """Of the state, in words."""
    two_way: bool
    places: tuple[Place, ...]
    tags: tuple[TagStatus, ...]
    """The newest."""
    tags_left: int
    """How many more the last run had."""
    lag_s: float | None
    """How long the oldest move that is not everywhere has been known; None: all are."""
    platforms: tuple[str, ...]
    """Which are copied; empty: all."""
    signatures: bool
    """Whether signatures, attestations and SBOMs are copied, too; where not, nobody looks for any."""
    conflicts: int
    last: LastRun | None
    verified: Verified | None
    open: tuple[OpenRun, ...]


@dataclass(frozen=True, slots=True)
class Day:
    """One day (UTC)."""

    began: int
    share: float | None
    """Of its probes those that found the registry up, 0 to 1; None: there was none."""


@dataclass(frozen=True, slots=True)
class View:
    """A registry as it is seen from one region."""

    region: str
    standing: Literal["up", "unknown", "down"]
    down_since: float | None
    reason: str
    seen: float | None
    """When it was probed last."""
    latency_s: float | None
    bytes_per_second: float | None
    day_share: float | None
    """Of the probes of the last 24 hours."""
    days: tuple[Day, ...]
    """The last 30, the oldest first."""


@dataclass(frozen=True, slots=True)
class Limit:
    """What a registry still allows this fleet."""

    pulls: int | None
    window_s: int | None
    remaining: int | None
    requests_per_minute: int | None
    paused_until: float | None


@dataclass(frozen=True, slots=True)
class RegistryStatus:
    """One registry."""

    host: str
    views: tuple[View, ...]
    limit: Limit

    @property
    def standing(self) -> Literal["up", "partly up", "unknown", "down"]:
        """Down where every region that knows says so."""
        known = {view.standing for view in self.views} - {"unknown"}
        if known == {"up", "down"}:
            return "partly up"
        return "up" if "up" in known else "down" if known else "unknown"


@dataclass(frozen=True, slots=True)
class Incident:
    """Something that happened, newest first on the page."""

    id: str
    """Stays the same."""
    at: float
    kind: Literal["registry_down", "registry_back", "split", "conflict", "damage"]
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Status:
    """The whole page."""

    made: float
    title: str
    mirrors: tuple[MirrorStatus, ...]
    registries: tuple[RegistryStatus, ...]
    incidents: tuple[Incident, ...]
    schema: Literal[1] = 1

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        return {"schema": self.schema, **asdict(self)}
