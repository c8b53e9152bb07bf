"""Flower as people see it: titles that read, progress while it happens, and no secret on any page."""

from __future__ import annotations

import json
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

from registry.images import build_image, random_layer
from registry.memory import MemoryRegistry
from tests.support.ports import free_port
from tests.support.process import Process
from tests.support.valkey import ValkeyServer
from tests.support.waiting import until
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
    assert progress["result"].endswith("MB copied")
    assert SECRET not in everything
    assert "mirror · explorer" in everything


@pytest.mark.fleet
def test_no_page_of_flower_shows_the_password_of_redis(tmp_path: Path, registry: MemoryRegistry) -> None:
    (tmp_path / "valkey").mkdir()
    with ValkeyServer(tmp_path / "valkey") as server:
        with server.client() as client:
            client.config_set("requirepass", SECRET)
        url = {"SEALIFT_REDIS_URL": server.url.replace("redis://", f"redis://:{SECRET}@")}
        with flower(tmp_path, registry.host, url) as page:
            sealift(tmp_path, url, "sync")
            until(lambda: any("mirror ·" in name for name in page.names()), 20, page.sealift.tail)
            everything = _everything(page)
            logs = "".join(path.read_text() for path in (tmp_path / "state" / "log").iterdir())

    assert SECRET not in everything
    assert SECRET not in logs + page.sealift.text()
    assert "redis://:**@127.0.0.1" in everything  # the pages were those that show it


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
