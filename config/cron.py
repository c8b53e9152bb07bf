"""Five-field cron expressions, checked where they are read: the subset that cron and Celery agree on."""

from __future__ import annotations

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
    by commas. Sunday is 0, not 7.
    """
    parts = text.lower().split()
    if len(parts) != len(_FIELDS):
        raise ValueError(
            f"{text!r} has {len(parts)} fields; write five: minute hour day-of-month month day-of-week"
        )
    _, _, days, months, _ = [_values(part, field) for part, field in zip(parts, _FIELDS, strict=True)]
    if not any(min(days) <= _MONTH_DAYS[month - 1] for month in months):
        raise ValueError(f"{text!r} never comes: no such month has a day {min(days)}; choose another day")
    return " ".join(parts)


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
