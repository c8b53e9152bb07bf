"""What the ledger says of a batch, as values, and how each is written in Redis."""

from __future__ import annotations

import json
import zlib
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, TypeGuard

from mirror.ledger.newer import own_fields
from mirror.report import Moved, TagReport, TagState, TargetReport
from mirror.spec import MirrorSpec, Target
from registry.descriptor import Descriptor
from registry.errors import RegistryError, Throttled

BatchState = Literal["queued", "resolving", "landing", "flipping", "returning", "concluded"]
OutcomeState = Literal[
    "missing",
    "waiting",
    "landed",
    "ready",
    "current",
    "updated",
    "returned",
    "split",
    "failed",
    "held",
    "superseded",
    "cancelled",
]
"""``landed``: all content is there; ``ready``: the tag may move; ``returned``, ``split``: it had to;
``held``: it is left alone on purpose."""
HELD = "Held"
"""The kind of a reason why a tag is left alone on purpose: it did not fail."""
PINNED = "Pinned"
"""The kind of a reason that says that a rollback has pinned the tag: nobody has to decide anything."""
GONE = "Gone"
"""The kind of a reason that says that a tag is nowhere any more, as everybody wanted."""
DELETED = "Deleted"
"""The kind of a reason that says that a side has deleted the tag, and that the others are to follow."""
RegionStep = Literal["landed", "flipped", "returned"]
STEP_OF: dict[BatchState, RegionStep] = {
    "landing": "landed",
    "flipping": "flipped",
    "returning": "returned",
}
"""What each region has done when it is through with a state."""
BEFORE_FLIP: tuple[OutcomeState, ...] = ("missing", "waiting", "landed")


class UnknownRun(LookupError):
    """No run of that name is in the ledger; ``args[0]`` is the name."""

    def __str__(self) -> str:
        return f"no run {self.args[0]!r} in the ledger; `sealift runs` lists them"


class NewerRun(LookupError):
    """A run is on terms that this version does not know; ``args[0]`` is its name."""

    def __str__(self) -> str:
        return (
            f"run {self.args[0]} was begun by a newer version of Sealift, on terms that this one does not "
            "know: use that version"
        )


@dataclass(frozen=True, slots=True)
class AsRead:
    """What the ledger had of a tag of a two-way mirror when it was looked at, word for word.

    Who concludes writes only over that: another run may have been there since.
    """

    agreed: str = ""
    conflict: str = ""
    deleted: str = ""


@dataclass(frozen=True, slots=True)
class Merged:
    """What was seen of a tag of a two-way mirror, and what was decided."""

    seen: tuple[str | None, ...]
    """What each side had, in the order of the spec's targets."""
    base: str | None = None
    """What all had before, as far as it is known."""
    kind: str = "take"
    """As :class:`mirror.merge.Verdict` has it; ``pinned``: what it is to be is what it is pinned at."""
    rule: str = ""
    since: float = 0.0
    """When a conflict about it was first seen that is on record, in Unix time; 0: there is none."""
    read: AsRead = field(default_factory=AsRead)

    @classmethod
    def parse(cls, document: dict[str, Any]) -> Merged:
        read = AsRead(**own_fields(AsRead, document.get("read", {})))
        return cls(**{**own_fields(cls, document), "seen": tuple(document["seen"]), "read": read})


@dataclass(frozen=True, slots=True)
class Resolved:
    """A tag and what it was when the batch was resolved, or why it could not be."""

    tag: str
    ref: str
    """What names it at the source: a tag or a digest."""
    descriptor: Descriptor | None = None
    reason: str = ""
    kind: str = ""
    generation: int = 0
    """Which of two answers of the source is the newer one."""
    at: float = 0.0
    """When the source was asked, in Unix time of the server."""
    merged: Merged | None = None
    """Of a two-way mirror; None where all have had the digest before and still have it."""

    @property
    def is_decided(self) -> bool:
        """Whether sides moved apart, and a rule or a person wants it so: what is replaced goes on record."""
        return self.merged is not None and bool(self.merged.rule)

    def seen_at(self, position: int) -> str | None:
        """Of a two-way mirror: what the side at that position had."""
        if self.merged:
            return self.merged.seen[position]
        return self.descriptor.digest if self.descriptor else None


@dataclass(frozen=True, slots=True)
class Outcome:
    """One tag in one target; ``previous`` is the journal: the digest the tag had before, None if new."""

    state: OutcomeState
    reason: str = ""
    kind: str = ""
    previous: str | None = None
    moved: Moved = field(default_factory=Moved)
    at: float = 0.0
    """Unix time: when it was proved (``landed``) or asked for (``current``, 0 where the ledger was believed);
    until when it waits (``waiting``, ``ready``)."""
    signed: bool | None = None
    """Whether the source has a signature of it; None: that was not looked for."""
    left_out: tuple[str, ...] | None = None
    """Platforms of it that the mirror does not copy; None: that was not looked at."""
    may_have_moved: bool = False
    """Of a tag that was decided about (:attr:`Resolved.is_decided`): it was moved and not taken back, or may
    have been, whatever its state says. The ledger has this before the tag moves."""

    def like(self, before: Outcome) -> Outcome:
        """With what was known of the image itself, whatever became of it."""
        return replace(self, signed=before.signed, left_out=before.left_out)

    @classmethod
    def failed(cls, error: Exception, previous: str | None = None) -> Outcome:
        return cls("failed", str(error), type(error).__name__, previous)


