"""Five-field cron expressions in UTC: checked where they are read, and when their slots are.

cronsim knows when, as Debian's cron does; it is imported late, since most commands ask for no slot.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple


class _Field(NamedTuple):
    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()


_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of week", 0, 6, _DAYS),
)
_MONTH_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def check_cron(text: str) -> str:
    """Return ``text`` with single spaces; ValueError names the field and what it may hold.

    Fields hold ``*``, numbers, names (``jan``, ``mon``), ranges and steps (``*/15``, ``9-17/2``), joined
    by commas. Sunday is 0, not 7. Where day of month and day of week both say something, either will do.
    """
    parts = text.lower().split()
    if len(parts) != len(_FIELDS):
        raise ValueError(
            f"{text!r} has {len(parts)} fields; write five: minute hour day-of-month month day-of-week"
        )
    _, _, days, months, _ = [_values(part, field) for part, field in zip(parts, _FIELDS, strict=True)]
    needs_day = parts[2].startswith("*") or parts[4].startswith("*")  # else a day of the week will do
    if needs_day and not any(min(days) <= _MONTH_DAYS[month - 1] for month in months):
        raise ValueError(f"{text!r} never comes: no such month has a day {min(days)}; choose another day")
    return " ".join(parts)


def next_slot(cron: str, after_s: float) -> int:
    """The first slot of a checked expression after that Unix time."""
    return _first(cron, after_s, reverse=False)


def last_slot(cron: str, at_s: float) -> int:
    """Its last slot at that Unix time or before."""
    return _first(cron, int(at_s) + 1, reverse=True)


def slots_between(cron: str, after_s: int, before_s: int, most: int) -> tuple[int, int, int]:
    """Its first slot between the two, neither included, its last one, and how many there are, up to ``most``.

    Zeros where there is none.
    """
    first = last = count = 0
    for slot in _slots(cron, after_s, reverse=False):
        if slot >= before_s:
            break
        if count == most:
            return first, last_slot(cron, before_s - 1), most
        first, last, count = first or slot, slot, count + 1
    return first, last, count


def _first(cron: str, from_s: float, *, reverse: bool) -> int:
    return next(_slots(cron, from_s, reverse=reverse))


def _slots(cron: str, from_s: float, *, reverse: bool) -> Iterator[int]:
    from cronsim import CronSim

    return (int(slot.timestamp()) for slot in CronSim(cron, datetime.fromtimestamp(from_s, UTC), reverse))


def _values(text: str, field: _Field) -> set[int]:
    return set().union(*(_item(item, text, field) for item in text.split(",")))


def _item(item: str, text: str, field: _Field) -> set[int]:
    span, slash, step_text = item.partition("/")
    low, dash, high = span.partition("-")
    if span == "*":
        first, last = field.low, field.high
    else:
        first = _number(low, text, field)
        last = _number(high, text, field) if dash else first
    step = int(step_text) if step_text.isdecimal() else 1
    if last < first or (slash and not (step_text.isdecimal() and step >= 1 and (dash or span == "*"))):
        raise ValueError(
            f"{field.name} {text!r}: {item!r} is no range or step; write it as 1-5, */15 or 9-17/2"
        )
    return set(range(first, last + 1, step))


def _number(word: str, text: str, field: _Field) -> int:
    if word in field.names:
        return field.low + field.names.index(word)
    if not word.isdecimal() or not field.low <= int(word) <= field.high:
        raise ValueError(
            f"{field.name} {text!r}: {word!r} is not allowed; use {field.low} to {field.high}"
            + (f" or {field.names[0]} to {field.names[-1]}" if field.names else "")
        )
    return int(word)
