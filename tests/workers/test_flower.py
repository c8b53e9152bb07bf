"""Flower as people see it: titles that read, progress while it happens, and no secret on any page."""

from __future__ import annotations

import base64
import json
import os
import re
import runpy
import signal
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any
from urllib.parse import urlencode

import pytest

from mirror.spec import MirrorSpec, Target
from registry.images import build_image, random_layer
from registry.memory import MemoryRegistry
from tasks import told
from tests.support.browser import Browser
from tests.support.fleet import Fleet, made
from tests.support.ports import free_port
from tests.support.process import Process
from tests.support.sentinels import FailingOver
from tests.support.valkey import ValkeyServer
from tests.support.waiting import until
from workers import flowerconfig
from workers.cli import main, serving
from workers.cli.exits import Stop
from workers.flowerconfig import format_task

COMMAND = [sys.executable, "-P", "-m", "workers.cli"]
SECRET = "hunter2-of-the-fleet"
PAGE_TIMEOUT_S = 15
FLEET = """\
registries:
  {host}: {{username: ci, password: env:REGISTRY_PASSWORD}}
mirrors:
  - name: explorer
    source: {host}/a/explorer
    targets: [{{region: eu, repository: {host}/b/explorer}}]
"""


@dataclass
class FlowerTask:
    """A task as Flower hands it to ``format_task``."""

    name: str | None
    args: str
    result: str | None = None
    kwargs: str = ""
    state: str = "SUCCESS"
    exception: str | None = None


@pytest.mark.parametrize(
    ("task", "name"),
    [
        (FlowerTask("sealift.land", "land · explorer 1.0 → eu"), "land · explorer 1.0 → eu"),
        (FlowerTask("sealift.sweep", "()"), "sealift.sweep"),  # as beat sends it
        (FlowerTask("other.task", "(1, 2)"), "other.task"),
        (FlowerTask(None, ""), None),
    ],
)
def test_a_task_is_called_by_its_title(task: FlowerTask, name: str | None) -> None:
    assert format_task(task).name == name


def test_a_task_whose_tags_failed_is_a_failure_with_the_reason_though_celery_knows_of_none() -> None:
    shown = format_task(FlowerTask("sealift.conclude", "conclude · app 1.0", "'failed: 1.0: it burned'"))

    assert (shown.state, shown.exception) == ("FAILURE", "1.0: it burned")
    assert format_task(FlowerTask("sealift.conclude", "conclude · app 1.0", "'2 updated'")).state == "SUCCESS"


def test_how_far_a_task_is_is_said_in_blobs_and_bytes() -> None:
    totals = {
        "copied_blobs": 2,
        "present_blobs": 1,
        "planned_blobs": 20,
        "copied_bytes": 12_000_000,
        "planned_bytes": 40_000_000,
    }
    assert told.progress(totals) == "blob 3 of 20 · 12 of 40 MB copied"
    assert told.progress({"copied_bytes": 2_000_000}) == "2 MB copied"


def test_flower_by_hand_takes_the_same_configuration_as_sealift_flower() -> None:
    by_hand = runpy.run_path(str(Path(__file__).parents[2] / "deploy" / "flower" / "flowerconfig.py"))
    installed = runpy.run_path(str(Path(flowerconfig.__file__)))

    assert by_hand["format_task"] is flowerconfig.format_task
    assert {name: by_hand[name] for name in by_hand["__all__"] if name != "format_task"} == {
        name: value
        for name, value in installed.items()
        if not name.startswith("_") and name not in {"Any", "FAILED", "annotations", "format_task"}
    }


@pytest.mark.parametrize(
    ("host", "environment", "refusal"),
    [
        ("127.0.0.1", {}, ""),
        ("::1", {}, ""),
        ("localhost", {}, ""),
        ("0.0.0.0", {}, "set FLOWER_BASIC_AUTH"),
        ("flower.example", {}, "set FLOWER_BASIC_AUTH"),
        ("0.0.0.0", {"FLOWER_BASIC_AUTH": "me:pw,you:pw"}, ""),
        ("0.0.0.0", {"FLOWER_AUTH": ".*@example.com"}, ""),
        ("127.0.0.1", {"FLOWER_BASIC_AUTH": SECRET}, "FLOWER_BASIC_AUTH is malformed"),
        ("127.0.0.1", {"FLOWER_BASIC_AUTH": f"me:{SECRET},"}, "FLOWER_BASIC_AUTH is malformed"),
    ],
)
def test_flower_is_seen_by_this_machine_alone_unless_it_asks_for_a_password(
    host: str, environment: dict[str, str], refusal: str
) -> None:
    if not refusal:
        serving._check_flower_access(host, environment)
        return
    with pytest.raises(Stop, match=refusal) as caught:
        serving._check_flower_access(host, environment)
    assert caught.value.code == 3
    assert SECRET not in str(caught.value)


