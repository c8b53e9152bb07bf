"""Planning: list and select as a run does, then rehearse its batches and count.

Every decision is the engine's own (:mod:`mirror.rehearsal`). What is decided here is only how much may be
read for the plan: at a registry that counts reading nothing is, until it is known that the budget suffices.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice

from mirror import decide
from mirror.budget import COUNTING_HOSTS, Allowance
from mirror.created import CONFIGS, MAX_CONFIG_BYTES
from mirror.engine import Engine
from mirror.flip import flip, flip_early, unflip
from mirror.follow import to_follow
from mirror.forecast import Forecast, PlannedTag, Pulls, pulls_of, rate_of
from mirror.foretelling import planned
from mirror.land import land
from mirror.ledger import Ledger
from mirror.ledger.rehearsed import RehearsalLedger, Scratch
from mirror.ledger.sources import Entry
from mirror.ledger.values import tag_reports
from mirror.listing import enumerate_tags
from mirror.plan import cut
from mirror.prune import foreseen
from mirror.rehearsal import Ear, Rehearsal
from mirror.rehearsed import RehearsedReading, rehearsed
from mirror.resolve import resolve
from mirror.retry import Patience
from mirror.spec import Lane, MirrorSpec
from mirror.threads import Threads
from registry.descriptor import Descriptor

BATCHES_AT_ONCE = 4
PORTION = 64
"""Batches that are handed to threads together: bounds what waits in memory."""
PATIENCE = Patience(attempts=3, budget_s=10.0)
"""A plan is soon made again: it waits for nobody for long."""
RECENT_RUNS = 50

Heard = Callable[[str, int, int], None]
"""Told of a mirror how many of how many tags were looked at."""


@dataclass(frozen=True, slots=True)
class Planning:
    """What plans are made with."""

    engine: Engine
    """The fleet's ledger, and repositories whose requests ``ear`` hears."""
    ear: Ear
    scratch: Callable[[], Scratch]
    allowance: Callable[[str], Allowance]
    batch_tags: int
    keeps: bool = False
    """Whether the plan is kept in the fleet's ledger, as a run that can be begun."""
    reads: bool = True
    """Whether manifests may be read where reading is counted."""
    heard: Heard = lambda *_: None

    def forecast(self, spec: MirrorSpec, lane: Lane, references: Iterable[Entry] | None = None) -> Forecast:
        """What a run would do. What goes wrong with one tag or at one target is in that one's state.

        ``references``: what the run is about instead of all that the spec's source has.
        """
        scratch = self.scratch()
        try:
            return self._forecast(spec, lane, references, scratch)
        finally:
            scratch.erase()

    def _forecast(
        self, spec: MirrorSpec, lane: Lane, references: Iterable[Entry] | None, scratch: Scratch
    ) -> Forecast:
        forecast = Forecast(spec.name, spec.origin, two_way=spec.two_way)
        lister = Rehearsal(self.engine.open_repository, self.ear, self._may_list, reads_blob=lambda _: True)
        ledger = self.engine.ledger if self.keeps else scratch.ledger(lister.kept)
        staged = None if references is None else ledger.sources.stage(references)
        run = ledger.beginnings.plan(replace(spec, given=staged.digest) if staged else spec, lane, staged)
        self._list(lister, ledger, run, forecast)
        if forecast.error:
            ledger.beginnings.drop(run, failed=True)
            return forecast
        forecast.run = run if self.keeps else ""
        forecast.deletions = list((to_follow if spec.two_way else foreseen)(self.engine, ledger, run))
        done = self._rehearsed(ledger, run, scratch)
        found = done.forecast
        forecast.counts, forecast.tags = found.counts, found.tags
        forecast.selected, forecast.moving = found.selected, found.moving
        if not self.keeps:
            done.rehearsal.run.add(lister.run)
        self._reckon(forecast, done, lister, lane)
        return forecast

    # -- what the run would be about ----------------------------------------------------------------

    def _list(self, lister: Rehearsal, ledger: Ledger, run: str, forecast: Forecast) -> None:
        engine = replace(
            self.engine,
            ledger=ledger,
            open_repository=rehearsed(lister),
            list_repositories=lister.lists(self.engine.list_repositories),
            patience=PATIENCE,
            outage_s=0.0,
            dropped=forecast.drop,
        )
        enumerate_tags(engine, run, self.batch_tags, lambda: None)
        report = ledger.run_report(run)
        if not report.listed:
            forecast.error, forecast.error_kind = (
                report.error or "it was not listed to its end",
                report.error_kind,
            )

    def _may_list(self, host: str, _: str) -> bool:
        return self.reads or not self._counts(host)

    def _counts(self, host: str) -> bool:
        return bool(self.engine.counts_pulls(host)) or host in COUNTING_HOSTS

    # -- what it would do ----------------------------------------------------------------------------

    def _rehearsed(self, listing: Ledger, run: str, scratch: Scratch) -> _Rehearsed:
        """From HEADs first; with what they say about the budget, reading what is within it."""
        done = self._rehearse(listing, run, scratch, _Allowed(self._counts, {}))
        if not self.reads or not done.withheld:
            return done
        budgets = self.engine.ledger.budgets.report()
        left: dict[str, float] = {}
        for host, wanted in done.withheld.items():
            known = pulls_of(host, wanted, 0, budgets, self.allowance(host).reserve).left
            left[host] = math.inf if known is None else known
            if wanted > left[host]:
                return done
        return self._rehearse(listing, run, scratch, _Allowed(self._counts, left), done.rehearsal)

    def _rehearse(
        self,
        listing: Ledger,
        run: str,
        scratch: Scratch,
        allowed: _Allowed,
        before: Rehearsal | None = None,
    ) -> _Rehearsed:
        spec, tags = listing.spec(run), listing.run_report(run).tags
        found = Forecast(spec.name, spec.origin, two_way=spec.two_way)
        for tag in _not_listed(listing, run):
            found.add(tag)
        rehearsal = Rehearsal(
            self.engine.open_repository,
            self.ear,
            allowed,
            reads_blob=_dating(spec),
            seeks_blobs=spec.is_two_way,
            before=before,
        )
        ledger = scratch.ledger(rehearsal.kept)
        ledger.take_up(listing, run)
        allowed.note = ledger.note_withheld
        engine = replace(
            self.engine,
            ledger=ledger,
            open_repository=rehearsed(rehearsal),
            reading=RehearsedReading,
            patience=PATIENCE,
            outage_s=0.0,
            proof_s=math.inf,
            threads=Threads(),
        )
        for taken in _taken_all(engine, ledger, listing.beginnings.batches(run)):
            for tag in taken:
                found.add(tag)
            self.heard(spec.name, found.selected, tags)
        return _Rehearsed(found, rehearsal, {host: ledger.withheld(host) for host in allowed.hosts})

    # -- what that costs -----------------------------------------------------------------------------

    def _reckon(self, forecast: Forecast, done: _Rehearsed, lister: Rehearsal, lane: Lane) -> None:
        run, own = done.rehearsal.run, done.rehearsal.own
        ledger = self.engine.ledger
        forecast.tally, forecast.unread = run, sum(done.withheld.values())
        budgets = ledger.budgets.report()
        found: list[Pulls] = []
        for host in sorted({*run.requests, *own.requests, *done.withheld}):
            if self._counts(host):
                spent = own.pulls(host) + lister.run.pulls(host) + lister.own.pulls(host)
                needed = run.pulls(host) + done.withheld.get(host, 0)
                kept = self.allowance(host).reserve if lane == "backfill" else 0.0
                found.append(pulls_of(host, needed, spent, budgets, kept))
        forecast.pulls = found
        forecast.paced_s = max((self._paced_s(host, run.total(host)) for host in run.requests), default=0.0)
        forecast.rate = rate_of(forecast.mirror, ledger.runs(RECENT_RUNS))

    def _paced_s(self, host: str, requests: int) -> float:
        pace = self.allowance(host).requests_per_minute
        return requests * 60.0 / pace if pace else 0.0


