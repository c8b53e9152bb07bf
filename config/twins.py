"""Names that stand in the fleet file twice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from config.problems import Problem

if TYPE_CHECKING:
    from config.fleet import Fleet


def twin_problems(fleet: Fleet) -> Iterator[Problem]:
    """Each mirror, receiver and webhook whose name another one has that stands before it."""
    yield from _twins(fleet, "mirrors", "mirror", [one.name for one in fleet.mirrors])
    yield from _twins(fleet, "notify", "receiver", [one.name for one in fleet.notify])
    yield from _twins(fleet, "webhooks", "webhook", [one.name for one in fleet.webhooks])


def _twins(fleet: Fleet, key: str, what: str, names: list[str]) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for place, name in enumerate(names):
        if name in first:
            at = fleet.line_of(key, first[name], "name")
            text = f"{name!r} is the name of another {what} too ({at}); give each its own"
            yield fleet.problem((key, place, "name"), text)
        first.setdefault(name, place)
