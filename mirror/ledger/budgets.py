"""Budgets: what a registry still allows the whole fleet, and until when it is left alone.

Pulls are counted by what the registry says that it counts; requests by host; a pause holds for one account
at one host. All of it is derived: what is lost, the registry's next answer says again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from mirror.ledger import budget_scripts as scripts
from mirror.ledger.keys import Client, Keys
from registry.ratelimits import RateLimits

LEASE_S = 120
"""After so long a pull that was not answered is no longer under way."""
LONGEST_DELAY_S = 10.0
"""How long a request waits for its turn in a worker's slot."""
LEAST_LOOK_S = 60
LOOKS_PER_WINDOW = 24
"""How often a budget that is empty is looked at again: registries give pulls back before their time is up."""
FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 300.0
"""After a 429 that does not say for how long."""
KEEP_S = 31 * 86400


@dataclass(frozen=True, slots=True)
class Pace:
    """Not more than so many requests in any minute, evenly but for a tenth of them."""

    per_minute: int

    @property
    def extra(self) -> int:
        """How many may come at once besides the first."""
        return self.per_minute // 10

    @property
    def spacing_s(self) -> float:
        """Wide enough that no window of a minute holds more, the burst included."""
        return 60.0 / (self.per_minute - self.extra)


@dataclass(frozen=True, slots=True)
class Wanted:
    """One request, as :meth:`Budgets.admit` needs it; ``token`` is empty where it is no pull."""

    host: str
    account: str
    source: str = ""
    token: str = ""
    looked: bool = False
    kept_share: float = 0.0
    """Of the pulls, not to be touched by this request."""
    pace: Pace | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """``go`` in ``seconds``; ``look`` first; or wait so long: everything else says why."""

    word: Literal["go", "look", "paused", "paced", "busy", "empty"]
    seconds: float
    at: float
    """By the clock that all of the ledger uses."""
    left: float | None = None
    limit: int | None = None
    window_s: int | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """What is known of a pull's answer; ``at``: when it was admitted, None: at most ``ago_s`` before now."""

    host: str
    source: str
    token: str
    at: float | None
    ago_s: float
    may_count: bool
    limits: RateLimits | None


@dataclass(frozen=True, slots=True)
class BudgetReport:
    """What one source of pulls, or one account that is paused, may still do."""

    host: str
    source: str
    limit: int | None = None
    remaining: int | None = None
    under_way: int = 0
    window_s: int | None = None
    until_s: float | None = None
    """Unix time at which the window ends at the latest."""
    paused_until_s: float | None = None

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