@dataclass(frozen=True, slots=True)
class Associate:
    """A manifest about ``subject``; ``tag`` names a digest tag (``sha256-….sig``), empty for a referrer."""

    subject: str
    descriptor: Descriptor
    tag: str = ""


@dataclass(frozen=True, slots=True)
class Placing:
    """One blob in one target: how it came to be there, or why it could not."""

    how: Literal["copied", "mounted", "present", "failed"]
    reason: str = ""
    kind: str = ""
    retry_after_s: float | None = None
    end: str = field(default="", compare=False)
    """The registry or folder that failed."""
    is_shared: bool = field(default=False, compare=False)
    """It was copied from what was read for another target; not kept in the ledger."""

    @classmethod
    def failed(cls, error: Exception) -> Placing:
        asked = error.retry_after_s if isinstance(error, Throttled) else None
        end = error.end if isinstance(error, RegistryError) else ""
        return cls("failed", str(error), type(error).__name__, asked, end)


Placed = dict[tuple[str, str], Placing]
"""By (digest, target repository)."""
Outcomes = dict[tuple[str, str], Outcome]
"""By (tag, target repository)."""


@dataclass(frozen=True, slots=True)
class View:
    """A batch as a step finds it: everything that is looked at before anything is done, in one exchange.

    The state was read first and the clock last: what a step that came before has written is in here.
    """

    state: BatchState
    repository: str
    """The one it is of, where its run is of many."""
    done: frozenset[tuple[RegionStep, str]]
    """Steps that regions have taken."""
    resolved: list[Resolved]
    """In the order of the batch."""
    outcomes: Outcomes
    associates: dict[str, list[Associate]]
    """By the tag they travel with; a tag without any is left out."""
    is_cancelled: bool
    """The run was."""
    has_trouble: bool
    """It is noted that the batch has trouble, or that something of its run waits."""
    now: float
    """The server's clock in Unix time."""

    @property
    def has_any(self) -> bool:
        """Whether any of the tags was resolved."""
        return any(one.descriptor for one in self.resolved)

    def regions_done(self, step: RegionStep) -> set[str]:
        return {region for name, region in self.done if name == step}

    def is_through(self, region: str, state: Literal["landing", "flipping", "returning"]) -> bool:
        """Whether the region has nothing to do in that state: it has done it, or the batch went on."""
        return self.state != state or (STEP_OF[state], region) in self.done


_OTHER_FIELDS = frozenset({"descriptor", "moved", "is_shared", "merged"})
_RESOLVED, _OUTCOME, _MOVED, _PLACING = (
    tuple((one.name, one.default) for one in fields(kind) if one.name not in _OTHER_FIELDS)
    for kind in (Resolved, Outcome, Moved, Placing)
)
"""Plain fields of what is written row by row, with their defaults."""
_SHOWN: dict[OutcomeState, TagState] = {
    "missing": "pending",
    "waiting": "waiting",
    "landed": "pending",
    "ready": "pending",
    "current": "current",
    "updated": "updated",
    "returned": "failed",
    "split": "failed",
    "failed": "failed",
    "held": "held",
    "superseded": "superseded",
    "cancelled": "cancelled",
}
_LEFT_ALONE: dict[str, TagState] = {HELD: "held", PINNED: "pinned", GONE: "current", DELETED: "current"}
"""By the kind of the reason why a tag has no digest."""
_WORST: tuple[TagState, ...] = (
    "failed", "held", "waiting", "pending", "cancelled", "superseded", "pinned", "updated", "current",
)  # fmt: skip


def resolved_row(one: Resolved) -> str:
    document: dict[str, Any] = {"descriptor": one.descriptor.document()} if one.descriptor else {}
    if one.merged:
        document["merged"] = asdict(one.merged)
    return json.dumps(_told(one, _RESOLVED) | document)


def resolved_of(tags: bytes | None, rows: Mapping[bytes, bytes]) -> list[Resolved]:
    """``tags``: the batch's (target tag, source ref) pairs, whose order is kept."""
    return [_resolved(tag, ref, rows.get(tag.encode())) for tag, ref in json.loads(tags or b"[]")]


def outcomes_of(rows: Mapping[bytes, bytes]) -> Outcomes:
    return {pair_of(key): _outcome(json.loads(value)) for key, value in rows.items()}


def outcome_row(one: Outcome) -> str:
    moved = _told(one.moved, _MOVED)
    return json.dumps(_told(one, _OUTCOME) | ({"moved": moved} if moved else {}))


