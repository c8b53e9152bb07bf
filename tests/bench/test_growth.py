"""Curves of growth: from points to medians, bars, tables and a chart."""

from __future__ import annotations

from dataclasses import asdict
from json import dumps
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from bench import growth, growthreport
from bench.curves import FAR_MS, Measured, Point, Work, medians, points, rounds_of
from bench.rig import Cost, Shape
from bench.servers import NoRegistry
from bench.sets import blobs

SVG = "{http://www.w3.org/2000/svg}"


def measured(curve: str, work: Work, x: float, wall_s: float, *, tags: int = 60) -> Measured:
    return Measured(curve, work, x, tags, 1, Cost(wall_s, 1.0, 2**20, 2, 30, 20, 4096, 50, 1))


FAR = (
    measured("far", "copy", 0, 2.0),
    measured("far", "copy", FAR_MS, 4.0),
    measured("far", "nothing to do", FAR_MS, 2.0),
)


@pytest.mark.parametrize("quick", [False, True])
def test_no_two_points_and_rounds_share_a_repository(*, quick: bool) -> None:
    named = [point.name(number) for point in points(quick=quick) for number in (0, 1)]
    assert len(named) == len(set(named))


def test_there_is_only_something_to_do_where_something_is_copied() -> None:
    for point in points(quick=True):
        images = point.images(0)
        assert images.is_mirrored == (point.work == "nothing to do")
        assert len(images.tagged) == point.tags


def test_images_have_the_layers_of_their_point_and_nothing_in_common() -> None:
    images = Point("layers", "copy", 3, Shape(), 4, 3).images(0)
    digests = [blob.descriptor.digest for one in images.tagged for blob in blobs(one.content)]
    assert len(digests) == len(set(digests)) == 4 * (3 + 1)


def test_what_takes_long_is_measured_once() -> None:
    assert rounds_of(Point("tags", "nothing to do", 10_000, Shape(), 10_000), 3) == 1
    assert rounds_of(Point("distance", "copy", 100, Shape(redis_ms=100), 30), 3) == 1
    assert rounds_of(Point("tags", "copy", 100, Shape(), 100), 3) == 3


def test_rounds_become_medians_in_the_order_of_the_curves() -> None:
    rounds = [measured("targets", "copy", 1, wall) for wall in (3.0, 1.0, 2.0)]
    found = medians([*rounds, measured("tags", "copy", 100, 1.0)])
    assert [(one.curve, one.cost.wall_s) for one in found] == [("tags", 1.0), ("targets", 2.0)]


def test_a_fleet_far_from_redis_is_judged_by_rate_and_by_its_wall_next_to_redis() -> None:
    assert [verdict for verdict, *_ in growthreport.bars(FAR)] == ["pass", "pass"]
    slower = (FAR[0], measured("far", "copy", FAR_MS, 4.1), measured("far", "nothing to do", FAR_MS, 2.1))
    assert [verdict for verdict, *_ in growthreport.bars(slower)] == ["short", "short"]


def test_what_was_not_measured_is_not_judged() -> None:
    assert growthreport.bars(FAR[:1]) == []


def test_a_file_that_was_written_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "growth.json"
    file.write_text(dumps({"schema": 1, "measured": [asdict(one) for one in FAR]}))
    assert growth.read(file) == list(FAR)


def test_the_page_and_its_chart_are_written_between_the_marks_of_growth(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text(f"before\n{growthreport.BEGIN}\nold\n{growthreport.END}\nafter\n")
    lines = [measured("tags", work, x, x / 50) for work in ("copy", "nothing to do") for x in (100, 1000)]
    growthreport.write(tmp_path, [*lines, *FAR], 1)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert "| pass | set A, Redis 40 ms away" in text
    drawn = ET.fromstring((tmp_path / growthreport.CHART).read_text())
    assert len(drawn.findall(f".//{SVG}polyline")) == 2
    assert len(drawn.findall(f".//{SVG}circle")) == 4


@pytest.mark.fleet
def test_a_fleet_is_measured_at_both_kinds_of_work() -> None:
    shape = Shape(processes=1, redis_ms=1)
    wanted = [Point("distance", "copy", 1, shape, 2, 1), Point("distance", "nothing to do", 1, shape, 3)]
    try:
        copied, looked_at = (one.cost for one in growth.measure(wanted, 2))
    except NoRegistry as error:
        pytest.skip(str(error))
    assert copied.requests > looked_at.requests >= 6
    for cost in (copied, looked_at):
        assert cost.commands > cost.trips > 0
        assert cost.messages > 0
        assert cost.worker_peak_bytes > 2**20
