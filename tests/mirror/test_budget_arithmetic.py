"""What is left, what is under way and whose turn it is, with a clock of its own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from mirror import budget as budget_module
from mirror.budget import Allowance, Budget
from mirror.ledger import Ledger
from mirror.ledger.budgets import Answered, Budgets, Pace, Wanted
from registry.errors import Throttled
from registry.gate import Asking
from registry.ratelimits import RateLimits
from tests.support.budget import ADDRESS
from tests.support.valkey import ValkeyServer


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No margin for a clock that is the same, and no jitter to wait for."""
    monkeypatch.setattr(budget_module, "CLOCK_MARGIN_S", 0.0)
    monkeypatch.setattr(budget_module, "JITTER_SHARE", 0.0)


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def budgets(valkey: ValkeyServer, clock: Clock) -> Iterator[Budgets]:
    with valkey.client() as client:
        yield Budgets(client, Ledger(client, "test:").keys, clock)


def pull(token: str, *, looked: bool = False) -> Wanted:
    return Wanted("hub", "", ADDRESS, token, looked=looked)


def answer(
    budgets: Budgets, remaining: int | None, of: int = 10, token: str = "", at: float | None = None
) -> float | None:
    limits = None if remaining is None else RateLimits(of, remaining, 21600)
    return budgets.answered(Answered("hub", ADDRESS, token, at, 0.0, may_count=True, limits=limits))


def test_what_is_under_way_is_spent(budgets: Budgets) -> None:
    answer(budgets, 2)

    words = [budgets.admit(pull(token)).word for token in ("a", "b", "c")]
    assert words == ["go", "go", "busy"]


def test_a_killed_workers_reservation_comes_back_with_the_next_look(budgets: Budgets, clock: Clock) -> None:
    answer(budgets, 1)
    assert budgets.admit(pull("killed")).word == "go"
    assert budgets.admit(pull("other")).word == "busy"

    clock.now += 121
    assert budgets.admit(pull("other")).word == "look", "it may have been counted, or not"
    answer(budgets, 1, at=clock.now)
    assert budgets.admit(pull("other", looked=True)).word == "go"


def test_a_killed_workers_pull_that_was_counted_stays_spent(budgets: Budgets, clock: Clock) -> None:
    answer(budgets, 1)
    budgets.admit(pull("killed"))
    clock.now += 121
    budgets.admit(pull("other"))
    answer(budgets, 0, at=clock.now)

    assert budgets.admit(pull("other", looked=True)).word == "empty"


def test_an_answer_that_was_overtaken_gives_nothing_back(budgets: Budgets, clock: Clock) -> None:
    answer(budgets, 10)
    clock.now += 1
    slow, quick = (budgets.admit(pull(token)).at for token in ("slow", "quick"))
    clock.now += 1
    answer(budgets, 1, token="quick", at=quick)
    answer(budgets, 9, token="slow", at=slow)

    clock.now += 1
    assert budgets.admit(pull("next")).word != "go"


def test_at_the_end_of_a_window_one_looks_and_only_what_is_left_goes(budgets: Budgets, clock: Clock) -> None:
    answer(budgets, 0)
    waits = budgets.admit(pull("early"))
    assert (waits.word, waits.seconds) == ("empty", 900.0), "looked at again before its six hours are over"

    clock.now += 21600
    words = [budgets.admit(pull(f"{n}")).word for n in range(50)]
    assert (words.count("look"), words.count("busy")) == (1, 49)

    answer(budgets, 10, at=clock.now)
    words = [budgets.admit(pull(f"{n}")).word for n in range(50)]
    assert (words.count("go"), words.count("busy")) == (10, 40)


@pytest.mark.parametrize("per_minute", [1, 7, 60, 600])
def test_no_minute_holds_more_requests_than_the_pace_allows(
    budgets: Budgets, clock: Clock, per_minute: int
) -> None:
    wanted = Wanted("hub", "", pace=Pace(per_minute))
    sent: list[float] = []
    while len(sent) < 3 * per_minute + 2:
        verdict = budgets.admit(wanted)
        if verdict.word == "go":
            sent.append(clock.now + verdict.seconds)
        else:
            assert verdict.word == "paced"
            clock.now += verdict.seconds

    busiest = max(sum(start <= at < start + 60 - 1e-3 for at in sent) for start in sent)
    assert busiest <= per_minute
    assert sent[-1] - sent[0] <= 60 * (3 * per_minute + 2) / (0.9 * per_minute), "nor much less"


def test_a_paced_request_waits_for_its_turn_and_no_longer_than_a_slot_may(valkey: ValkeyServer) -> None:
    waits: list[float] = []
    with valkey.client() as client:
        gate = Budget(Ledger(client, "test:"), lambda _: Allowance(30), waits.append)
        asking = Asking("r.example", "", "app", "app:1", "HEAD", "manifest")
        with pytest.raises(Throttled, match="requests_per_minute") as caught:
            ask_often(gate, asking)

    assert 1 <= len(waits) <= 6
    assert max(waits) <= 10.0
    assert caught.value.retry_after_s is not None
    assert caught.value.retry_after_s > 10.0


def ask_often(gate: Budget, asking: Asking) -> None:
    for _ in range(30):
        gate.admit(asking)


def test_a_pause_is_reported_with_its_end(valkey: ValkeyServer) -> None:
    with valkey.client() as client:
        budgets = Ledger(client, "test:").budgets
        budgets.pause("r.example", "", 7200)
        answer(budgets, 76, of=100)

        paused, pulls = sorted(budgets.report(), key=lambda one: one.host, reverse=True)
    assert paused.paused_until_s == pytest.approx(time.time() + 7200, abs=30)
    assert (pulls.host, pulls.source, pulls.limit, pulls.remaining) == ("hub", ADDRESS, 100, 76)
