"""Threads outlive the steps that they work for."""

from __future__ import annotations

import threading

import pytest

from mirror.threads import Threads
from tests.support.waiting import until


def test_a_step_is_given_the_threads_that_the_step_before_it_had() -> None:
    threads = Threads()
    names: list[str] = []
    for _ in range(3):
        with threads.lend(1) as crew:
            names += crew.map(lambda _: threading.current_thread().name, "ab")

    assert len(set(names)) == 1


def test_steps_that_run_at_once_do_not_wait_for_each_other() -> None:
    threads, gate = Threads(), threading.Event()
    with threads.lend(1) as busy:
        held = busy.submit(gate.wait, 10)
        with threads.lend(1) as crew:
            assert crew.submit(lambda: "done").result(5) == "done"
        gate.set()
    assert held.result()


def test_a_step_that_fails_ends_when_all_its_work_has() -> None:
    threads, gate = Threads(), threading.Event()
    ended: list[str] = []

    def work(name: str) -> None:
        if name == "bad":
            threading.Timer(0.1, gate.set).start()
            raise ValueError(name)
        gate.wait(10)
        ended.append(name)

    with pytest.raises(ValueError, match="bad"), threads.lend(2) as crew:
        list(crew.map(work, ["bad", "good"]))

    assert ended == ["good"]


def test_threads_end_with_whoever_lent_them() -> None:
    threads = Threads()
    with threads.lend(1) as crew:
        (thread, _) = crew.map(lambda _: threading.current_thread(), "ab")
    del threads, crew

    until(lambda: not thread.is_alive(), 5, "the thread to end")
