"""Numbers as people read them: decimal bytes, short durations, counts with their noun."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

_UNITS = ("kB", "MB", "GB", "TB", "PB")
MOST_NAMED = 10
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def size(count: float) -> str:
    """``5.2 MB``: powers of 1000, as disks and registries' bills count."""
    if count < 1000:
        return f"{count:.0f} B"
    value = float(count)
    units = iter(_UNITS)
    unit = ""
    while not unit or (value >= 999.5 and unit != _UNITS[-1]):
        value /= 1000
        unit = next(units)
    return f"{value:.1f} {unit}" if value < 99.95 else f"{value:.0f} {unit}"


def duration(seconds: float) -> str:
    """``0.8 s``, ``42 s``, ``3 min 20 s``, ``2 h 5 min``, ``3 d 4 h``."""
    if seconds < 10:
        return f"{max(seconds, 0):.1f} s"
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return _two(whole, _MINUTE, "min", 1, "s")
    if whole < _DAY:
        return _two(whole, _HOUR, "h", _MINUTE, "min")
    return _two(whole, _DAY, "d", _HOUR, "h")


def moment(at_s: float) -> str:
    """``14:05 UTC``, with the day if it is not today's: a time that a whole fleet understands."""
    at, now = datetime.fromtimestamp(at_s, UTC), datetime.now(UTC)
    return f"{at:%H:%M} UTC" if at.date() == now.date() else f"{at:%Y-%m-%d %H:%M} UTC"


def countdown(seconds: float) -> str:
    """A duration that is redrawn while it changes: whole seconds."""
    return duration(seconds) if seconds >= 10 else f"{max(seconds, 0):.0f} s"


def counted(count: int, noun: str) -> str:
    """``1 tag``, ``2 tags``, ``3 batches``, ``4 repositories``."""
    if count == 1:
        return f"1 {noun}"
    if noun.endswith("ry"):
        return f"{count:,} {noun.removesuffix('y')}ies"
    return f"{count:,} {noun}{'es' if noun.endswith(('ch', 's')) else 's'}"


def listed(words: Sequence[str], joint: str = "and") -> str:
    """``eu``, ``eu and us``, ``eu, us and ap``."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {joint} {words[-1]}"


def some(words: Sequence[str]) -> str:
    """The same of so many words, the first of them and how many more there are."""
    if len(words) <= MOST_NAMED:
        return listed(words)
    return f"{', '.join(words[: MOST_NAMED - 1])} and {len(words) - MOST_NAMED + 1} more"


def _two(value: int, large: int, large_unit: str, small: int, small_unit: str) -> str:
    whole, rest = divmod(value, large)
    rest //= small
    return f"{whole} {large_unit} {rest} {small_unit}" if rest else f"{whole} {large_unit}"