class Budgets:
    """The fleet's budgets; each step is one script, and one exchange with the server."""

    def __init__(self, client: Client, keys: Keys, clock: Callable[[], float] | None = None) -> None:
        """``clock`` replaces the server's, for pulls and paces: tests move it."""
        self._redis, self._keys, self._clock = client, keys, clock
        script = client.register_script
        self._admit, self._answered = script(scripts.ADMIT), script(scripts.ANSWERED)
        self._pause, self._note_counting = script(scripts.PAUSE), script(scripts.NOTE_COUNTING)

    def admit(self, wanted: Wanted) -> Verdict:
        """Reserve what the request needs, or say why not."""
        keys, pace = self._keys, wanted.pace
        source = wanted.source or wanted.account
        word, *numbers = self._admit(
            [
                keys.pause(wanted.host, wanted.account),
                keys.pace(wanted.host),
                keys.pulls(wanted.host, source),
                keys.pulling(wanted.host, source),
                keys.events,
                keys.told("budget", f"{wanted.host}:{source}"),
            ],
            [
                self._now(),
                wanted.token,
                int(wanted.looked),
                wanted.kept_share,
                pace.spacing_s if pace else 0,
                pace.extra if pace else 0,
                LONGEST_DELAY_S,
                LEASE_S,
                LEAST_LOOK_S,
                LOOKS_PER_WINDOW,
                wanted.host,
            ],
        )
        seconds, at, left, limit, window = (float(number) if number else None for number in numbers)
        return Verdict(
            word.decode(),
            seconds or 0.0,
            at or 0.0,
            left,
            None if limit is None else int(limit),
            None if window is None else int(window),
        )

    def answered(self, one: Answered) -> float | None:
        """Give back what was reserved and believe the headers; how many pulls are left, if that is known."""
        keys, limits = self._keys, one.limits
        said = (limits.limit, limits.remaining, limits.window_s) if limits else ("", "", "")
        left = self._answered(
            [keys.pulls(one.host, one.source), keys.pulling(one.host, one.source), keys.budgets],
            [
                self._now(),
                one.token,
                "" if one.at is None else one.at,
                one.ago_s,
                int(one.may_count),
                *said,
                f"pulls\n{one.host}\n{one.source}",
            ],
        )
        return float(left) if left else None

    def pause(self, host: str, account: str, retry_after_s: float | None) -> float:
        """Leave the host alone, after a 429; for how many seconds it is left alone now."""
        keys = self._keys
        return float(
            self._pause(
                [keys.pause(host, account), keys.pauses(host, account), keys.budgets],
                [
                    "" if retry_after_s is None else retry_after_s,
                    FIRST_PAUSE_S,
                    LONGEST_PAUSE_S,
                    f"pause\n{host}\n{account}",
                ],
            )
        )

    def paused_s(self, host: str, account: str) -> float:
        """For how many seconds more the host is left alone; 0: it is not."""
        return max(0.0, float(self._redis.pttl(self._keys.pause(host, account))) / 1000)

    def note_counting(self, host: str, *, counts: bool) -> None:
        """Let the fleet know whether the host was heard to count pulls; for a month."""
        self._note_counting([self._keys.counting(host)], [int(counts), KEEP_S])

    def counts(self, host: str) -> bool | None:
        """What any process has heard of it; None: nothing."""
        said: bytes | None = self._redis.get(self._keys.counting(host))
        return None if said is None else said == b"1"

    def report(self, hosts: Collection[str] | None = None, *, trims: bool = True) -> list[BudgetReport]:
        """Every budget that was heard of in the last month, by host: windows that are open, and pauses.

        ``hosts``: only theirs. ``trims``: what is older is forgotten; without it nothing is written.
        Two exchanges, three where it ``trims``, however many runs and tags there are.
        """
        oldest = time.time() - KEEP_S
        if trims:
            self._redis.zremrangebyscore(self._keys.budgets, "-inf", oldest)
        members = self._redis.zrangebyscore(self._keys.budgets, oldest, "+inf")
        names = [member.decode().split("\n", 2) for member in sorted(members)]
        asked = [name for name in names if hosts is None or name[1] in hosts]
        pipe = self._redis.pipeline(transaction=False)
        for kind, *place in asked:
            if kind == "pause":
                pipe.pttl(self._keys.pause(*place)).time()
            else:
                pipe.hgetall(self._keys.pulls(*place)).zcard(self._keys.pulling(*place))
        answers = pipe.execute() if asked else []
        pairs = zip(asked, zip(answers[::2], answers[1::2], strict=True), strict=True)
        found = [_REPORTED[kind](*place, *answer) for (kind, *place), answer in pairs]
        return sorted((one for one in found if one), key=lambda one: (one.host, one.source))

    def _now(self) -> float | str:
        return self._clock() if self._clock else ""


def _pause_reported(host: str, account: str, ms: int, now: tuple[int, int]) -> BudgetReport | None:
    return BudgetReport(host, account, paused_until_s=now[0] + ms / 1000) if ms > 0 else None


def _pulls_reported(
    host: str, source: str, fields: Mapping[bytes, bytes], under_way: int
) -> BudgetReport | None:
    row = {key.decode(): value.decode() for key, value in fields.items()}
    if "remaining" not in row:
        return None
    return BudgetReport(
        host,
        source,
        limit=int(row["limit"]),
        remaining=int(row["remaining"]),
        under_way=under_way,
        window_s=int(row["window"]),
        until_s=float(row["until"]),
    )


_REPORTED: dict[str, Callable[..., BudgetReport | None]] = {
    "pause": _pause_reported,
    "pulls": _pulls_reported,
}
