"""A real fleet and its exporter: what is scraped agrees with registries, skopeo and the ledger (issue 6)."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.images import build_image, random_layer
from tests.fleet.conftest import World
from tests.support import skopeo
from tests.support.process import Process
from tests.support.pushing import push
from tests.support.scraping import Scrapes
from tests.support.waiting import until
from workers import processes

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(180)]
TAGS = ("1", "2", "3")


@pytest.fixture
def scrapes(world: World, tmp_path: Path) -> Iterator[Scrapes]:
    words = [sys.executable, "-P", "-m", "workers.cli", "exporter", "--host", "127.0.0.1", "--port", "0"]
    with Process(words, tmp_path / "exporter.log", world.fleet._env, world.fleet.folder) as exporter:
        found = until(lambda: re.search(r"http://\S+/metrics", exporter.text()), 30, exporter.tail)
        assert found
        yield Scrapes(found[0])


def test_a_scrape_agrees_with_skopeo_the_registries_and_the_ledger(world: World, scrapes: Scrapes) -> None:
    shared = random_layer(400_000, seed=61)
    for tag in TAGS:
        image = build_image({}, layers=[shared, random_layer(100_000, seed=int(tag))])
        push(f"{world.source.host}/team/watched", image, tag)
    world.forget_requests()

    report = world.run("team/watched", referrers=False)

    assert report.state == "done", world.fleet.tags(report.run)
    asked = {one.host: len(one.requests()) for one in (world.source, *world.targets.values())}
    mirror = report.mirror
    for region, registry in world.targets.items():
        listed = skopeo.tags(f"{registry.host}/team/watched")
        own = {"mirror": mirror, "region": region}
        assert scrapes.sum("sealift_tags_total", **own, state="updated") == len(listed) == len(TAGS)
        (moved,) = (one.moved for one in report.regions if one.region == region)
        assert scrapes.sum("sealift_blobs_total", region=region, outcome="copied") == moved.copied_blobs == 7
        sent = scrapes.sum("sealift_copied_bytes_total", region=region, registry=registry.host)
        assert sent == moved.copied_bytes == skopeo.stored_bytes(f"{registry.host}/team/watched")
        assert scrapes.sum("sealift_workers", region=region) == 1
        assert scrapes.sum("sealift_queue_messages", queue=region) == 0
    assert scrapes.sum("sealift_tag_lag_seconds_count", mirror=mirror) == len(TAGS)
    assert scrapes.sum("sealift_runs_ended_total", mirror=mirror, state="done") == 1
    assert scrapes.sum("sealift_runs_open") == 0

    def told() -> dict[str, float]:
        return {host: scrapes.sum("sealift_registry_requests_total", registry=host) for host in asked}

    # Workers tell what they asked every few seconds.
    until(lambda: sum(told().values()) >= sum(asked.values()), 30, lambda: f"{told()} instead of {asked}")
    assert told() == asked, "by the registries' own logs"
    assert [scrapes.sum("sealift_registry_up", registry=host) for host in asked] == [1, 1, 1]

    again = world.run("team/watched", referrers=False)
    assert again.states == {"current": len(TAGS)}
    assert scrapes.sum("sealift_tags_total", mirror=mirror, state="current") == 2 * len(TAGS)
    assert scrapes.sum("sealift_blobs_total", outcome="copied") == 14
    assert scrapes.sum("sealift_runs_started_total", mirror=mirror) == 2


def test_what_waits_for_a_region_that_is_away_is_shown_with_its_age(world: World, scrapes: Scrapes) -> None:
    push(f"{world.source.host}/team/awaited", build_image({"a": b"awaited"}), "1")
    world.fleet.kill("eu")
    run = world.fleet.start_run(world.spec("team/awaited"))
    mirror = world.fleet.ledger.run_report(run).mirror

    def has_waited() -> bool:
        return scrapes.sum("sealift_queue_oldest_message_age_seconds", queue="eu") > 1

    until(has_waited, 60, world.fleet.logs)
    assert scrapes.sum("sealift_queue_messages", queue="eu") == 1
    assert scrapes.sum("sealift_queue_messages", queue="eu", lane="release") == 1
    assert scrapes.sum("sealift_runs_open", mirror=mirror, state="active") == 1
    assert scrapes.sum("sealift_tags_total", mirror=mirror) == 0, "nothing has ended"
    world.fleet.start("eu")

    assert world.fleet.wait(run).state == "done"
    assert scrapes.sum("sealift_queue_oldest_message_age_seconds", queue="eu") == 0
    assert scrapes.sum("sealift_runs_open") == 0
    assert scrapes.sum("sealift_tags_total", mirror=mirror, state="updated") == 2


def test_two_workers_of_a_region_on_one_machine_are_two_if_each_has_a_name(
    world: World, scrapes: Scrapes
) -> None:
    words = processes.worker("us", 1, "second")
    with Process(words, world.fleet.folder / "second.log", world.fleet._env, world.fleet.folder) as second:
        until(lambda: scrapes.sum("sealift_workers", region="us") == 2, 60, second.tail)
        assert "us@second ready." in until(
            lambda: second.text() if "ready." in second.text() else "", 60, second.tail
        )
    assert scrapes.sum("sealift_workers", region="us") == 1, "one that leaves takes no other with it"
