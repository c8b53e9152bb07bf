"""No loops: registries that are pushed at from everywhere come to rest, and are then not written to.

Two real registries, two owners' two-way mirrors of them, one by a schedule whose minutes fly and one started
by hand again and again, and skopeo that pushes at both sides meanwhile. Whatever else may start runs belongs
among the ``starters``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace

import pytest

from config.cron import last_slot
from config.fleet import load_fleet
from mirror.report import RunReport
from mirror.spec import MirrorSpec
from registry.images import build_image, build_index
from registry.memory import MemoryRegistry
from tasks.terms import spec_of
from tests.support import skopeo
from tests.support.beats import CRON, fast_beat
from tests.support.fleet import Fleet, made
from tests.support.registries import DockerRegistry
from tests.support.scratch import scratch_folder
from tests.support.waiting import until

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(300)]

PATIENCE_S = 60.0
ROUNDS = 4
"""How often both sides are pushed to."""
QUIET_RUNS = 5
"""Further runs of each owner's mirror, in which nothing may be written."""
IMAGES = [build_index([build_image({"motd": b"%d" % number})]) for number in range(2 * ROUNDS)]
FILE = """\
mirrors:
  - name: app
    mode: two_way
    schedule: "{cron}"
    targets: [{{region: us, repository: {us}/app}}, {{region: eu, repository: {eu}/app}}]
"""


@dataclass(frozen=True, slots=True)
class Field:
    fleet: Fleet
    stock: MemoryRegistry
    """Where skopeo has its images from."""
    us: DockerRegistry
    eu: DockerRegistry
    ours: MirrorSpec
    born: int

    @property
    def starters(self) -> list[Callable[[], str]]:
        """What starts runs beside the schedule; each returns the run's id."""
        theirs = replace(self.ours, name="ppa", targets=self.ours.targets[::-1])
        return [lambda: self.fleet.start_run(theirs)]

    def push(self, side: DockerRegistry, number: int, tag: str) -> None:
        self.stock.hold("stock", IMAGES[number], str(number))
        skopeo.copy(f"{self.stock.host}/stock:{number}", f"{side.host}/app:{tag}")

    def at(self, tag: str) -> list[str | None]:
        names = [f"{side.host}/app:{tag}" for side in (self.us, self.eu)]
        return [skopeo.digest(name) if skopeo.exists(name) else None for name in names]

    def await_both(self, tag: str, number: int) -> None:
        until(
            lambda: self.at(tag) == [IMAGES[number].digest] * 2,
            PATIENCE_S,
            lambda: f"{tag}: {self.at(tag)}\n{self.fleet.logs()}",
        )

    def scheduled(self) -> list[RunReport]:
        return [run for run in self.fleet.ledger.runs(1000) if run.mirror == "app" and run.ended]

    def await_runs(self, further: int) -> None:
        """Return once so many further runs of every kind were begun and have ended, none of them badly."""
        wanted = len(self.scheduled()) + 1 + further  # one may be under way
        for _ in range(further):
            for start in self.starters:
                assert self.fleet.wait(start()).state == "done"
        until(lambda: len(self.scheduled()) >= wanted, PATIENCE_S, self.fleet.logs)

    def writes(self) -> list[str]:
        """Since the last question."""
        found = []
        for side in (self.us, self.eu):
            asked = side.requests()
            side.forget_requests()
            found += [f"{one.method} {one.path}" for one in asked if one.method not in {"GET", "HEAD"}]
        return found


@pytest.fixture(scope="module")
def field() -> Iterator[Field]:
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder())
        us, eu = (stack.enter_context(DockerRegistry(made(folder / name))) for name in ("us", "eu"))
        stock = stack.enter_context(MemoryRegistry())
        file = made(folder / "fleet") / "sealift.yaml"
        file.write_text(FILE.format(cron=CRON, us=us.host, eu=eu.host))
        written = load_fleet(file)
        fleet = Fleet(folder / "fleet", ["us", "eu"], {"SEALIFT_FLEET_FILE": str(file)})
        stack.callback(fleet.stop)
        for region in fleet.regions:
            fleet.start(region)
        fleet.await_ready(fleet.regions)
        born = last_slot(CRON, time.time())
        fleet.ledger.schedules.look("app", CRON, born, born)
        yield Field(fleet, stock, us, eu, spec_of(written.mirrors[0], written), born)


def test_mirrors_that_push_at_each_other_come_to_rest_and_then_write_nothing(field: Field) -> None:
    beat = fast_beat(field.fleet, field.born)
    for number in range(ROUNDS):
        ours, theirs = 2 * number, 2 * number + 1
        field.push(field.us, ours, f"us-{number}")
        for start in field.starters:
            start()
        field.push(field.eu, theirs, f"eu-{number}")
        field.push(field.us if number % 2 else field.eu, ours, "moving")
        field.await_both("moving", ours)

    for number in range(ROUNDS):
        field.await_both(f"us-{number}", 2 * number)
        field.await_both(f"eu-{number}", 2 * number + 1)
    field.await_runs(2)
    assert field.writes() != []

    field.await_runs(QUIET_RUNS)

    assert field.writes() == []
    assert not [one.tag for name in ("app", "ppa") for one in field.fleet.ledger.conflicts.open(name)]
    assert beat.running, beat.tail()
