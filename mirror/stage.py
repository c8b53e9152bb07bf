"""One batch in one region: what every region-side step looks at, read from the ledger once."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from mirror.anywhere import hosts_of
from mirror.damage import Part
from mirror.engine import Engine, Progress
from mirror.graph import Graph
from mirror.ledger.accounts import RegionBatch
from mirror.ledger.batches import (
    Associate,
    Outcomes,
    OutcomeState,
    Placed,
    RegionStep,
    Resolved,
    View,
)
from mirror.ledger.keys import Client
from mirror.ledger.proofs import Seen
from mirror.manifests import Manifests
from mirror.near import order
from mirror.places import backed, everywhere
from mirror.siblings import Siblings
from mirror.spec import MirrorSpec
from mirror.transfer import Carrier, path_of
from registry.descriptor import Descriptor
from registry.repository import Repository, Source


@dataclass(slots=True)
class Stage:
    """Where a step takes place; graphs are walked once and kept for as long as the step lasts."""

    engine: Engine
    batch: str
    region: str
    spec: MirrorSpec
    source: Source
    targets: dict[str, Repository]
    """By the name the spec uses."""
    tags: list[Resolved]
    """Those that were resolved."""
    progress: Progress
    view: View
    """The batch as the step found it."""
    outcomes: Outcomes
    """What the step knows of its tags: at first what it found."""
    associates: dict[str, list[Associate]]
    """By the tag they travel with; a tag without any is left out."""
    placed: Placed = field(default_factory=dict)
    """What the step knows of blobs in its targets."""
    accompanied: set[tuple[str, str]] = field(default_factory=set)
    """(tag, target) of current tags of which the target has all that travels with them."""
    again: dict[tuple[str, str], Part] = field(default_factory=dict)
    """By (digest, target): blobs that the target has and that are not what they should be."""
    _told: Outcomes = field(default_factory=dict)
    """Those outcomes that the ledger has."""
    _read_s: float = field(default_factory=time.monotonic)
    _graphs: dict[str, Graph] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _seen: set[tuple[str, str, str]] = field(default_factory=set)
    """(host, repository, digest) of manifests that this step has put."""
    _turns: dict[tuple[str, str], threading.Lock] = field(default_factory=dict)

    @classmethod
    def open(
        cls, engine: Engine, batch: str, region: str, progress: Progress, view: View | None = None
    ) -> Stage:
        """``view``: the batch as the step before has left it, if nobody can have written to it since."""
        view = view or engine.ledger.batches.view(batch)
        spec = engine.spec_of(batch, view)
        source = engine.open_source(engine.ledger.batches.run_of(batch), spec, region)
        return cls(
            engine=engine,
            batch=batch,
            region=region,
            spec=spec,
            source=everywhere(engine, spec, region, source)
            if spec.kind == "repair"
            else backed(engine, spec, region, source),
            targets={t.repository: engine.open_repository(t.repository) for t in spec.targets_of(region)},
            tags=[one for one in view.resolved if one.descriptor],
            progress=progress,
            view=view,
            outcomes=dict(view.outcomes),
            associates=view.associates,
            _told=view.outcomes,
        )

    def read_again(self) -> None:
        """Others have written to the batch as well: know what they know."""
        self.view, self.placed = self.engine.ledger.batches.view_of_region(self.batch, self.region)
        self.outcomes, self._told = dict(self.view.outcomes), self.view.outcomes
        self.associates = self.view.associates
        self._read_s = time.monotonic()

    @property
    def now(self) -> float:
        """The server's clock in Unix time: what it said, and what has passed since."""
        return self.view.now + time.monotonic() - self._read_s

    @property
    def run(self) -> str:
        return self.engine.ledger.batches.run_of(self.batch)

    @property
    def is_alone(self) -> bool:
        """One target in all: nothing has to be kept together with anything (G2), nothing is taken back."""
        return len(self.spec.targets) == 1

    @property
    def pairs(self) -> Iterator[tuple[Resolved, Descriptor, str, Repository]]:
        """Every resolved tag in every target of the region."""
        for one in self.tags:
            if one.descriptor:
                for name, target in self.targets.items():
                    yield one, one.descriptor, name, target

    def resolved(self, tag: str) -> Resolved:
        """One of :attr:`tags`."""
        return next(one for one in self.tags if one.tag == tag)

    def wanted(self, tag: str) -> str:
        """The digest that one of them is to have."""
        return next(one.descriptor.digest for one in self.tags if one.tag == tag and one.descriptor)

    def graph(self, digest: str) -> Graph:
        """What the digest reaches, narrowed to the mirror's platforms; RegistryError or GraphError."""
        if digest not in self._graphs:
            graph = Manifests(self.engine, self.source).graph(digest, self.spec.platforms)
            with self._lock:
                self._graphs[digest] = graph
        return self._graphs[digest]

    @contextlib.contextmanager
    def alone_with(self, target: Repository, digest: str) -> Iterator[None]:
        """One thread at a time puts a manifest: several tags may share it, and registries trip over that."""
        with self._lock:
            turn = self._turns.setdefault((target.name, digest), threading.Lock())
        with turn:
            yield

    def seen(self, target: Repository, digests: Sequence[str]) -> set[str]:
        """Those of the manifests that the target is believed to hold: put by this step, or noted lately."""
        place = target.host, path_of(target)
        with self._lock:
            own = {digest for digest in digests if (*place, digest) in self._seen}
        unknown = [digest for digest in digests if digest not in own]
        return own | self.engine.ledger.content.seen(*place, unknown)

    def has_put(self, target: Repository, digest: str) -> bool:
        """Whether this very step has put the manifest."""
        with self._lock:
            return (target.host, path_of(target), digest) in self._seen

    def saw(self, target: Repository, digest: str) -> None:
        with self._lock:
            self._seen.add((target.host, path_of(target), digest))

    def forget(self, target: Repository, digests: Sequence[str]) -> None:
        """The target denies having them."""
        place = target.host, path_of(target)
        with self._lock:
            self._seen.difference_update((*place, digest) for digest in digests)
        self.engine.ledger.content.forget(*place, digests)

    def settle(self, item: str) -> bool:
        """Strike off what was due, with what is known by now; whether that was the last of it."""
        new, self._told = self.news(), dict(self.outcomes)
        return self.engine.ledger.batches.settle(self.batch, self.region, item, self.placed, new)

    def end(self, step: RegionStep, over: Sequence[OutcomeState], **counts: int) -> None:
        """The region has taken the step: all that came of it, in one exchange with the ledger.

        Outcomes replace what is in a state of ``over``. What was put is believed by others for a while.
        """
        ledger = self.engine.ledger
        with self._lock:
            seen, self._seen = self._seen, set()
        pipe = ledger.together()
        ledger.batches.record(self.batch, self.news(), over, on=pipe)
        ledger.content.saw_manifests(seen, self.engine.memory, pipe)
        if self.spec.trust_s and step != "returned":
            self._keep_proofs(step, pipe)
        self.progress.flush(step, pipe, **counts)

    def _keep_proofs(self, step: RegionStep, on: Client) -> None:
        """Tags that were found to be current, once what travels with them is there too: digest tags flip."""
        flips = {tag for tag, found in self.associates.items() if any(one.tag for one in found)}
        seen = defaultdict[str, list[Seen]](list)
        for one, wanted, name, _ in self.pairs:
            outcome = self.outcomes.get((one.tag, name))
            was_asked = outcome is not None and outcome.state == "current" and outcome.at
            if was_asked and (one.tag in flips) == (step == "flipped"):
                seen[name].append((one.tag, wanted.digest, was_asked))
        for name, found in seen.items():
            self.engine.ledger.proofs.keep(name, found, self.spec.trust_s, on)

    def news(self) -> Outcomes:
        """Outcomes that the ledger does not have yet."""
        return {pair: one for pair, one in self.outcomes.items() if self._told.get(pair) != one}

    def carrier(self, empty: frozenset[str] = frozenset()) -> Carrier:
        return Carrier(
            content=self.engine.ledger.content,
            patience=self.engine.patience,
            memory=self.engine.memory,
            tee_bytes=self.engine.limits.tee_bytes,
            moved=lambda count: self.progress.add(copied_bytes=count),
            empty=empty,
            again=frozenset(self.again),
            siblings=self._siblings(),
            reading=self.engine.reading,
            counted_for=RegionBatch(self.batch, self.region),
        )

    def _siblings(self) -> Siblings | None:
        """The mirror's registries that are read from before the source, the nearest first."""
        is_limited = any(self.engine.is_limited(host) for host in hosts_of(self.source))
        found = order(self.engine.near, self.spec, self.region, self.source.host, is_limited=is_limited)
        if not (found.before or found.once):
            return None
        content, opener = self.engine.ledger.content, self.engine.open_repository
        return Siblings(content, opener, found.before, self.engine.shunned, found.once)
