"""Whose turn it is on a real fleet with one slot: by order, not by the clock (issue 5)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from mirror.spec import MirrorSpec, Target
from registry.images import build_image
from registry.memory import MemoryRegistry
from tasks.canvas import PRIORITY
from tests.support.fleet import PREFIX, Fleet, made
from tests.support.scratch import scratch_folder
from tests.support.waiting import until

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(180)]
WAITING = 10_000


@dataclass(frozen=True, slots=True)
class Track:
    """One worker with one slot, and what it writes to."""

    fleet: Fleet
    source: MemoryRegistry
    target: MemoryRegistry

    def spec(self, name: str, *tags: str) -> MirrorSpec:
        """All tags, or exactly these: then nothing is listed."""
        targets = (Target(f"{self.target.host}/{name}", "us"),)
        refs = tuple((tag, tag) for tag in tags)
        return MirrorSpec(name, f"{self.source.host}/{name}", targets, referrers=False, refs=refs)

    def begun(self) -> list[str]:
        """``app/1.3``: each tag that was put, in the order in which that was begun."""
        puts = (one.path for one in self.target.requests if (one.kind, one.method) == ("manifest", "PUT"))
        return [path.removeprefix("/v2/").replace("/manifests/", "/") for path in puts]

    def waiting(self, lane: str) -> int:
        """Messages of the region's queue that nobody has taken."""
        step = PRIORITY[lane]  # type: ignore[index]  # a Lane
        return self.fleet._client.llen(f"{PREFIX}us:{step}")


@pytest.fixture
def track(request: pytest.FixtureRequest) -> Iterator[Track]:
    """``indirect``: how many batches of a run may be in flight."""
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder())
        source, target = (stack.enter_context(MemoryRegistry()) for _ in range(2))
        settings = {"SEALIFT_BATCH_TAGS": "1", "SEALIFT_WINDOW_BATCHES": str(request.param)}
        fleet = stack.enter_context(Fleet(made(folder / "fleet"), ["us"], settings, concurrency=1))
        yield Track(fleet, source, target)


def first_put(method: str, path: str) -> bool:
    return method == "PUT" and "/manifests/" in path


@pytest.mark.parametrize("track", [WAITING], indirect=True)
def test_a_release_copy_is_the_next_to_begin_behind_ten_thousand_batches_of_a_backfill(track: Track) -> None:
    image = build_image({"a": b"the same in every tag"})
    for number in range(WAITING + 1):
        track.source.hold("app", image, f"1.{number}")
    track.source.hold("urgent", build_image({"b": b"now"}), "2.0")

    with track.target.pause(first_put) as held:
        track.fleet.start_run(track.spec("app"), "backfill")
        assert held.reached.wait(60), track.fleet.logs()
        assert track.waiting("backfill") == WAITING - 1, "the first is in the slot, the window is full"
        release = track.fleet.start_run(track.spec("urgent", "2.0"))
        assert track.begun()[1:] == []
    report = track.fleet.wait(release)

    assert report.states == {"updated": 1}
    assert track.begun()[1] == "urgent/2.0", "the one after what was in the slot"
    assert track.waiting("backfill") > WAITING - 100


@pytest.mark.parametrize("track", [2], indirect=True)
def test_two_backfills_share_the_workers(track: Track) -> None:
    for name in ("one", "two"):
        for number in range(12):
            track.source.hold(name, build_image({"a": f"{name} {number}".encode()}), f"1.{number}")

    with track.target.pause(first_put) as held:
        first = track.fleet.start_run(track.spec("one"), "backfill")
        assert held.reached.wait(60), track.fleet.logs()
        second = track.fleet.start_run(track.spec("two"), "backfill")
        with track.fleet.valkey.client() as client:
            control = f"{PREFIX}control:{PRIORITY['backfill']}"
            until(lambda: client.llen(control), 10, "the second run's message")
    assert {track.fleet.wait(run).states["updated"] for run in (first, second)} == {12}

    order = [name.partition("/")[0] for name in track.begun()]
    for end in range(4, 20):
        ahead = order[:end].count("one") - order[:end].count("two")
        assert abs(ahead) <= 4, f"neither is more than its window and the other's ahead: {order}"
