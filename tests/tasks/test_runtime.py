"""What a process is composed of, and what it says when it cannot be."""

from __future__ import annotations

import base64
import json
import os
import signal
import threading
import warnings
from contextlib import closing
from pathlib import Path

import pytest
from celery import Celery

import tasks.runtime as runtime_module
from config.fleet import Fleet, parse_fleet
from config.settings import Settings
from mirror.spec import MirrorSpec, Target
from registry.reference import Wildcard
from tasks import canvas
from tasks.configuration import celery_configuration
from tasks.runtime import (
    NoBroker,
    Runtime,
    compose,
    connections_of,
    fleet_of,
    lists_of,
    redis_url,
    regions_of,
)
from tasks.sweep import Queues
from tests.support.valkey import ValkeyServer
from tests.support.waiting import until
from tests.support.wire import Wire, answering

FLEET = """
redis_url: env:FLEET_REDIS
mirrors:
  - {name: app, source: src.example/app, targets: [{region: us, repository: us.example/app}, eu.example/app]}
"""


def settings(monkeypatch: pytest.MonkeyPatch, **values: str) -> Settings:
    for name, value in values.items():
        monkeypatch.setenv(f"SEALIFT_{name}", value)
    return Settings()


def test_the_environment_goes_before_the_fleet_file(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = parse_fleet(FLEET)
    monkeypatch.setenv("FLEET_REDIS", "redis://from-file/0")

    assert redis_url(settings(monkeypatch), fleet) == "redis://from-file/0"
    assert redis_url(settings(monkeypatch, REDIS_URL="redis://from-env/0"), fleet) == "redis://from-env/0"


def test_a_worker_without_a_redis_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEALIFT_REDIS_URL", raising=False)
    with pytest.raises(NoBroker, match="set SEALIFT_REDIS_URL or redis_url"):
        redis_url(Settings(), Fleet())


def test_the_default_fleet_file_may_be_absent_but_a_named_one_may_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert fleet_of(Settings()).mirrors == ()
    with pytest.raises(ValueError, match=r"nope\.yaml"):
        fleet_of(settings(monkeypatch, FLEET_FILE="nope.yaml"))


def test_each_region_is_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert regions_of(parse_fleet(FLEET)) == ("us", "local")


def test_a_runtime_reaches_its_redis(valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    made = compose(settings(monkeypatch, REDIS_URL=valkey.url, COPY_THREADS="3"))
    assert made.ledger.runs() == []
    assert made.engine.limits.copy_threads == 3
    made.close()


def test_a_child_that_is_forked_while_the_parent_composes_does_not_wait_for_it(
    valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEALIFT_REDIS_URL", valkey.url)
    with runtime_module._making, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads and fork: what is tested here
        pid = os.fork()
        if pid == 0:
            runtime_module.runtime()
            os._exit(0)

    def ended() -> bool:
        return os.waitpid(pid, os.WNOHANG) != (0, 0)

    try:
        until(ended, 10, "the child to compose a runtime of its own")
    except AssertionError:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise


def test_a_child_that_is_forked_while_the_parent_makes_its_engine_can_make_its_own(
    valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker's main process makes one when a task has killed its processes, while the next is forked."""
    monkeypatch.setenv("SEALIFT_REDIS_URL", valkey.url)
    lock = vars(vars(Runtime)["engine"]).get("lock", threading.RLock())  # from Python 3.12 on there is none
    entered, done = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            entered.set()
            done.wait(60)

    parents = threading.Thread(target=hold)
    parents.start()
    assert entered.wait(10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads and fork: what is tested here
        pid = os.fork()
        if pid == 0:
            _ = runtime_module.runtime().engine
            os._exit(0)
    try:
        until(lambda: os.waitpid(pid, os.WNOHANG) != (0, 0), 20, "the child to make an engine of its own")
    except AssertionError:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    finally:
        done.set()
        parents.join()


def test_a_message_that_waits_is_found_by_how_its_id_begins(
    valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = compose(settings(monkeypatch, REDIS_URL=valkey.url))
    app = Celery("test", set_as_current=False)
    app.conf.update(celery_configuration(made.settings, valkey.url, ["eu"]))
    spec = MirrorSpec("app", "src.example/app", (Target("eu.example/app", "eu"),))
    run = made.ledger.create_run(spec, "backfill")
    made.ledger.add_batches(run, "", "", [[("1.0", "1.0")]], listed=True)
    with app.connection_for_write():
        sent = canvas.haul(made.ledger, f"{run}.0", "eu", f"sha256:{'a' * 64}")
        app.send_task(str(sent.task), sent.args, **sent.options)

    queues = Queues(made)
    assert queues.hold("eu", canvas.mark("haul", f"{run}.0", "eu"))
    assert not queues.hold("us", canvas.mark("haul", f"{run}.0", "eu"))
    assert not queues.hold("eu", canvas.mark("land", f"{run}.0", "eu"))
    app.close()


def test_repositories_are_listed_by_what_the_fleet_file_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSWORD", "right")
    monkeypatch.setenv("TOKEN", "shown")
    several = [{"username": name, "password": "env:PASSWORD"} for name in ("first", "second")]
    with Wire(answering(200, "[]")) as wire:
        registries = {
            wire.host: {"listing": "harbor", "accounts": several},
            "r.example": {"listing": "gitlab", "listing_host": wire.host, "listing_token": "env:TOKEN"},
        }
        fleet = parse_fleet(f"registries: {json.dumps(registries)}")
        with closing(connections_of(Settings(), fleet)) as connections:
            for host in registries:
                assert lists_of(fleet, connections).page(Wildcard(host, "org/"), "").names == ()

        first = base64.b64encode(b"first:right").decode()
        assert [call.headers["authorization"] for call in wire.calls] == [f"Basic {first}", "Bearer shown"]