@dataclass(slots=True)
class _Rehearsed:
    forecast: Forecast
    rehearsal: Rehearsal
    withheld: dict[str, int]
    """By registry, how many manifests were not read."""


class _Allowed:
    """Which manifests may be read: all where nobody counts, elsewhere so many. Thread-safe."""

    def __init__(self, counts: Callable[[str], bool], left: dict[str, float]) -> None:
        self._counts, self._left = counts, left
        self._lock = threading.Lock()
        self.hosts: set[str] = set()
        """Where some were withheld."""
        self.note: Callable[[str, str], None] = lambda *_: None

    def __call__(self, host: str, digest: str) -> bool:
        if not self._counts(host):
            return True
        with self._lock:
            left = self._left.get(host, 0)
            self._left[host] = left - 1
            if left > 0:
                return True
            self.hosts.add(host)
        self.note(host, digest)
        return False


def _dating(spec: MirrorSpec) -> Callable[[Descriptor], bool]:
    """Which blobs have to be read to decide a conflict of a two-way mirror."""
    is_by_date = spec.is_two_way and spec.rule == "newest"
    return lambda blob: is_by_date and blob.media_type in CONFIGS and blob.size <= MAX_CONFIG_BYTES


def _not_listed(listing: Ledger, run: str) -> Iterator[PlannedTag]:
    """Repositories that could not be listed: each stands as one tag without a name."""
    spec = listing.spec(run)
    if listing.run_report(run).states.get("failed"):
        yield from (planned(report, spec) for report in listing.tag_reports(run) if report.state == "failed")


