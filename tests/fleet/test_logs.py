"""The logs of real processes: each line one JSON object that says what it is about, and no secret."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from mirror.report import RunReport
from mirror.spec import MirrorSpec, Target
from registry.images import build_image, random_layer
from registry.memory import MemoryRegistry
from tests.support.fleet import Fleet, made
from tests.support.process import Process
from tests.support.pushing import push
from tests.support.scratch import scratch_folder

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(300)]

SECRET = "sesame-opens"
REGIONS = ("eu", "us")


@dataclass
class Logged:
    """A run of a tag that is there and one that is not, and what every process wrote of it."""

    report: RunReport
    lines: list[dict[str, Any]]
    """Of workers and beat."""
    text: str

    @property
    def about_run(self) -> list[dict[str, Any]]:
        return [line for line in self.lines if line.get("run") == self.report.run]


def parsed(process: Process) -> list[dict[str, Any]]:
    return [json.loads(line) for line in process.text().splitlines()]


@pytest.fixture(scope="module")
def logged() -> Iterator[Logged]:
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder())
        source, target = (stack.enter_context(MemoryRegistry()) for _ in range(2))
        push(f"{source.host}/app", build_image({"app": b"1"}, layers=[random_layer(2**16)]), "1.0")
        targets = tuple(Target(f"{target.host}/{region}", region) for region in REGIONS)
        spec = MirrorSpec(
            "app-mirror", f"{source.host}/app", targets, refs=(("1.0", "1.0"), ("gone", "gone"))
        )
        fleet = Fleet(made(folder / "fleet"), REGIONS, {"SEALIFT_LOG_FORMAT": "json"})
        stack.callback(fleet.stop)
        with fleet.valkey.client() as client:
            client.execute_command("ACL", "SETUSER", "fleet", "on", f">{SECRET}", "~*", "&*", "+@all")
        fleet._env["SEALIFT_REDIS_URL"] = fleet.valkey.url.replace("://", f"://fleet:{SECRET}@")
        fleet.start_all()
        report = fleet.run(spec)
        for process in fleet._started:
            process.stop()  # in good order: their last words are lines, too
        lines = [line for process in fleet._started for line in parsed(process)]
        yield Logged(report, lines, fleet.logs())


def test_every_line_is_one_json_object_with_an_event(logged: Logged) -> None:
    assert logged.report.states == {"updated": 1, "failed": 1}
    for line in logged.lines:  # that it is one, the fixture has seen
        assert line["event"]
        assert {"timestamp", "level", "logger", "process"} <= line.keys()


def test_every_line_of_a_run_says_run_mirror_and_region(logged: Logged) -> None:
    of_tasks = [line for line in logged.lines if line.get("task") not in {None, "sealift.sweep"}]

    assert of_tasks
    assert of_tasks == [line for line in logged.about_run if "task" in line]
    for line in of_tasks:
        assert line["mirror"] == "app-mirror", line
        assert line["region"] in REGIONS, line
    by_task = {line["task"]: line for line in of_tasks}
    assert {"sealift.enumerate", "sealift.resolve", "sealift.land", "sealift.flip"} <= by_task.keys()
    assert by_task["sealift.land"]["batch"] == f"{logged.report.run}.0"


def test_a_tag_that_failed_is_a_line_for_each_target_with_its_registry_and_reason(logged: Logged) -> None:
    failed = [line for line in logged.about_run if "tag" in line]

    assert {(line["tag"], line["region"]) for line in failed} == {("gone", region) for region in REGIONS}
    for line in failed:
        assert line["level"] == "warning"
        assert line["kind"] == "NotFound"
        assert line["target"].partition("/")[0] == line["registry"]
        assert line["event"].startswith(f"tag gone failed in {line['target']}: ")


def test_the_password_of_a_url_never_shows(logged: Logged) -> None:
    assert logged.lines
    assert SECRET not in json.dumps(logged.lines) + logged.text
