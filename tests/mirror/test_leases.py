"""Leases live as long as their worker, and little longer."""

from __future__ import annotations

import os
import socket
import subprocess
import threading

import pytest

from mirror.ledger import leases
from mirror.ledger.keys import Keys
from tests.support.valkey import ValkeyServer
from tests.support.waiting import until


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "LEASE_S", 0.4)
    monkeypatch.setattr(leases, "RENEW_S", 0.1)


def test_a_lease_is_renewed_for_as_long_as_it_is_held(valkey: ValkeyServer) -> None:
    with valkey.client() as client:
        ours, theirs = (leases.Leases(client, Keys("test:")) for _ in range(2))
        held = ours.take("eu.example", "sha256:x")
        assert held

        assert not threading.Event().wait(1.2)
        assert theirs.take("eu.example", "sha256:x") is None
        ours.release(held)
        assert theirs.take("eu.example", "sha256:x")


def test_a_lease_of_a_worker_that_died_is_free_soon(valkey: ValkeyServer) -> None:
    with valkey.client() as client:
        dead, alive = (leases.Leases(client, Keys("test:")) for _ in range(2))
        assert dead.take("eu.example", "sha256:x")
        dead._held.clear()  # nobody renews it any more

        until(lambda: alive.take("eu.example", "sha256:x"), 5, "the lease to lapse")


def test_the_keeper_ends_when_nothing_is_held(valkey: ValkeyServer) -> None:
    with valkey.client() as client:
        ours = leases.Leases(client, Keys("test:"))
        lease = ours.take("eu.example", "sha256:x")
        assert lease
        ours.release(lease)

        until(lambda: ours._keeper is None, 5, "the keeper to end")


def test_a_lease_of_a_thread_that_hangs_for_good_is_renewed_no_longer_than_a_step_may_take(
    valkey: ValkeyServer,
) -> None:
    with valkey.client() as client:
        hung = leases.Leases(client, Keys("test:"), longest_s=0.5)
        assert hung.take("eu.example", "sha256:x")
        alive = leases.Leases(client, Keys("test:"))

        until(lambda: alive.take("eu.example", "sha256:x"), 5, "the lease to lapse")


def test_turns_are_taken_one_after_the_other(valkey: ValkeyServer) -> None:
    order: list[str] = []
    with valkey.client() as client:
        ours = leases.Leases(client, Keys("test:"))
        inside, go_on = threading.Event(), threading.Event()

        def second() -> None:
            with ours.turn("referrers", "sha256:x"):
                order.append("second")

        thread = threading.Thread(target=second)
        with ours.turn("referrers", "sha256:x"):
            thread.start()
            inside.set()
            assert not go_on.wait(0.2)
            order.append("first")
        thread.join(5)
    assert order == ["first", "second"]


def test_a_lease_of_a_process_of_this_machine_that_was_killed_is_free_at_once(valkey: ValkeyServer) -> None:
    with valkey.client() as client:
        killed = subprocess.Popen(["true"])
        killed.wait()
        ours = leases.Leases(client, Keys("test:"))
        key = Keys("test:").lease("eu.example", "sha256:x")
        client.set(key, f"{socket.gethostname()} {os.getpid()} abc")
        assert ours.take("eu.example", "sha256:x") is None
        client.set(key, f"another-machine {killed.pid} abc")
        assert ours.take("eu.example", "sha256:x") is None

        client.set(key, f"{socket.gethostname()} {killed.pid} abc")
        assert ours.take("eu.example", "sha256:x")


def test_giving_up_several_leases_while_redis_is_away_leaves_none_to_be_renewed(valkey: ValkeyServer) -> None:
    with valkey.client() as client:
        ours = leases.Leases(client, Keys("test:"))
        held = [ours.take(host, "sha256:x") for host in ("eu.example", "us.example")]
        valkey.kill()
        for lease in held:
            assert lease
            ours.release(lease)

        assert not ours._held