def test_a_port_that_is_taken_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEALIFT_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        assert main(["flower", "--port", str(port)]) == 3

    said = capsys.readouterr().err
    assert said.startswith(f"sealift: cannot listen on 127.0.0.1:{port}: "), said
    assert said.count("\n") == 1


# -- a fleet with Flower ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Flower:
    port: int
    sealift: Process

    def get(self, path: str) -> str:
        """The page's text, an error's too."""
        return self._ask(urllib.request.Request(f"http://127.0.0.1:{self.port}{path}"))

    def tasks(self) -> list[dict[str, Any]]:
        """As the page of tasks asks for its rows."""
        form = {
            "draw": 1,
            "start": 0,
            "length": 200,
            "search[value]": "",
            "order[0][column]": 0,
            "order[0][dir]": "asc",
            "columns[0][data]": "received",
        }
        url = f"http://127.0.0.1:{self.port}/tasks/datatable"
        answer = self._ask(urllib.request.Request(url, urlencode(form).encode()))
        rows: list[dict[str, Any]] = json.loads(answer)["data"]
        return rows

    def names(self) -> list[str]:
        return [row["name"] for row in self.tasks()]

    def answers(self) -> bool:
        assert self.sealift.running, self.sealift.tail()
        try:
            return "Flower" in self.get("/")
        except OSError:
            return False

    @staticmethod
    def _ask(request: urllib.request.Request) -> str:
        try:
            with urllib.request.urlopen(request, timeout=PAGE_TIMEOUT_S) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            return error.read().decode()


@pytest.fixture
def registry() -> Iterator[MemoryRegistry]:
    with MemoryRegistry(username="ci", password=SECRET) as registry:
        for number in range(12):
            registry.hold("a/explorer", build_image({"n": bytes([number])}), f"v0.{number:02}")
        layers = [random_layer(300_000, seed=seed) for seed in range(4)]
        registry.hold("a/slow", build_image({"version": b"1"}, layers=layers), "1.0")
        yield registry


@contextmanager
def flower(folder: Path, host: str, settings: Mapping[str, str]) -> Iterator[Flower]:
    """``sealift up`` with Flower, typed in a folder where other configuration lies about."""
    (folder / "sealift.yaml").write_text(FLEET.format(host=host))
    (folder / "flowerconfig.py").write_text("raise SystemExit('not the one that is installed')")
    (folder / "celeryconfig.py").write_text("raise SystemExit('not ours')")
    own = {
        "SEALIFT_STATE_DIR": str(folder / "state"),
        "DOCKER_CONFIG": str(folder),
        "REGISTRY_PASSWORD": SECRET,
        "FLOWER_UNAUTHENTICATED_API": "1",
        **settings,
    }
    port = free_port()
    command = [*COMMAND, "up", "--flower-port", str(port)]
    with Process(command, folder / "up.log", own, folder) as process:
        found = Flower(port, process)
        until(found.answers, 40, process.tail)
        until(lambda: "eu@" in found.get("/workers"), 40, process.tail)
        yield found


def sealift(folder: Path, settings: Mapping[str, str], *words: str) -> None:
    own = {"SEALIFT_STATE_DIR": str(folder / "state"), "REGISTRY_PASSWORD": SECRET, **settings}
    process = Process([*COMMAND, *words], folder / f"{words[0]}.log", own, folder)
    until(lambda: not process.running, 60, process.tail)
    assert process.exit_code == 0, process.tail()