def _taken_all(engine: Engine, ledger: RehearsalLedger, batches: Iterator[str]) -> Iterator[list[PlannedTag]]:
    """What becomes of each batch's tags; the first one alone, which learns what the others need to know."""
    for first in islice(batches, 1):
        yield _taken(engine, ledger, first)
    with ThreadPoolExecutor(BATCHES_AT_ONCE, thread_name_prefix="plan") as pool:
        for portion in cut(batches, PORTION):
            yield from pool.map(lambda batch: _taken(engine, ledger, batch), portion)


def _taken(engine: Engine, ledger: RehearsalLedger, batch: str) -> list[PlannedTag]:
    """What becomes of a batch's tags."""
    ledger.borrow(batch)
    spec = engine.spec_of(batch)
    _through(engine, batch, spec)
    resolved, outcomes = ledger.batches.results(batch)
    reports = tag_reports(resolved, outcomes, spec)
    found = [planned(report, spec, one.merged) for report, one in zip(reports, resolved, strict=True)]
    ledger.give_back(batch)
    return found


def _through(engine: Engine, batch: str, spec: MirrorSpec) -> None:
    """Every step of a batch, one after the other, until it is concluded or would wait."""
    regions = spec.regions
    goes_ahead = spec.finalize == "each" and len(regions) > 1
    view = resolve(engine, batch)
    if view is None:
        return
    if not view.has_any:
        for region in regions:
            engine.ledger.batches.region_done(batch, region, "landed")
    decision = decide.Decision("land", regions if view.has_any else ())
    while decision.step in {"land", "flip", "return"}:
        for region in decision.regions if decision.step == "land" else regions:
            if decision.step == "land":
                land(engine, batch, region, hauls=False)
                if goes_ahead:
                    flip_early(engine, batch, region)
            elif decision.step == "flip":
                flip(engine, batch, region)
            else:
                unflip(engine, batch, region)
        decide_on = decide.finalize if decision.step == "land" else decide.conclude
        decision = decide_on(engine, batch)