def associates_row(associates: Sequence[Associate]) -> str:
    return json.dumps([[one.subject, one.descriptor.document(), one.tag] for one in associates])


def associates_of(rows: Mapping[bytes, bytes]) -> dict[str, list[Associate]]:
    """By the tag they travel with; a tag without any is left out."""
    parsed = {
        tag.decode(): [
            Associate(subject, Descriptor.parse(at), name) for subject, at, name in json.loads(row)
        ]
        for tag, row in rows.items()
    }
    return {tag: found for tag, found in parsed.items() if found}


def placed_rows(placed: Placed) -> dict[str, str]:
    return {
        f"{digest}\n{target}": json.dumps(_told(one, _PLACING)) for (digest, target), one in placed.items()
    }


def placed_of(rows: Mapping[bytes, bytes]) -> Placed:
    return {pair_of(key): Placing(**own_fields(Placing, json.loads(value))) for key, value in rows.items()}


def packed(resolved: Sequence[Resolved], outcomes: Outcomes) -> bytes:
    """What became of a batch's tags, for as long as it can be looked up: some hundred bytes each."""
    tags = [[one.tag, one.ref] for one in resolved]
    rows = {one.tag: resolved_row(one) for one in resolved}
    ended = {f"{tag}\n{target}": outcome_row(one) for (tag, target), one in outcomes.items()}
    return zlib.compress(json.dumps([tags, rows, ended]).encode())


def unpacked(content: bytes) -> tuple[list[Resolved], Outcomes]:
    tags, rows, ended = json.loads(zlib.decompress(content))
    resolved = [_resolved(tag, ref, rows[tag]) for tag, ref in tags]
    return resolved, {pair_of(key.encode()): _outcome(json.loads(row)) for key, row in ended.items()}


def done_of(names: Iterable[bytes]) -> frozenset[tuple[RegionStep, str]]:
    """From the fields of a batch's hash."""
    parts = (name.decode().partition(":") for name in names)
    return frozenset((step, region) for step, colon, region in parts if colon and _is_step(step))


def is_taken(state: BatchState, region: str, done: Container[tuple[RegionStep, str]]) -> bool:
    """Whether the region has nothing more to do while a batch is in that state; before it lands all have."""
    return state == "concluded" or (state in STEP_OF and (STEP_OF[state], region) in done)


def tag_reports(resolved: Iterable[Resolved], outcomes: Outcomes, spec: MirrorSpec) -> Iterator[TagReport]:
    """Every tag, as far as it is known."""
    for one in resolved:
        targets = tuple(_target_report(one, target, outcomes) for target in spec.targets)
        states: list[TagState] = [target.state for target in targets]
        state = min(states, key=_WORST.index)
        reason = next((t.reason for t in targets if t.state == state and t.reason), "")
        digest = one.descriptor.digest if one.descriptor else None
        yield TagReport(one.tag, digest, state, reason, targets, spec.origin, one.ref, spec.rest)


def pair_of(key: bytes) -> tuple[str, str]:
    """(tag or digest, target)."""
    first, _, target = key.decode().partition("\n")
    return first, target


def _is_step(name: str) -> TypeGuard[RegionStep]:
    return name in {"landed", "flipped", "returned"}


def _target_report(one: Resolved, target: Target, outcomes: Outcomes) -> TargetReport:
    outcome = outcomes.get((one.tag, target.repository))
    if outcome is None:
        state: TagState = "pending"
        if one.reason:
            state = _LEFT_ALONE.get(one.kind, "failed")
        return TargetReport(target.repository, target.region, state, one.reason, one.kind)
    return TargetReport(
        repository=target.repository,
        region=target.region,
        state=_SHOWN[outcome.state],
        reason=outcome.reason,
        kind=outcome.kind,
        previous=outcome.previous,
        moved=outcome.moved,
        signed=outcome.signed,
        left_out=outcome.left_out,
    )


def _resolved(tag: str, ref: str, row: bytes | str | None) -> Resolved:
    if row is None:
        return Resolved(tag, ref)
    value = json.loads(row)
    at = Descriptor.parse(value["descriptor"]) if "descriptor" in value else None
    merged = Merged.parse(value["merged"]) if "merged" in value else None
    return Resolved(**{**own_fields(Resolved, value), "descriptor": at, "merged": merged})


def _outcome(document: dict[str, Any]) -> Outcome:
    moved, left_out = Moved(**own_fields(Moved, document.get("moved", {}))), document.get("left_out")
    return Outcome(
        **{
            **own_fields(Outcome, document),
            "moved": moved,
            "left_out": left_out if left_out is None else tuple(left_out),
        }
    )


def _told(one: object, plain: Sequence[tuple[str, object]]) -> dict[str, Any]:
    """What is not as by default: a batch has a hundred of these and more."""
    return {name: value for name, default in plain if (value := getattr(one, name)) != default}
