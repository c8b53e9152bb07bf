"""Batches: up to some dozens of tags that travel together, and what became of each in each target."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from mirror.ledger import lasting, scripts, wait_scripts
from mirror.ledger.events import of_tags
from mirror.ledger.failures import MOST_EXAMPLES, MOST_REASONS, OTHER, grouped
from mirror.ledger.keys import Client, Keys
from mirror.ledger.leases import LEASE_S
from mirror.ledger.remembered import Remembered
from mirror.ledger.totals import counts, lags_of
from mirror.ledger.values import (
    BEFORE_FLIP,
    STEP_OF,
    Associate,
    BatchState,
    Outcome,
    Outcomes,
    OutcomeState,
    Placed,
    Placing,
    RegionStep,
    Resolved,
    View,
    associates_of,
    associates_row,
    done_of,
    outcome_row,
    outcomes_of,
    packed,
    placed_of,
    placed_rows,
    resolved_of,
    resolved_row,
    tag_reports,
    unpacked,
)
from mirror.ledger.verified import found_of, totals_of
from mirror.ledger.views import state_of, view_of
from mirror.report import TagReport
from mirror.spec import MirrorSpec

__all__ = [
    "BEFORE_FLIP",
    "STEP_OF",
    "Associate",
    "BatchState",
    "Batches",
    "Outcome",
    "OutcomeState",
    "Outcomes",
    "Placed",
    "Placing",
    "RegionStep",
    "Resolved",
    "View",
]

KEEP_S = 7 * 86400
"""How long the tags of a concluded batch can be looked up, and its blobs should it never conclude."""
_VIEWED = 6
"""Answers that make a view."""
LONGEST_S = 90 * 86400
"""Longer than any batch is open: what a step writes that came too late has an end."""


class Batches:
    """The ledger's batches. A step that was already taken is refused, not repeated."""

    def __init__(self, client: Client, keys: Keys, remembered: Remembered) -> None:
        """``remembered``: what concluded batches leave for good."""
        self._redis, self._keys, self._remembered = client, keys, remembered
        script = client.register_script
        self._touch = script(scripts.TOUCH)
        self._conclude = script(scripts.CONCLUDE)
        self._leave_behind = script(scripts.LEAVE_BEHIND)

    @staticmethod
    def run_of(batch: str) -> str:
        return batch.rpartition(".")[0]

    def repository(self, batch: str) -> str:
        """Of a run of many repositories the one that the batch is of; else empty."""
        value = self._redis.hget(self._keys.batch(batch), "repository")
        return value.decode() if value else ""

    def state(self, batch: str) -> BatchState:
        return state_of(self._redis.hget(self._keys.batch(batch), "state"))

    def view(self, batch: str) -> View:
        """What a step looks at before it does anything."""
        pipe = self._redis.pipeline(transaction=False)
        self._ask_view(pipe, batch)
        return view_of(pipe.execute())

    def view_with(self, batch: str, key: str, token: str) -> View | None:
        """The same once the lease of that key is taken; None where another has it."""
        pipe = self._redis.pipeline(transaction=False)
        pipe.set(key, token, nx=True, px=int(LEASE_S * 1000))
        self._ask_view(pipe, batch)
        taken, *answers = pipe.execute()
        return view_of(answers) if taken else None

    def view_of_region(self, batch: str, region: str) -> tuple[View, Placed]:
        """The same, with what became of blobs in the region's targets, for whoever puts the manifests."""
        pipe = self._redis.pipeline(transaction=False)
        self._ask_view(pipe.hgetall(self._keys.placed(batch, region)), batch)
        rows, *rest = pipe.execute()
        return view_of(rest), placed_of(rows)

    def _ask_view(self, pipe: Client, batch: str) -> None:
        for key in (self._keys.batch, self._keys.tags, self._keys.outcomes, self._keys.associates):
            pipe.hgetall(key(batch))
        pipe.hmget(self._keys.run(self.run_of(batch)), "state", "waits")
        pipe.time()

    def advance(
        self,
        batch: str,
        expected: BatchState,
        state: BatchState,
        outcomes: Outcomes | None = None,
        over: Sequence[OutcomeState] = (),
    ) -> bool:
        """Move the batch on, if it is where the caller believes; ``outcomes`` are recorded before."""
        pipe = self._redis.pipeline(transaction=False)
        self.record(batch, outcomes or {}, over, on=pipe)
        self._ask_advance(pipe, batch, expected, state)
        return bool(pipe.execute()[-1])

    def _ask_advance(self, pipe: Client, batch: str, expected: BatchState, state: BatchState) -> None:
        pipe.eval(scripts.ADVANCE, 2, self._keys.batch(batch), self._keys.open, batch, expected, state)

    def touch(self, member: str) -> None:
        """Say that a batch (or a run that is being listed) moves, so that the sweeper lets it be."""
        self._touch([self._keys.open], [member])

    def leave_behind(self, batch: str) -> bool:
        """One region is through with the batch, others may take their time; whether that is news.

        Up to BEHIND_WINDOWS times the window, such batches take no room in it.
        """
        run = self.run_of(batch)
        return bool(self._leave_behind([self._keys.flight(run), self._keys.behind(run)], [batch]))

    def swept(self, batch: str) -> int:
        """Count that the sweeper sent the batch on; returns how often it has."""
        return int(self._redis.hincrby(self._keys.batch(batch), "attempts", 1))

    # -- resolve -----------------------------------------------------------------------------------

    def tags(self, batch: str) -> list[tuple[str, str]]:
        """The (target tag, source ref) pairs of the batch."""
        value = self._redis.hget(self._keys.batch(batch), "tags")
        return [(tag, ref) for tag, ref in json.loads(value)] if value else []

    def set_resolved(self, batch: str, resolved: Sequence[Resolved]) -> None:
        """What the tags are for the whole life of this batch; the first answer stays."""
        pipe = self._redis.pipeline()
        self._put_resolved(pipe, batch, resolved)
        pipe.execute()

    def end_resolving(self, batch: str, resolved: Sequence[Resolved], after: Client) -> View | None:
        """The same for all tags that were left: the batch has no trouble and moves on to landing.

        Returns the batch as it is then; None where it was not being resolved any more. ``after``: what is
        written before, in the same exchange.
        """
        self._put_resolved(after, batch, resolved)
        self.no_trouble(batch, on=after)
        self._ask_advance(after, batch, "resolving", "landing")  # after them: the exchange may be cut short
        self._ask_view(after, batch)
        advanced, *answers = after.execute()[-1 - _VIEWED :]
        return view_of(answers) if advanced else None

    def _put_resolved(self, pipe: Client, batch: str, resolved: Sequence[Resolved]) -> None:
        for one in resolved:
            pipe.hsetnx(self._keys.tags(batch), one.tag, resolved_row(one))
        pipe.expire(self._keys.tags(batch), LONGEST_S)

    def no_trouble(self, batch: str, *, on: Client | None = None) -> None:
        """It goes well again: the next trouble starts anew."""
        names = self._keys.batch(batch), self._keys.run(self.run_of(batch))
        (self._redis if on is None else on).eval(wait_scripts.NO_TROUBLE, len(names), *names, batch)

    def resolved(self, batch: str) -> list[Resolved]:
        """In the order of the batch."""
        return self.results(batch)[0]

    def results(self, batch: str) -> tuple[list[Resolved], Outcomes]:
        """What is known of the batch's tags, whether it is under way or has ended."""
        pipe = self._redis.pipeline(transaction=False)
        pipe.hget(self._keys.batch(batch), "tags").hgetall(self._keys.tags(batch))
        pipe.hgetall(self._keys.outcomes(batch)).get(self._keys.ended(batch))
        tags, rows, outcomes, ended = pipe.execute()
        return unpacked(ended) if ended else (resolved_of(tags, rows), outcomes_of(outcomes))

    # -- land --------------------------------------------------------------------------------------

    def due(self, batch: str, region: str, item: str, document: Mapping[str, Any] | None = None) -> bool:
        """Add something that must be done before the region's manifests go in; False if it was due."""
        key = self._keys.due(batch, region)
        pipe = self._redis.pipeline(transaction=False)
        pipe.hsetnx(key, item, json.dumps(document or {})).expire(key, KEEP_S)
        return bool(pipe.execute()[0])

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

    def settle(
        self,
        batch: str,
        region: str,
        item: str,
        placed: Placed | None = None,
        outcomes: Outcomes | None = None,
    ) -> bool:
        """Strike ``item`` off; whether nothing is due any more, so that the caller puts the manifests.

        What became of blobs and tags meanwhile is written first, for whoever else has to put them.
        """
        pipe = self._redis.pipeline(transaction=False)
        if outcomes:
            self.record(batch, outcomes, (*BEFORE_FLIP, "current"), on=pipe)
        if placed:
            key = self._keys.placed(batch, region)
            pipe.hset(key, mapping=placed_rows(placed)).expire(key, KEEP_S)
        pipe.eval(scripts.SETTLE, 1, self._keys.due(batch, region), item)
        return int(pipe.execute()[-1]) == 0

    def region_done(self, batch: str, region: str, step: RegionStep) -> None:
        self._redis.hset(self._keys.batch(batch), mapping=_done(region, step))

    def reopen(self, batch: str, regions: Iterable[str], *steps: RegionStep) -> None:
        """The regions have to take the steps again."""
        names = [f"{step}:{region}" for region in regions for step in steps]
        self._redis.hdel(self._keys.batch(batch), "asked:finalize", "asked:conclude", *names)

    def regions_done(self, batch: str, step: RegionStep) -> set[str]:
        done = done_of(self._redis.hkeys(self._keys.batch(batch)))
        return {region for name, region in done if name == step}

    def roll(self, batch: str) -> int:
        """Count one more attempt to move a split tag forward."""
        return int(self._redis.hincrby(self._keys.batch(batch), "rolls", 1))

    def ask_for(self, batch: str, task: str) -> None:
        """Note that ``task`` came by before everything it needs was done: whoever is last sends it again."""
        self._redis.hset(self._keys.batch(batch), f"asked:{task}", "1")

    def asked_for(self, batch: str, task: str) -> bool:
        return bool(self._redis.hexists(self._keys.batch(batch), f"asked:{task}"))

    # -- outcomes ----------------------------------------------------------------------------------

    def ask_state(self, batch: str, on: Client) -> None:
        """Have the batch's state among the answers, as bytes; None where there is no such batch."""
        on.hget(self._keys.batch(batch), "state")

    def record(
        self,
        batch: str,
        outcomes: Mapping[tuple[str, str], Outcome],
        over: Sequence[OutcomeState] = BEFORE_FLIP,
        *,
        on: Client | None = None,
    ) -> None:
        """Write what became of tags in targets, where nothing is known or what is known is in ``over``.

        A step that comes late, after the batch has gone on without it, so changes nothing.
        """
        if outcomes:
            rows = [
                part
                for (tag, target), one in outcomes.items()
                for part in (f"{tag}\n{target}", outcome_row(one))
            ]
            keys = (self._keys.outcomes(batch), self._keys.batch(batch))
            (self._redis if on is None else on).eval(
                scripts.RECORD, len(keys), *keys, f" {' '.join(over)} ", *rows
            )

    def outcomes(self, batch: str) -> Outcomes:
        return self.results(batch)[1]

    def add_associates(
        self, batch: str, associates: Mapping[str, Sequence[Associate]]
    ) -> dict[str, list[Associate]]:
        """What travels with each tag in every target: the first answer stays, and is returned."""
        key, pipe = self._keys.associates(batch), self._redis.pipeline(transaction=False)
        for tag, found in associates.items():
            pipe.hsetnx(key, tag, associates_row(found))
        pipe.expire(key, LONGEST_S).hgetall(key)
        return associates_of(pipe.execute()[-1])

    def associates(self, batch: str) -> dict[str, list[Associate]]:
        """By the tag they travel with; a tag without any is left out."""
        return associates_of(self._redis.hgetall(self._keys.associates(batch)))

    def surveyed(self, batch: str) -> dict[str, list[Associate]]:
        """The same of every tag that was asked about, those without any among them."""
        rows = self._redis.hgetall(self._keys.associates(batch))
        known = associates_of(rows)
        return {tag: known.get(tag, []) for tag in map(bytes.decode, rows)}

    def unclaimed(self, repositories: Sequence[str], tags: Iterable[str]) -> set[str]:
        """Those of the tags that no run ever moved in any of the repositories."""
        left = list(tags)
        for repository in repositories:
            claims = self._redis.hmget(self._keys.newest(repository), left) if left else ()
            left = [tag for tag, claim in zip(left, claims, strict=True) if claim is None]
        return set(left)

    def has_claims(self, repository: str) -> bool:
        """Whether any run ever moved a tag in the repository."""
        return bool(self._redis.exists(self._keys.newest(repository)))

    # -- conclude ----------------------------------------------------------------------------------

    def conclude(
        self, batch: str, expected: BatchState, spec: MirrorSpec, view: View | None = None
    ) -> list[TagReport] | None:
        """Close the batch and count its tags, once; ends the run with its last batch.

        What was counted; None where the batch is not as expected.

        ``view``: the batch as the caller has just read it, if nothing was written since.
        """
        run, keys = self.run_of(batch), self._keys
        resolved, outcomes = (view.resolved, view.outcomes) if view else self.results(batch)
        reports = list(tag_reports(resolved, outcomes, spec))
        by_state = Counter(f"n:{report.state}" for report in reports) + found_of(spec, reports)
        pairs = [part for pair in by_state.items() for part in pair]
        failed = [part for group in grouped(reports) for part in group]
        dropped = [key(batch) for key in (keys.tags, keys.outcomes, keys.associates)]
        dropped += [key(batch, region) for region in spec.regions for key in (keys.due, keys.placed)]
        own = [keys.batch(batch), keys.run(run), keys.flight(run), keys.open, keys.parked, keys.ended(batch)]
        own += [keys.failures(run), keys.behind(run)]
        words = [batch, run, expected, KEEP_S, packed(resolved, outcomes), MOST_REASONS, OTHER, MOST_EXAMPLES]
        words += [counts(totals_of(spec, reports)), spec.known_as, lags_of(resolved, reports)]
        kept = self._remembered.of(run, resolved, outcomes, spec)
        told = json.dumps(of_tags(keys, run, spec, kept, outcomes))
        words += [lasting.rows(kept), told, *self._remembered.lagging(reports, spec)]
        words += [len(by_state), *pairs, *failed]
        return reports if self._conclude([*own, *dropped], words) else None

    def tag_reports(self, batch: str, spec: MirrorSpec) -> Iterator[TagReport]:
        """Every tag of the batch, as far as it is known."""
        return tag_reports(*self.results(batch), spec)

    def count(
        self,
        batch: str,
        region: str,
        progress: Mapping[str, int],
        done: RegionStep | None = None,
        *,
        after: Client | None = None,
    ) -> bool:
        """Add to the region's progress and say that the batch moves; whether the run was cancelled.

        ``done``: with these counts the region has taken that step. ``after``: what is written before, in
        the same exchange.
        """
        run = self.run_of(batch)
        pipe = after if after is not None else self._redis.pipeline(transaction=False)
        for name, number in progress.items():
            pipe.hincrby(self._keys.progress(run), f"{region}\n{name}", number)
        pipe.eval(scripts.TOUCH, 1, self._keys.open, batch)
        if done:
            pipe.hset(self._keys.batch(batch), mapping=_done(region, done))
        pipe.hget(self._keys.run(run), "state")
        return bool(pipe.execute()[-1] == b"cancelled")


def _done(region: str, step: RegionStep) -> dict[str, str]:
    return {f"{step}:{region}": "1", "attempts": "0"}
