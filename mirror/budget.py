"""The budget: every worker of the fleet asks here before it asks a registry (guarantee G7).

A registry that never said that it counts, and for which no pace is configured, costs one look at the ledger
a second and process: that is how a pause which another worker ran into is heard of.
"""

from __future__ import annotations

import contextlib
import math
import random
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from mirror.ledger import Ledger, LedgerError
from mirror.ledger.budgets import Answered, Budgets, Pace, Verdict, Wanted
from registry.errors import Throttled, Transient
from registry.gate import Admission, Answer, Asking
from registry.reference import DOCKER_HUB

LOOK_FOR_PAUSE_S = 1.0
ASK_FLEET_S = 60.0
"""So often it is asked whether others have heard what this process has not."""
CLOCK_MARGIN_S = 1.0
"""A free request's answer is taken to be older by so much: it is reckoned, not measured by the ledger."""
JITTER_SHARE, MOST_JITTER_S = 0.1, 30.0
"""What is parked until the same moment comes back one after the other."""
SHORT_S = 1.0
MOST_REPOSITORIES = 10_000
COUNTING_HOSTS = frozenset({DOCKER_HUB})
"""Known to count pulls: there the first one of all is looked at before it is made."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """What the operator says of one registry."""

    requests_per_minute: int | None = None
    reserve: float = 0.1
    """The share of the pulls that only the release lane may use."""


@dataclass(slots=True)
class _Known:
    """What this process knows of one account at one host. Threads race for it; a lost update costs a look."""

    source: str | None = None
    """What pulls are counted by; None: not heard of yet."""
    counts: bool = False
    """Whether the host was heard to count pulls at all."""
    answered: bool = False
    repositories: dict[str, bool] = field(default_factory=dict)
    """Whether their pulls are counted: manifests of some come without a word about limits."""
    left: float = math.inf
    paused_until: float = -math.inf
    looked_for_pause: float = -math.inf
    first_look: threading.Lock = field(default_factory=threading.Lock)
    said: tuple[int, float] = (-1, -math.inf)
    """What the last free answer said was left, and when that was written down."""

    def must_be_counted(self, repository: str) -> bool:
        """Whether a pull must be reserved, or would have to be if only more were known."""
        return self.repositories.get(repository, True) and (self.counts or not self.answered)

    def note(self, repository: str, *, is_counted: bool) -> None:
        if len(self.repositories) >= MOST_REPOSITORIES:
            self.repositories.clear()
        self.repositories[repository] = is_counted


class _Look(threading.local):
    """The look that this thread was told to take."""

    at: float | None = None


class Budget:
    """One process's way to the fleet's budgets; satisfies :class:`registry.gate.Gate`. Thread-safe."""

    def __init__(
        self,
        ledger: Ledger,
        allowance: Callable[[str], Allowance] = lambda _: Allowance(),
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        """``allowance`` says what the operator allows at a host."""
        self._budgets: Budgets = ledger.budgets
        self._traffic = ledger.traffic
        self._allowance, self._wait = allowance, wait
        self._known: dict[tuple[str, str], _Known] = {}
        self._look = _Look()
        self._allowances: dict[str, Allowance] = {}
        self._told: dict[str, bool] = {}
        """What the fleet knows from here of who counts."""
        self._heard: dict[str, tuple[float, bool | None]] = {}
        """... and what the fleet knew, and when it was asked."""

    def admit(self, asking: Asking, *, looked: bool = False) -> Admission | None:
        """See Gate."""
        known, allowance = self._of(asking), self._allowance_of(asking.host)
        pace = Pace(allowance.requests_per_minute) if allowance.requests_per_minute else None
        counted = asking.is_pull and known.must_be_counted(asking.repository)
        if counted and known.source is None:
            if not looked:
                return None
            counted = False  # the look taught nothing: there is no such manifest, or nobody counts it
        if not counted and pace is None:
            self._heed_pause(asking, known)
            at, self._look.at = self._look.at, None
            return Admission(asking, at=at, began=time.monotonic())
        wanted = Wanted(
            host=asking.host,
            account=asking.account,
            source=known.source or "",
            token=secrets.token_hex(8) if counted else "",
            looked=looked,
            kept_share=allowance.reserve if asking.gives_way else 0.0,
            pace=pace,
        )
        return self._reserve(asking, known, wanted)

    def _reserve(self, asking: Asking, known: _Known, wanted: Wanted) -> Admission | None:
        try:
            verdict = self._budgets.admit(wanted)
        except LedgerError as error:
            raise _unknown(asking) from error
        if wanted.token and verdict.left is not None:
            known.left = verdict.left
        is_new = asking.repository not in known.repositories
        if verdict.word == "look" or (verdict.word == "empty" and is_new and not wanted.looked):
            known.said = (-1, -math.inf)  # whatever is said now has to be written down
            self._look.at = verdict.at
            return None
        if verdict.word != "go":
            if verdict.word == "paused":
                known.paused_until = time.monotonic() + verdict.seconds
            raise _refusal(asking, verdict)
        if verdict.seconds:
            self._wait(verdict.seconds)
        return Admission(asking, wanted.token, wanted.source, verdict.at, time.monotonic())

    def _heed_pause(self, asking: Asking, known: _Known) -> None:
        """Raise Throttled during a pause, as far as was heard a moment ago."""
        if known.looked_for_pause == -math.inf:
            with known.first_look:  # nothing is known yet: no thread may go before one has looked
                if known.looked_for_pause == -math.inf:
                    self._look_for_pause(asking, known)
        elif time.monotonic() - known.looked_for_pause >= LOOK_FOR_PAUSE_S:
            known.looked_for_pause = time.monotonic()  # first, so that other threads do not look too
            self._look_for_pause(asking, known)
        now = time.monotonic()
        if known.paused_until > now:
            raise _refusal(asking, Verdict("paused", known.paused_until - now, 0.0))

    def _look_for_pause(self, asking: Asking, known: _Known) -> None:
        now = time.monotonic()
        # Redis away: whoever needs the ledger next will say so.
        with contextlib.suppress(LedgerError):
            known.paused_until = now + self._budgets.paused_s(asking.host, asking.account)
        known.looked_for_pause = now

    def answered(self, admission: Admission, answer: Answer) -> float | None:
        """See Gate."""
        asking, known = admission.asking, self._of(admission.asking)
        if answer.was_sent and asking.kind != "token":  # its server is another, and counted are requests
            self._traffic.met(asking.host, asking.method, asking.kind, answer.status)
        if asking.kind == "manifest" and answer.was_sent:
            self._learn(asking, known, answer)
            self._tell(asking.host, known)
        # Redis away: what was reserved lapses, and the registry's next answer says all this again.
        with contextlib.suppress(LedgerError):
            self._write(admission, known, answer)
            if answer.status == 429:
                return self._pause(asking, known, answer)
        return None

    def counts(self, host: str) -> bool | None:
        """See Gate."""
        known = [one.counts for (name, _), one in list(self._known.items()) if name == host and one.answered]
        return any(known) if known else self._as_heard(host)

    def _as_heard(self, host: str) -> bool | None:
        at, said = self._heard.get(host, (-math.inf, None))
        if said is None and time.monotonic() - at >= ASK_FLEET_S:
            with contextlib.suppress(LedgerError):
                said = self._budgets.counts(host)
            self._heard[host] = time.monotonic(), said
        return said

    def _tell(self, host: str, known: _Known) -> None:
        """Spare others the finding out; where nothing is heard of it, they do not read at all."""
        if known.answered and self._told.get(host) is not known.counts and not self._told.get(host):
            with contextlib.suppress(LedgerError):
                self._budgets.note_counting(host, counts=known.counts)
                self._told[host] = known.counts

    def left(self, host: str, account: str) -> float:
        """See Gate."""
        known = self._known.get((host, account), _Known())
        return -math.inf if known.paused_until > time.monotonic() else known.left

    def _learn(self, asking: Asking, known: _Known, answer: Answer) -> None:
        if answer.limits is not None:
            known.source = answer.limits.source or asking.account
            known.counts = known.answered = True
            known.note(asking.repository, is_counted=True)
        elif answer.status == 200 and asking.method in {"GET", "HEAD"}:
            known.answered = True
            if known.counts or asking.host in COUNTING_HOSTS:
                known.counts = True
                known.note(asking.repository, is_counted=False)

    def _write(self, admission: Admission, known: _Known, answer: Answer) -> None:
        """Take the answer into account; of free ones that say the same only one every few seconds."""
        now = time.monotonic()
        if not admission.token:
            if answer.limits is None or known.said == (answer.limits.remaining, now // 5):
                return
            known.said = (answer.limits.remaining, now // 5)
        host, account = admission.asking.host, admission.asking.account
        source = known.source or account
        taken = Answered(
            host=host,
            source=source,
            token=admission.token,
            at=admission.at,
            ago_s=now - admission.began + CLOCK_MARGIN_S,
            may_count=bool(admission.token) and answer.was_sent and answer.status is None,
            limits=answer.limits,
        )
        if admission.token and admission.source != source:
            # Counted by something else than was thought: what was reserved there was not used.
            self._budgets.answered(replace(taken, source=admission.source, may_count=False, limits=None))
            taken = replace(taken, token="")
        left = self._budgets.answered(taken)
        known.left = math.inf if left is None else left

    def _pause(self, asking: Asking, known: _Known, answer: Answer) -> float | None:
        """A 429: everybody leaves the host alone, unless it is only that the pulls are used up."""
        limits = answer.limits
        if answer.retry_after_s is None and limits is not None and limits.remaining == 0:
            return SHORT_S  # by then the budget says how long
        seconds = self._budgets.pause(asking.host, asking.account, answer.retry_after_s)
        known.paused_until = time.monotonic() + seconds
        return seconds

    def _of(self, asking: Asking) -> _Known:
        return self._known.setdefault((asking.host, asking.account), _Known())

    def _allowance_of(self, host: str) -> Allowance:
        if host not in self._allowances:
            self._allowances[host] = self._allowance(host)
        return self._allowances[host]


def _unknown(asking: Asking) -> Transient:
    return Transient(asking.host, asking.what, "the ledger does not answer, which keeps its budget")


def _refusal(asking: Asking, verdict: Verdict) -> Throttled:
    jitter = random.uniform(0.0, min(MOST_JITTER_S, verdict.seconds * JITTER_SHARE))  # noqa: S311 - no secret
    wait = verdict.seconds + jitter
    return Throttled(asking.host, asking.what, _reason(asking, verdict), retry_after_s=wait)


def _reason(asking: Asking, verdict: Verdict) -> str:
    if verdict.word == "paused":
        return "the registry asked to be left alone (429)"
    if verdict.word == "paced":
        return "its requests_per_minute are used up"
    of = f"{max(0, round(verdict.left or 0))} of {verdict.limit}"
    if verdict.word == "busy":
        return f"its last pulls are under way ({of} are left)"
    if asking.gives_way and (verdict.left or 0) > 0:
        return f"what is left of its pulls is kept for the release lane ({of})"
    return f"no more pulls for now ({of} are left in {_span(verdict.window_s or 0)})"


def _span(seconds: int) -> str:
    hours, rest = divmod(seconds, 3600)
    return f"{hours} h" if hours and not rest else f"{seconds} s"
