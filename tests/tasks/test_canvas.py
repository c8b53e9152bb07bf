"""What is sent where, and how it reads to people."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest

from config.settings import Settings
from mirror.ledger import Ledger
from mirror.spec import MirrorSpec, Target
from tasks import canvas
from tasks.configuration import celery_configuration
from tests.support.valkey import ValkeyServer

SPEC = MirrorSpec("explorer", "src.example/explorer", (Target("eu.example/explorer", "eu"),))


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        (["v0.8"], "explorer v0.8"),
        (["v0.8", "v0.8.1", "v0.9"], "explorer v0.8…v0.9 (3 tags)"),
        ([], "explorer"),
    ],
)
def test_a_batch_is_called_by_its_mirror_and_its_tags(tags: list[str], expected: str) -> None:
    assert canvas.title(SPEC, [(tag, tag) for tag in tags]) == expected


def test_a_haul_goes_to_its_regions_queue_in_its_runs_lane(valkey: ValkeyServer) -> None:
    with valkey.client() as client:
        ledger = Ledger(client, "test:")
        run = ledger.create_run(SPEC, "backfill")
        ledger.add_batches(run, "", "", [[("1.0", "1.0")]], listed=True)
        sent = canvas.haul(ledger, f"{run}.0", "eu", f"sha256:{'a' * 64}")

    assert (sent.options["queue"], sent.options["priority"]) == ("eu", 9)
    assert sent.options["argsrepr"] == "haul · explorer sha256:aaaaaaaaaaaa… → eu"
    assert sent.immutable
    assert sent.options["task_id"].startswith(canvas.mark("haul", f"{run}.0", "eu"))


def test_what_a_chord_has_grown_by_has_an_end_though_redis_lost_it_meanwhile(valkey: ValkeyServer) -> None:
    with valkey.client() as client:
        client.flushdb()

        def lose_and_add(_: object) -> None:
            client.delete("group.t")
            client.incr("group.t")  # as Celery's backend does

        backend = SimpleNamespace(client=client, get_key_for_group="{}{}".format)
        app = SimpleNamespace(conf=SimpleNamespace(result_chord_expires=60))
        request = SimpleNamespace(group="group")
        task: Any = SimpleNamespace(app=app, backend=backend, request=request, add_to_chord=lose_and_add)
        hauls: list[Any] = ["one", "another"]
        canvas.grow(task, hauls)

        assert client.get("group.t") == b"1"
        assert 0 < cast("int", client.ttl("group.t")) <= 60


@pytest.mark.parametrize(("name", "turn"), [("land", "backfill"), ("flip", "first"), ("unflip", "first")])
def test_nothing_comes_between_the_flips_of_a_batch(valkey: ValkeyServer, name: str, turn: str) -> None:
    with valkey.client() as client:
        ledger = Ledger(client, "test:")
        run = ledger.create_run(SPEC, "backfill")

        assert canvas.turn_of(ledger, name, run) == turn


def test_a_worker_keeps_what_it_took_under_its_regions_name() -> None:
    conf = celery_configuration(Settings(), "redis://cache/0", ["us", "eu"], own="eu")

    assert conf["broker_transport_options"]["unacked_key"] == "unacked:eu"
    assert [queue.name for queue in conf["task_queues"]] == ["control", "us", "eu"]


def test_messages_are_kept_until_done_and_results_are_not_kept() -> None:
    conf = celery_configuration(Settings(), "redis://cache/0", [])

    assert conf["task_acks_late"]
    assert conf["task_reject_on_worker_lost"]
    assert conf["task_ignore_result"]
    assert not conf["worker_deduplicate_successful_tasks"], "it makes chords hang"
    assert not conf["worker_cancel_long_running_tasks_on_connection_loss"]
    assert json.dumps({key: value for key, value in conf.items() if key != "task_queues"})


def test_a_probe_waits_for_no_flip_that_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[canvas.Turn] = []

    def catch(*words: Any) -> SimpleNamespace:
        return SimpleNamespace(delay=lambda: turns.append(words[-1]))

    monkeypatch.setattr(canvas, "_task", catch)
    canvas.send_probe("eu", "1")

    (turn,) = turns
    assert canvas.PRIORITY[turn] == min(canvas.PRIORITY.values())