@pytest.mark.fleet
def test_flower_shows_a_run_by_its_titles_and_how_far_it_is(tmp_path: Path, registry: MemoryRegistry) -> None:
    slow = f"{registry.host}/a/slow:1.0"
    go_on, pause = Event(), Event()

    def slowly(method: str, path: str) -> None:
        if method == "PUT" and "/c/slow/blobs/" in path and not go_on.is_set():
            pause.wait(2.5)

    with flower(tmp_path, registry.host, {"SEALIFT_COPY_THREADS": "1"}) as page:
        sealift(tmp_path, {}, "sync")
        until(lambda: "mirror · explorer v0.00…v0.03 (4 tags) → eu" in page.names(), 20, page.sealift.tail)
        registry.on_request = slowly
        sealift(tmp_path, {}, "mirror", slow, "--to", f"eu={registry.host}/c/slow", "--no-wait")
        progress = until(partial(_progress, page), 30, page.sealift.tail)
        go_on.set()
        everything = _everything(page)

    assert progress
    assert progress["name"] == "mirror · a/slow 1.0 → eu"
    assert re.fullmatch(r"blob \d of 6 · \d of 1 MB copied", progress["result"]), progress
    assert SECRET not in everything
    assert "mirror · explorer" in everything


@pytest.mark.fleet
def test_no_page_of_flower_shows_the_password_of_redis(tmp_path: Path, registry: MemoryRegistry) -> None:
    (tmp_path / "valkey").mkdir()
    with ValkeyServer(tmp_path / "valkey") as server:
        with server.client() as client:
            client.config_set("requirepass", SECRET)
        url = server.url.replace("redis://", f"redis://:{SECRET}@")
        everything = _seen_of_a_run(tmp_path, registry, url)

    assert "redis://:**@127.0.0.1" in everything  # the pages were those that show it


@pytest.mark.fleet
def test_no_page_of_flower_shows_the_passwords_of_sentinels_and_what_they_watch(
    tmp_path: Path, registry: MemoryRegistry
) -> None:
    with FailingOver(tmp_path / "redis", SECRET, SECRET) as redis:
        everything = _seen_of_a_run(tmp_path, registry, redis.url)

    assert "sentinel" in everything


def _seen_of_a_run(folder: Path, registry: MemoryRegistry, redis_url: str) -> str:
    """All of Flower's pages after a run, which with the logs show nothing that is secret."""
    url = {"SEALIFT_REDIS_URL": redis_url}
    with flower(folder, registry.host, url) as page:
        sealift(folder, url, "sync")
        until(lambda: any("mirror ·" in name for name in page.names()), 20, page.sealift.tail)
        everything = _everything(page)
        logs = "".join(path.read_text() for path in (folder / "state" / "log").iterdir())
    assert '"broker"' in everything
    assert SECRET not in everything
    assert SECRET not in logs + page.sealift.text()
    return everything


ROWS = """
return [...document.querySelectorAll('#tasks-table tbody tr')].map(row => [
    ...[...row.querySelectorAll('td')].map(cell => cell.innerText.trim()),
    (row.querySelector("a[href*='/task/']") || {getAttribute: () => ''}).getAttribute('href')]);
"""
"""Each row's cells, and the path of the task's own page."""
SEARCH = "/tasks/datatable?draw=1&start=0&length=99&order[0][column]=0&order[0][dir]=asc&search[value]={}"
PAGES = ("/", "/workers", "/tasks", "/broker", "/metrics", "/api/tasks", "/api/workers?refresh=1")
ACCOUNT = f"admin:{SECRET}"
SHOTS = Path(__file__).parents[2] / "docs"


@pytest.mark.fleet
@pytest.mark.timeout(240)
def test_a_browser_shows_a_run_by_its_titles_and_why_a_tag_failed(tmp_path: Path) -> None:
    port = free_port()
    with (
        Browser(made(tmp_path / "browser")) as browser,
        MemoryRegistry(username="ci", password=SECRET) as source,
        MemoryRegistry(immutable_tags=True) as eu,
        Fleet(tmp_path, ["eu"], _with_account(tmp_path, source)) as fleet,
    ):
        settings = {**fleet._env, "FLOWER_BASIC_AUTH": ACCOUNT}
        command = [*COMMAND, "flower", "--port", str(port)]
        page = f"http://{ACCOUNT}@127.0.0.1:{port}"
        with Process(command, tmp_path / "flower.log", settings, tmp_path) as flower:
            until(partial(_shows, port, "/workers", "eu@"), 60, flower.tail)
            assert _read(port, "/tasks", None)[0] == 401
            run, _ = _publish_and_run(fleet, source, eu)
            browser.open(f"{page}/tasks")
            rows = until(partial(_rows, browser, 4), 30, flower.tail)
            _take(browser, "flower-tasks.png")
            failed = next(row for row in rows if "api 2.0" in row[0])
            browser.open(f"{page}{failed[-1]}")
            detail = str(browser.run("return document.body.innerText"))
            _take(browser, "flower-task.png")
            of_run = json.loads(_read(port, SEARCH.format(run))[1])["data"]
            everything = "".join(_read(port, path)[1] for path in PAGES)

    titles = [row[0] for row in rows]
    assert any(title.startswith("mirror · explorer 0.0.0…") and title.endswith("→ eu") for title in titles)
    assert not any("sweep" in title for title in titles)
    assert failed[1] == "FAILURE"
    assert "tag is immutable" in failed[2]
    assert "tag is immutable" in detail
    assert {task["name"].split(" · ")[0] for task in of_run} == {"enumerate", "mirror"}
    assert all("explorer" in task["name"] for task in of_run)
    assert SECRET not in "".join([json.dumps(rows), detail, everything, flower.text()])


