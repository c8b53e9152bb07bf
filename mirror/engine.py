"""What every step of the engine works with: composed once per process, handed to each step."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from mirror.anywhere import Anywhere
from mirror.budget import COUNTING_HOSTS
from mirror.ledger import Ledger
from mirror.ledger.batches import RegionStep, View
from mirror.ledger.content import Memory
from mirror.ledger.keys import Client
from mirror.reading import Reading
from mirror.retry import Patience
from mirror.siblings import Shunned
from mirror.spec import MirrorSpec
from mirror.threads import Crew, Threads
from registry.reference import Wildcard
from registry.repository import Repository, RepositoryPage, Source


class Opener(Protocol):
    """The way to a repository, from ``host/repository`` or ``oci:DIR``."""

    def __call__(self, name: str, /, *, gives_way: bool = False) -> Repository:
        """``gives_way``: the reserve of a budget is left to others."""
        ...


class Lister(Protocol):
    """The way to what is below a wildcard, a page at a time."""

    def __call__(self, below: Wildcard, cursor: str, /) -> RepositoryPage:
        """``cursor``: empty at first, then what leads on. Raises :mod:`registry.errors`."""
        ...


class Cancelled(Exception):
    """The run was cancelled while a step of it was at work."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one task does at a time; bytes."""

    copy_threads: int = 6
    haul_bytes: int = 256 * 2**20
    tee_bytes: int = 2**20


@dataclass(frozen=True, slots=True)
class Engine:
    """The ledger, the way to a repository, and the terms of work."""

    ledger: Ledger
    open_repository: Opener
    patience: Patience = field(default_factory=Patience)
    limits: Limits = field(default_factory=Limits)
    memory: Memory = field(default_factory=Memory)
    threads: Threads = field(default_factory=Threads)
    outage_s: float = 600.0
    """How long transient faults are waited out in the ledger; 0: not at all."""
    proof_s: float = 300.0
    """How old the proof that a target holds a tag's content may be when the tag moves."""

    list_repositories: Lister | None = None
    """None where no run is of a wildcard."""
    counts_pulls: Callable[[str], bool | None] = lambda _: False
    """Whether a registry counts reading as pulls, as far as anybody has heard."""
    is_paced: Callable[[str], bool] = lambda _: False
    """Whether the operator limits how often a registry is asked."""
    shunned: Shunned = field(default_factory=Shunned)
    reading: type[Reading] = Reading
    """How blobs are read: a rehearsal reads none."""
    dropped: Callable[[Sequence[tuple[str, str]]], None] = lambda _: None
    """Told of tags that were listed and not selected, each with the rule that dropped it."""

    def spec_of(self, batch: str, view: View | None = None) -> MirrorSpec:
        """On what terms a batch is, its own repositories among them; ``view``: the batch, if it was read."""
        return self.ledger.spec_of(batch, view.repository if view else None)

    def open_source(self, run: str, spec: MirrorSpec, region: str = "") -> Source:
        """What a run reads, on the terms of its lane; of its targets those of ``region`` first.

        A rollback does without what only other regions' targets know, where they are not reached from here.
        """
        gives_way = self.ledger.lane(run) == "backfill"
        if not spec.reads_targets:
            return self.open_repository(spec.source, gives_way=gives_way)
        near_first = sorted(spec.targets, key=lambda target: target.region != region)
        places = [self.open_repository(one.repository, gives_way=gives_way) for one in near_first]
        far = places[len(spec.targets_of(region)) :] if spec.kind == "rollback" else ()
        return Anywhere(places, helpers=far, shunned=self.shunned)

    def is_limited(self, host: str) -> bool:
        """Whether a registry gives only so much, so that others that hold the same are asked before it."""
        return host in COUNTING_HOSTS or bool(self.counts_pulls(host)) or self.is_paced(host)

    def crew(self) -> AbstractContextManager[Crew]:
        """Threads for one step."""
        return self.threads.lend(self.limits.copy_threads)


FLUSH_S = 0.3


class Progress:
    """Counts of one batch in one region, kept in the ledger a few times a second while work goes on.

    Each flush also says that the batch moves, so that the sweeper lets it be, and learns whether the run
    was cancelled.
    """

    def __init__(
        self, ledger: Ledger, batch: str, region: str, heard: Callable[[dict[str, int]], None] | None = None
    ) -> None:
        """``heard`` is told the totals so far whenever they are written (for task events)."""
        self._ledger, self._batch, self._region, self._heard = ledger, batch, region, heard
        self._run = ledger.batches.run_of(batch)
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._totals: Counter[str] = Counter()
        self._flushed = time.monotonic()
        self.cancelled = False

    def add(self, **counts: int) -> None:
        """Count; writes at most every FLUSH_S seconds.

        Raises:
            Cancelled: the run was.
        """
        due: Counter[str] | None = None
        with self._lock:
            self._counts.update(counts)
            if time.monotonic() - self._flushed >= FLUSH_S:
                due, self._counts, self._flushed = self._counts, Counter(), time.monotonic()
        if due is not None:
            self._write(due)
        self.check()

    def expect(self, blobs: int) -> None:
        """Count blobs that will be looked at, for ``heard`` alone."""
        with self._lock:
            self._totals["planned_blobs"] += blobs

    def flush(self, done: RegionStep | None = None, after: Client | None = None, **counts: int) -> None:
        """Write what was counted, now; ``done``: and that the region has taken that step.

        ``after``: what is written before, in the same exchange.
        """
        with self._lock:
            due, self._counts, self._flushed = self._counts, Counter(), time.monotonic()
        due.update(counts)
        self._write(due, done, after)

    def check(self) -> None:
        """Raise Cancelled if the run was, as far as the last flush knows."""
        if self.cancelled:
            raise Cancelled(self._run)

    def _write(
        self, counts: Counter[str], done: RegionStep | None = None, after: Client | None = None
    ) -> None:
        self._totals.update(counts)
        self.cancelled = self._ledger.batches.count(self._batch, self._region, counts, done, after=after)
        if self._heard:
            self._heard(dict(self._totals))
