"""The page of a fleet as it stands now."""

from __future__ import annotations

from config.fleet import Fleet
from mirror.ledger import Ledger
from mirror.status.compose import Shown, compose
from mirror.status.values import Status
from tasks.passes import places_of
from tasks.terms import allowance_of
from tasks.watched import specs_of


def made(fleet: Fleet, ledger: Ledger) -> Status:
    """LedgerError where Redis is away."""
    rules = fleet.page
    shown = Shown(
        rules.title,
        rules.mirrors,
        rules.hidden,
        rules.tags,
        lambda host: allowance_of(fleet, host).requests_per_minute,
    )
    return compose(ledger, specs_of(fleet), shown, places_of(fleet))
