"""Retrying: one layer, inside a budget."""

from __future__ import annotations

import pytest

from mirror.retry import Patience
from registry.errors import NotFound, RegistryError, Throttled, Unreachable


class Flaky:
    """Fails with the given errors, one a call, then answers."""

    def __init__(self, *errors: RegistryError) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def patience(attempts: int = 5, budget_s: float = 60.0) -> tuple[Patience, list[float]]:
    waits: list[float] = []
    return Patience(attempts, budget_s, first_wait_s=1.0, wait=waits.append), waits


def unreachable() -> Unreachable:
    return Unreachable("r.example", "app:1", "connection reset")


def test_a_transient_fault_is_tried_again_with_growing_waits() -> None:
    tries, waits = patience()
    flaky = Flaky(unreachable(), unreachable(), unreachable())

    assert tries.attempt(flaky) == "done"
    assert len(waits) == 3
    assert all(0.5 * 2**n <= wait <= 2**n for n, wait in enumerate(waits))


def test_a_permanent_fault_is_not_tried_again() -> None:
    tries, waits = patience()
    flaky = Flaky(NotFound("r.example", "app:1", "no such tag", 404))

    with pytest.raises(NotFound):
        tries.attempt(flaky)
    assert (flaky.calls, waits) == (1, [])


def test_the_last_fault_rises_when_the_attempts_are_used_up() -> None:
    tries, waits = patience(attempts=3)
    flaky = Flaky(*[unreachable() for _ in range(9)])

    with pytest.raises(Unreachable):
        tries.attempt(flaky)
    assert (flaky.calls, len(waits)) == (3, 2)


def test_a_registry_that_asks_for_patience_is_given_what_it_asks_for() -> None:
    tries, waits = patience()
    flaky = Flaky(Throttled("r.example", "app:1", "slow down", 429, None, 7.0))

    assert tries.attempt(flaky) == "done"
    assert waits == [7.0]


def test_a_registry_that_asks_for_more_than_the_budget_is_not_waited_for() -> None:
    tries, waits = patience(budget_s=60.0)
    flaky = Flaky(Throttled("r.example", "app:1", "come back in an hour", 429, None, 3600.0))

    with pytest.raises(Throttled):
        tries.attempt(flaky)
    assert (flaky.calls, waits) == (1, [])


def test_what_went_well_for_long_before_it_broke_has_its_whole_budget_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tries, waits = patience(budget_s=60.0)
    clock = [0.0]
    monkeypatch.setattr("mirror.retry.time.monotonic", lambda: clock[0])
    flaky = Flaky(unreachable())

    def long_upload() -> str:
        clock[0] += 600.0
        return flaky()

    assert tries.attempt(long_upload) == "done"
    assert len(waits) == 1
