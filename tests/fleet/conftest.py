"""One world for the tests of a file: a source, a registry in each of two regions, workers for both."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace

import pytest

from mirror.report import RunReport
from mirror.spec import MirrorSpec, Target
from tests.support.fleet import Fleet, made
from tests.support.registries import DockerRegistry
from tests.support.scratch import scratch_folder

REGIONS = ("us", "eu")


@dataclass(frozen=True, slots=True)
class World:
    """``us`` and ``eu`` are at once the regions and what stands in them."""

    fleet: Fleet
    source: DockerRegistry
    us: DockerRegistry
    eu: DockerRegistry

    @property
    def targets(self) -> dict[str, DockerRegistry]:
        return {"us": self.us, "eu": self.eu}

    def spec(self, repository: str, **terms: object) -> MirrorSpec:
        """Mirror ``repository`` from the source to the same name in both regions."""
        targets = tuple(
            Target(f"{registry.host}/{repository}", region) for region, registry in self.targets.items()
        )
        source = f"{self.source.host}/{repository}"
        return MirrorSpec(repository.replace("/", "-"), source, targets, **terms)  # type: ignore[arg-type]  # a test's own words

    def run(self, repository: str, **terms: object) -> RunReport:
        return self.fleet.run(self.spec(repository, **terms))

    def run_to(self, target: str, repository: str, **terms: object) -> RunReport:
        """The same into one other ``host/repository``, by the workers of ``us``."""
        spec = self.spec(repository, **terms)
        return self.fleet.run(replace(spec, targets=(Target(target, "us"),)))

    def forget_requests(self) -> None:
        for registry in (self.source, self.us, self.eu):
            registry.forget_requests()


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder())
        registries = [
            stack.enter_context(DockerRegistry(made(folder / name))) for name in ("source", *REGIONS)
        ]
        fleet = stack.enter_context(Fleet(made(folder / "fleet"), REGIONS))
        yield World(fleet, *registries)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure shows what the workers said."""
    report = yield
    world = getattr(item, "funcargs", {}).get("world")
    if report.failed and isinstance(world, World):
        report.sections.append(("the fleet's logs", world.fleet.logs()))
    return report