def _with_account(folder: Path, source: MemoryRegistry) -> dict[str, str]:
    fleet_file = folder / "sealift.yaml"
    fleet_file.write_text(
        f"registries:\n  {source.host}: {{username: ci, password: env:REGISTRY_PASSWORD}}\n"
    )
    return {
        "SEALIFT_FLEET_FILE": str(fleet_file),
        "REGISTRY_PASSWORD": SECRET,
        "SEALIFT_BATCH_TAGS": "4",
    }


def _publish_and_run(fleet: Fleet, source: MemoryRegistry, eu: MemoryRegistry) -> list[str]:
    """A run of several batches that goes well, and one whose tag may not move; their ids."""
    for number in range(10):
        source.hold("kuzudb/explorer", build_image({"n": bytes([number])}), f"0.{number}.0")
    source.hold("kuzudb/api", build_image({"n": b"new"}), "2.0")
    eu.hold("mirror/api", build_image({"n": b"old"}), "2.0")
    ended = []
    for name in ("explorer", "api"):
        target = Target(f"{eu.host}/mirror/{name}", "eu")
        ended.append(fleet.run(MirrorSpec(name, f"{source.host}/kuzudb/{name}", (target,))))
    assert [report.states for report in ended] == [{"updated": 10}, {"failed": 1}]
    return [report.run for report in ended]


def _rows(browser: Browser, least: int) -> list[list[str]]:
    rows: list[list[str]] = [row for row in browser.run(ROWS) if len(row) > 1]
    return rows if len(rows) >= least and any("api 2.0" in row[0] and row[2] for row in rows) else []


def _take(browser: Browser, name: str) -> None:
    """Into docs/, where somebody wants new pictures there."""
    if os.environ.get("SEALIFT_TEST_SCREENSHOTS"):
        browser.screenshot(SHOTS / name)


def _read(port: int, path: str, account: str | None = ACCOUNT) -> tuple[int, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}")
    if account:
        request.add_header("Authorization", f"Basic {base64.b64encode(account.encode()).decode()}")
    try:
        with urllib.request.urlopen(request, timeout=PAGE_TIMEOUT_S) as answer:
            return answer.status, str(answer.read().decode())
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def _shows(port: int, path: str, text: str) -> bool:
    try:
        return text in _read(port, path)[1]
    except OSError:
        return False


def _progress(page: Flower) -> dict[str, Any] | None:
    return next((row for row in page.tasks() if row["state"] == "PROGRESS"), None)


def _everything(page: Flower) -> str:
    """Every page and every answer of the API that has configuration or tasks in it."""
    workers: list[str] = []

    def are_listed() -> bool:
        """Flower asks the workers and waits a second: a busy one may be too late."""
        workers[:] = json.loads(page.get("/api/workers?refresh=1"))
        return bool(workers)

    until(are_listed, 20, page.sealift.tail)
    paths = ["/", "/workers", "/tasks", "/broker", "/metrics", "/api/tasks", "/api/task/types"]
    paths += [f"/worker/{name}" for name in workers]
    paths += [f"/task/{row['uuid']}" for row in page.tasks()]
    rows = [*json.loads(page.get("/api/workers")).values(), *page.tasks()]
    return "".join([*map(page.get, paths), json.dumps(rows, ensure_ascii=False)])
