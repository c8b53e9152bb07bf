"""Registries as regions see them, and what they still allow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from mirror.ledger import Ledger
from mirror.ledger.budgets import BudgetReport
from mirror.ledger.measured import DAY_S, DAYS_KEPT, Availability, Reach
from mirror.ledger.probes import Place
from mirror.status.tags import Said
from mirror.status.values import Day, Limit, RegistryStatus, View

Paced = Callable[[str], int | None]
"""How many requests in a minute the fleet makes of a host at most; None: as many as it likes."""


def registries_of(
    ledger: Ledger, places: Sequence[Place], hosts: Sequence[str], paced: Paced, said: Said, now: float
) -> tuple[RegistryStatus, ...]:
    """In the order of the hosts; four exchanges. ``places``: what is probed. LedgerError."""
    reaches, reliable = ledger.probes.latest(places), ledger.probes.availability(places)
    budgets = ledger.budgets.report(set(hosts), trims=False)
    views: dict[str, list[View]] = {host: [] for host in hosts}
    for reach, known in zip(reaches, reliable, strict=True):
        if reach.last is not None:
            views[reach.host].append(_view(reach, known, said, now))
    return tuple(
        RegistryStatus(host, tuple(views[host]), _limit(budgets, host, paced(host))) for host in hosts
    )


def _view(reach: Reach, known: Availability, said: Said, now: float) -> View:
    reason = reach.reason or (reach.last.error if reach.last else "")
    shares = {day.began_s: day.share for day in known.days}
    today = int(now // DAY_S)
    days = range(today - DAYS_KEPT + 1, today + 1)
    return View(
        reach.region,
        reach.standing,
        reach.down_since,
        said(reason.removeprefix(f"{reach.host}: ")),
        reach.last.at if reach.last else None,
        reach.latency_s,
        reach.bytes_per_second,
        known.day_share,
        tuple(Day(day * DAY_S, shares.get(day * DAY_S)) for day in days),
    )


def _limit(budgets: Iterable[BudgetReport], host: str, requests_per_minute: int | None) -> Limit:
    """The scarcest of what the fleet's addresses and accounts may do; who they are is nobody's business."""
    own = [one for one in budgets if one.host == host]
    limited = [one for one in own if one.limit is not None]
    paused = [one.paused_until_s for one in own if one.paused_until_s]
    least = min(limited, key=lambda one: one.remaining or 0) if limited else None
    return Limit(
        least.limit if least else None,
        least.window_s if least else None,
        max(0, least.remaining) if least and least.remaining is not None else None,
        requests_per_minute,
        max(paused, default=None),
    )
