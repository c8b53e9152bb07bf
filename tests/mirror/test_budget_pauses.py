"""A registry that asks to be left alone is, by everybody; one that asks for nothing costs nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from mirror import budget as budget_module
from mirror.budget import Budget
from mirror.ledger import Ledger
from mirror.resume import Sessions
from registry.errors import Throttled
from registry.gate import Admission, Answer, Asking
from registry.memory import MemoryRegistry
from registry.ratelimits import RateLimits
from tests.support.budget import ADDRESS, ALL, Opener, image, opening, refusing
from tests.support.copying import SMALL_BLOB, Rig
from tests.support.valkey import ValkeyServer


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No margin for a clock that is the same, and no jitter to wait for."""
    monkeypatch.setattr(budget_module, "CLOCK_MARGIN_S", 0.0)
    monkeypatch.setattr(budget_module, "JITTER_SHARE", 0.0)


@pytest.fixture
def opened(valkey: ValkeyServer) -> Iterator[Opener]:
    with opening(valkey) as opener:
        yield opener


# -- pauses -------------------------------------------------------------------------------------------


def test_one_workers_429_stops_all_others(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget_module, "LOOK_FOR_PAUSE_S", 0.0)
    with MemoryRegistry() as registry:
        registry.hold("app", image("one"), "1")
        one, other = opened(registry.host), opened(registry.host)
        one.resolve("1")
        other.resolve("1")
        registry.on_request = refusing("HEAD", "/manifests/", "600")
        with pytest.raises(Throttled):
            one.resolve("1")
        asked = len(registry.requests)

        with pytest.raises(Throttled, match="asked to be left alone") as caught:
            other.blob_size(image("one").layers[0].descriptor.digest)
        assert len(registry.requests) == asked
        assert caught.value.retry_after_s == pytest.approx(600, abs=10)


def test_no_thread_of_a_new_process_is_faster_than_its_first_look_for_a_pause(
    valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with valkey.client() as client:
        ledger = Ledger(client, "test:")
        ledger.budgets.pause("r.example", "", 600)
        look = ledger.budgets.paused_s

        def look_slowly(host: str, account: str) -> float:
            time.sleep(0.1)
            return look(host, account)

        monkeypatch.setattr(ledger.budgets, "paused_s", look_slowly)
        gate = Budget(ledger, lambda _: ALL)
        asking = Asking("r.example", "", "app", "app:1", "GET", "blob")

        def is_refused(_: int) -> bool:
            try:
                gate.admit(asking)
            except Throttled:
                return True
            return False

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(is_refused, range(8)))


def test_a_429_that_does_not_say_how_long_is_answered_with_growing_pauses(
    valkey: ValkeyServer, opened: Opener
) -> None:
    with MemoryRegistry() as registry, valkey.client() as client:
        registry.hold("app", image("one"), "1")
        registry.on_request = refusing("HEAD", "/manifests/", None)
        pauses = []
        for _ in range(3):
            with pytest.raises(Throttled) as caught:
                opened(registry.host).resolve("1")
            pauses.append(caught.value.retry_after_s)
            client.delete(Ledger(client, "test:").keys.pause(registry.host, ""))

    assert pauses == [5.0, 10.0, 20.0]


def test_a_session_that_may_not_be_deleted_now_is_left_to_whoever_comes_next(rig: Rig) -> None:
    blob, content = SMALL_BLOB, rig.content
    sessions = Sessions(content)
    upload = sessions.open(blob, rig.target)
    assert upload is not None
    host, path = rig.target.host, "app"

    class Paused:
        host, name = rig.target.host, rig.target.name

        def cancel_upload(self, _: object) -> None:
            raise Throttled(self.host, "", "left alone", retry_after_s=60.0)

    sessions.cancel(blob, Paused(), upload)  # type: ignore[arg-type]  # all that is asked of it
    assert content.sight(host, path, blob.digest).session is not None

    sessions.cancel(blob, rig.target, upload)
    assert content.sight(host, path, blob.digest).session is None


# -- what costs nothing -------------------------------------------------------------------------------


def test_a_registry_without_limits_costs_one_command_a_second(valkey: ValkeyServer, opened: Opener) -> None:
    with MemoryRegistry() as registry, valkey.client() as client:
        digest = registry.hold("app", image("one"), "1").digest
        source = opened(registry.host)
        source.resolve("1")
        before, began = commands(client), time.monotonic()
        for _ in range(60):
            source.resolve("1")
            source.manifest(digest)
        took = time.monotonic() - began

        assert commands(client) - before - 1 <= took / budget_module.LOOK_FOR_PAUSE_S + 1
        assert registry.count("manifest", "HEAD") == 61, "nor is anything looked at"


def test_images_that_nobody_counts_go_on_where_others_must_wait(valkey: ValkeyServer) -> None:
    with valkey.client() as client:
        gate = Budget(Ledger(client, "test:"), lambda _: ALL)
        counted, free = (Asking("docker.io", "", name, name, "GET", "manifest") for name in ("app", "free"))
        assert gate.admit(counted) is None
        told(gate, counted, RateLimits(100, 0, 21600, ADDRESS))
        with pytest.raises(Throttled):
            gate.admit(counted, looked=True)
        assert gate.admit(free) is None
        told(gate, free, None)

        assert gate.admit(free, looked=True) is not None
        with pytest.raises(Throttled):
            gate.admit(counted)


def told(gate: Budget, asking: Asking, limits: RateLimits | None) -> None:
    head = replace(asking, method="HEAD")
    admission = gate.admit(head)
    assert isinstance(admission, Admission)
    gate.answered(admission, Answer(200, limits))


def commands(client: object) -> int:
    return int(client.info("stats")["total_commands_processed"])  # type: ignore[attr-defined]  # redis.Redis
