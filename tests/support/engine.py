"""The engine without Celery: the canvas' steps, one after the other, against registries in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from mirror import decide
from mirror.budget import Allowance, Budget
from mirror.engine import Engine, Limits
from mirror.flip import flip, unflip
from mirror.land import haul, land
from mirror.ledger import Ledger
from mirror.ledger.sources import Staged
from mirror.listing import enumerate_tags
from mirror.report import RunReport, TagReport
from mirror.resolve import resolve
from mirror.retry import Patience
from mirror.spec import Lane, MirrorSpec
from registry.connections import Connections
from registry.credentials import ChainedCredentials, CredentialSource
from registry.endpoint import Endpoint, Timeouts
from registry.exchange import Observer
from registry.listings import Lists
from tests.support.valkey import ValkeyServer

QUICK = Patience(attempts=3, budget_s=10.0, first_wait_s=0.01)
TIMEOUTS = Timeouts(connect_s=2.0, read_s=10.0, commit_s=10.0)


@contextmanager
def engine_on(
    valkey: ValkeyServer,
    limits: Limits | None = None,
    outage_s: float = 0.0,
    allowance: Allowance | None = None,
    accounts: Mapping[str, Mapping[str, CredentialSource]] | None = None,
    observer: Observer | None = None,
) -> Iterator[Engine]:
    """An engine whose registries are on loopback and open to anybody; it waits out no outage unless said.

    With an ``allowance`` (the same for every registry) it keeps within the fleet's budgets.
    """
    with valkey.client() as client:
        ledger = Ledger(client, "test:")
        nobody = ChainedCredentials(())
        connections = Connections(
            lambda host: Endpoint(host, timeouts=TIMEOUTS),
            nobody,
            observer,
            gate=Budget(ledger, lambda _: allowance) if allowance else None,
            accounts=accounts,
        )
        yield Engine(
            ledger,
            connections.open,
            QUICK,
            limits or Limits(copy_threads=3),
            outage_s=outage_s,
            counts_pulls=connections.counts_pulls,
            list_repositories=Lists(connections, nobody, nobody).page,
        )
        connections.close()


class Drive:
    """One run, step by step, in the order a fleet would take them."""

    def __init__(
        self,
        engine: Engine,
        spec: MirrorSpec,
        batch_tags: int = 32,
        lane: Lane = "release",
        staged: Staged | None = None,
    ) -> None:
        self.engine, self.spec = engine, spec
        self.run = engine.ledger.create_run(spec, lane, staged)
        self._list(batch_tags)

    @classmethod
    def of(cls, engine: Engine, spec: MirrorSpec, run: str, batch_tags: int = 32) -> Drive:
        """A run that there is already."""
        drive = cls.__new__(cls)
        drive.engine, drive.spec, drive.run = engine, spec, run
        drive._list(batch_tags)
        return drive

    def _list(self, batch_tags: int) -> None:
        self.batches: list[str] = []
        enumerate_tags(self.engine, self.run, batch_tags, self._open)

    def _open(self) -> None:
        self.batches += self.engine.ledger.open_window(self.run, 1000)

    def resolve(self) -> None:
        for batch in self.batches:
            resolve(self.engine, batch)

    def land(self, *regions: str, hauls: bool = False) -> None:
        for batch in self.batches:
            for region in regions or self.spec.regions:
                for digest in land(self.engine, batch, region, hauls=hauls):
                    haul(self.engine, batch, region, digest)

    def finalize(self) -> list[decide.Step]:
        return [decide.finalize(self.engine, batch).step for batch in self.batches]

    def flip(self, *regions: str) -> None:
        for batch in self.batches:
            for region in regions or self.spec.regions:
                flip(self.engine, batch, region)

    def conclude(self) -> list[decide.Step]:
        steps: list[decide.Step] = [decide.conclude(self.engine, batch).step for batch in self.batches]
        for batch, step in zip(self.batches, steps, strict=True):
            if step == "return":
                for region in self.spec.regions:
                    unflip(self.engine, batch, region)
                decide.conclude(self.engine, batch)
        return steps

    def all(self, *, hauls: bool = False) -> Drive:
        for step in (self.resolve, lambda: self.land(hauls=hauls), self.finalize, self.flip, self.conclude):
            step()
        return self

    def to_end(self, rounds: int = 20) -> Drive:
        """As sweepers would: step after step until the run has ended; waits are over when they are due."""
        for _ in range(rounds):
            if self.report.ended:
                break
            self.all()
            self.engine.ledger.take_due(60)
        return self

    @property
    def report(self) -> RunReport:
        return self.engine.ledger.run_report(self.run)

    @property
    def tags(self) -> dict[str, TagReport]:
        """By tag; in a run of many repositories by ``repository:tag``."""
        return {one.label: one for one in self.engine.ledger.tag_reports(self.run)}

    def states(self, tag: str) -> list[str]:
        """The tag's state in each target, in the spec's order."""
        return [target.state for target in self.tags[tag].targets]


Driver = Callable[[MirrorSpec], Drive]


def only(spec: MirrorSpec, *tags: str) -> MirrorSpec:
    """The same mirror for exactly these tags: nothing is listed."""
    return replace(spec, refs=tuple((tag, tag) for tag in tags))
