"""Batches: up to some dozens of tags that travel together, and what became of each in each target."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from mirror.ledger import scripts
from mirror.ledger.keys import Client, Keys
from mirror.report import Moved, TagReport, TagState, TargetReport
from mirror.spec import MirrorSpec, Target
from registry.descriptor import Descriptor
from registry.errors import Throttled

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
    "superseded",
    "cancelled",
]
"""``landed``: all content is there; ``ready``: the tag may move; ``returned``, ``split``: it had to."""
STEP_OF: dict[BatchState, Literal["landed", "flipped", "returned"]] = {
    "landing": "landed",
    "flipping": "flipped",
    "returning": "returned",
}
"""What each region has done when it is through with a state."""
BEFORE_FLIP: tuple[OutcomeState, ...] = ("missing", "waiting", "landed")
KEEP_S = 7 * 86400
"""How long the tags of a concluded batch can be looked up."""

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
    "superseded": "superseded",
    "cancelled": "cancelled",
}
_WORST: tuple[TagState, ...] = (
    "failed", "held", "waiting", "pending", "cancelled", "superseded", "updated", "current",
)  # fmt: skip


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


@dataclass(frozen=True, slots=True)
class Outcome:
    """One tag in one target; ``previous`` is the journal: the digest the tag had before, None if new."""

    state: OutcomeState
    reason: str = ""
    kind: str = ""
    previous: str | None = None
    moved: Moved = field(default_factory=Moved)
    at: float = 0.0
    """Unix time: when it was proved (``landed``); until when it waits (``waiting``, ``ready``)."""

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

    @classmethod
    def failed(cls, error: Exception) -> Placing:
        asked = error.retry_after_s if isinstance(error, Throttled) else None
        return cls("failed", str(error), type(error).__name__, asked)


Placed = dict[tuple[str, str], Placing]
"""By (digest, target repository)."""
Outcomes = dict[tuple[str, str], Outcome]
"""By (tag, target repository)."""


class Batches:
    """The ledger's batches. A step that was already taken is refused, not repeated."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._redis = client
        self._keys = keys
        script = client.register_script
        self._advance, self._touch = script(scripts.ADVANCE), script(scripts.TOUCH)
        self._conclude, self._settle = script(scripts.CONCLUDE), script(scripts.SETTLE)
        self._claim, self._record = script(scripts.CLAIM), script(scripts.RECORD)

    @staticmethod
    def run_of(batch: str) -> str:
        return batch.rpartition(".")[0]

    def state(self, batch: str) -> BatchState:
        value: bytes | None = self._redis.hget(self._keys.batch(batch), "state")
        return value.decode() if value else "concluded"  # type: ignore[return-value]  # scripts write only these

    def advance(self, batch: str, expected: BatchState, state: BatchState) -> bool:
        """Move the batch on, if it is where the caller believes it to be."""
        return bool(self._advance([self._keys.batch(batch), self._keys.open], [batch, expected, state]))

    def touch(self, member: str) -> None:
        """Say that a batch (or a run that is being listed) moves, so that the sweeper lets it be."""
        self._touch([self._keys.open], [member])

    def swept(self, batch: str) -> int:
        """Count that the sweeper sent the batch on; returns how often it has."""
        return int(self._redis.hincrby(self._keys.batch(batch), "attempts", 1))

    # -- resolve -----------------------------------------------------------------------------------

    def tags(self, batch: str) -> list[tuple[str, str]]:
        """The (target tag, source ref) pairs of the batch."""
        value = self._redis.hget(self._keys.batch(batch), "tags")
        return [(tag, ref) for tag, ref in json.loads(value)] if value else []

    def set_resolved(self, batch: str, resolved: list[Resolved]) -> None:
        """What the tags are for the whole life of this batch; the first answer stays."""
        pipe = self._redis.pipeline()
        for one in resolved:
            document = one.descriptor.document() if one.descriptor else None
            pipe.hsetnx(self._keys.tags(batch), one.tag, json.dumps({**asdict(one), "descriptor": document}))
        pipe.execute()

    def resolved(self, batch: str) -> list[Resolved]:
        """In the order of the batch."""
        rows = self._redis.hgetall(self._keys.tags(batch))
        return [_resolved(tag, ref, rows.get(tag.encode())) for tag, ref in self.tags(batch)]

    # -- land --------------------------------------------------------------------------------------

    def due(self, batch: str, region: str, item: str, document: Mapping[str, Any] | None = None) -> bool:
        """Add something that must be done before the region's manifests go in; False if it was due."""
        key = self._keys.due(batch, region)
        added = bool(self._redis.hsetnx(key, item, json.dumps(document or {})))
        self._redis.expire(key, KEEP_S)
        return added

    def due_alone(self, batch: str, region: str, item: str) -> None:
        """Make ``item`` the only thing due: its caller does all the rest itself."""
        pipe = self._redis.pipeline()
        pipe.delete(self._keys.due(batch, region))
        pipe.hset(self._keys.due(batch, region), item, "{}")
        pipe.expire(self._keys.due(batch, region), KEEP_S)
        pipe.execute()

    def due_document(self, batch: str, region: str, item: str) -> dict[str, Any] | None:
        """What was said of the item when it became due; None once it is done."""
        value = self._redis.hget(self._keys.due(batch, region), item)
        return dict(json.loads(value)) if value else None

    def settle(self, batch: str, region: str, item: str) -> bool:
        """Strike ``item`` off; whether nothing is due any more, so that the caller puts the manifests."""
        return int(self._settle([self._keys.due(batch, region)], [item])) == 0

    def add_placed(self, batch: str, region: str, placed: Placed) -> None:
        """What became of blobs in targets, for whoever puts the manifests."""
        if placed:
            key = self._keys.placed(batch, region)
            rows = {
                f"{digest}\n{target}": json.dumps(asdict(one)) for (digest, target), one in placed.items()
            }
            self._redis.hset(key, mapping=rows)
            self._redis.expire(key, KEEP_S)

    def placed(self, batch: str, region: str) -> Placed:
        rows = self._redis.hgetall(self._keys.placed(batch, region))
        return {_pair(key): Placing(**json.loads(value)) for key, value in rows.items()}

    def region_done(self, batch: str, region: str, step: Literal["landed", "flipped", "returned"]) -> None:
        self._redis.hset(self._keys.batch(batch), mapping={f"{step}:{region}": "1", "attempts": "0"})

    def is_through(self, batch: str, region: str, state: Literal["landing", "flipping", "returning"]) -> bool:
        """Whether the region has nothing to do in that state: it has done it, or the batch went on."""
        return self.state(batch) != state or region in self.regions_done(batch, STEP_OF[state])

    def reopen(
        self, batch: str, regions: Iterable[str], *steps: Literal["landed", "flipped", "returned"]
    ) -> None:
        """The regions have to take the steps again."""
        names = [f"{step}:{region}" for region in regions for step in steps]
        self._redis.hdel(self._keys.batch(batch), "asked:finalize", "asked:conclude", *names)

    def regions_done(self, batch: str, step: Literal["landed", "flipped", "returned"]) -> set[str]:
        names = self._redis.hkeys(self._keys.batch(batch))
        return {name.decode().partition(":")[2] for name in names if name.decode().startswith(f"{step}:")}

    def roll(self, batch: str) -> int:
        """Count one more attempt to move a split tag forward."""
        return int(self._redis.hincrby(self._keys.batch(batch), "rolls", 1))

    def ask_for(self, batch: str, task: str) -> None:
        """Note that ``task`` came by before everything it needs was done: whoever is last sends it again."""
        self._redis.hset(self._keys.batch(batch), f"asked:{task}", "1")

    def asked_for(self, batch: str, task: str) -> bool:
        return bool(self._redis.hexists(self._keys.batch(batch), f"asked:{task}"))

    # -- outcomes ----------------------------------------------------------------------------------

    def record(
        self,
        batch: str,
        outcomes: Mapping[tuple[str, str], Outcome],
        over: Sequence[OutcomeState] = BEFORE_FLIP,
    ) -> None:
        """Write what became of tags in targets, where nothing is known or what is known is in ``over``.

        A step that comes late, after the batch has gone on without it, so changes nothing.
        """
        if outcomes:
            rows = [
                part
                for (tag, target), one in outcomes.items()
                for part in (f"{tag}\n{target}", json.dumps(asdict(one)))
            ]
            self._record([self._keys.outcomes(batch)], [f" {' '.join(over)} ", *rows])

    def outcomes(self, batch: str) -> Outcomes:
        rows = self._redis.hgetall(self._keys.outcomes(batch))
        return {_pair(key): _outcome(json.loads(value)) for key, value in rows.items()}

    def add_associates(self, batch: str, tag: str, associates: Sequence[Associate]) -> None:
        """What travels with ``tag`` in every target; the first answer stays."""
        value = json.dumps([[one.subject, one.descriptor.document(), one.tag] for one in associates])
        self._redis.hsetnx(self._keys.associates(batch), tag, value)

    def associates(self, batch: str) -> dict[str, list[Associate]]:
        """By the tag they travel with; a tag without any is left out."""
        rows = self._redis.hgetall(self._keys.associates(batch))
        parsed = {
            tag.decode(): [
                Associate(subject, Descriptor.parse(at), name) for subject, at, name in json.loads(row)
            ]
            for tag, row in rows.items()
        }
        return {tag: found for tag, found in parsed.items() if found}

    def claim(
        self, repository: str, one: Resolved, *, sure: bool = False
    ) -> Literal["ours", "newer", "unsure"]:
        """Claim the tag of a target for what was resolved (G5).

        ``newer``: what a later question to the source found stands. ``unsure``: another digest was claimed
        after ours was seen, though asked for earlier: the source has to say which; then ``sure``.
        """
        if one.descriptor is None:
            raise ValueError(f"{one.tag} is not resolved")
        words = [one.tag, one.generation, one.descriptor.digest, one.at, int(sure)]
        answers: dict[int, Literal["ours", "newer", "unsure"]] = {0: "newer", 1: "ours", 2: "unsure"}
        return answers[int(self._claim([self._keys.newest(repository)], words))]

    def claimed(self, repository: str, tag: str) -> tuple[int, str]:
        """The generation and digest of the newest claim of the tag; (0, "") if there is none."""
        value = self._redis.hget(self._keys.newest(repository), tag)
        generation, digest, _ = value.decode().split(" ") if value else ("0", "", "")
        return int(generation), digest

    def unclaimed(self, repositories: Iterable[str], tags: Sequence[str]) -> set[str]:
        """Those of ``tags`` that no run ever moved in any of the repositories."""
        pipe = self._redis.pipeline(transaction=False)
        for repository in repositories if tags else ():
            pipe.hmget(self._keys.newest(repository), list(tags))
        found = zip(*pipe.execute(), strict=True)
        return {tag for tag, claims in zip(tags, found, strict=False) if not any(claims)}

    def has_claims(self, repository: str) -> bool:
        """Whether any run ever moved a tag in the repository."""
        return bool(self._redis.exists(self._keys.newest(repository)))

    # -- conclude ----------------------------------------------------------------------------------

    def conclude(self, batch: str, expected: BatchState, spec: MirrorSpec) -> bool:
        """Close the batch and count its tags, once; ends the run with its last batch."""
        run = self.run_of(batch)
        counts = Counter(report.state for report in self.tag_reports(batch, spec))
        flat = [part for pair in counts.items() for part in pair]
        done = self._conclude(
            [
                self._keys.batch(batch),
                self._keys.run(run),
                self._keys.flight(run),
                self._keys.open,
                self._keys.parked,
            ],
            [batch, run, expected, *flat],
        )
        if done:
            self._expire(batch, spec)
        return bool(done)

    def tag_reports(self, batch: str, spec: MirrorSpec) -> Iterator[TagReport]:
        """Every tag of the batch, as far as it is known."""
        outcomes = self.outcomes(batch)
        for one in self.resolved(batch):
            targets = tuple(_target_report(one, target, outcomes) for target in spec.targets)
            states: list[TagState] = [target.state for target in targets]
            state = min(states, key=_WORST.index)
            reason = next((t.reason for t in targets if t.state == state and t.reason), "")
            digest = one.descriptor.digest if one.descriptor else None
            yield TagReport(one.tag, digest, state, reason, targets)

    def count(self, run: str, region: str, counts: Mapping[str, int]) -> bool:
        """Add to a region's progress; whether the run was cancelled meanwhile."""
        pipe = self._redis.pipeline(transaction=False)
        for name, number in counts.items():
            pipe.hincrby(self._keys.progress(run), f"{region}\n{name}", number)
        pipe.hget(self._keys.run(run), "state")
        return bool(pipe.execute()[-1] == b"cancelled")

    def _expire(self, batch: str, spec: MirrorSpec) -> None:
        pipe = self._redis.pipeline(transaction=False)
        for key in (self._keys.batch, self._keys.tags, self._keys.outcomes, self._keys.associates):
            pipe.expire(key(batch), KEEP_S)
        for region in spec.regions:
            pipe.delete(self._keys.due(batch, region), self._keys.placed(batch, region))
        pipe.execute()


def _target_report(one: Resolved, target: Target, outcomes: Outcomes) -> TargetReport:
    outcome = outcomes.get((one.tag, target.repository))
    if outcome is None:
        state: TagState = "failed" if one.reason else "pending"
        return TargetReport(target.repository, target.region, state, one.reason, one.kind)
    return TargetReport(
        repository=target.repository,
        region=target.region,
        state=_SHOWN[outcome.state],
        reason=outcome.reason,
        kind=outcome.kind,
        previous=outcome.previous,
        moved=outcome.moved,
    )


def _resolved(tag: str, ref: str, row: bytes | None) -> Resolved:
    if row is None:
        return Resolved(tag, ref)
    value = json.loads(row)
    at = Descriptor.parse(value["descriptor"]) if value["descriptor"] else None
    return Resolved(**{**value, "descriptor": at})


def _pair(key: bytes) -> tuple[str, str]:
    tag, _, target = key.decode().partition("\n")
    return tag, target


def _outcome(document: dict[str, Any]) -> Outcome:
    return Outcome(**{**document, "moved": Moved(**document["moved"])})
