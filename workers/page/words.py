"""How the page says things: symbols beside colours, times, limits, strips of days."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from mirror.status.values import (
    Checked,
    Day,
    Limit,
    MirrorStatus,
    OpenRun,
    Place,
    RegistryStatus,
    State,
    TagStatus,
    Verified,
    View,
)
from workers.cli.text import duration, size

SYMBOLS: dict[str, str] = {
    "in step": "✓",
    "behind": "◷",
    "differs": "≠",
    "down": "✕",
    "unknown": "?",
    "up": "✓",
    "partly up": "◐",
    "same": "✓",
    "unsigned": "≠",
    "different": "≠",
    "missing": "∅",
    "damaged": "✕",
}
"""Beside every word that has a colour."""
_SIGNED = {True: "signed", False: "unsigned"}
STATES: tuple[State, ...] = ("down", "differs", "behind", "unknown", "in step")
_STRIP_HEIGHT, _BAR, _STEP = 16, 4, 5
_UNFIT = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|[\x7f-\x9f]")
_NO_ANCHOR = re.compile(r"[^a-z0-9._-]+")


def fit(text: str) -> str:
    """What XML can hold and HTML may: any other character reads U+FFFD."""
    return _UNFIT.sub("\ufffd", text)


def iso(at_s: float) -> str:
    return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%dT%H:%M:%SZ}"


def minute(at_s: float) -> str:
    return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%d %H:%M} UTC"


def percent(share: float) -> str:
    """100 % is said of nothing that failed once."""
    value = 100 * share
    return f"{value:.0f} %" if value in {0, 100} else f"{min(value, 99.9):.1f} %"


def short(digest: str | None) -> str:
    """The first twelve hex digits: enough to compare by eye; all of it is in status.json."""
    return (digest or "").rpartition(":")[2][:12]


def speed(view: View) -> str:
    return f"{size(view.bytes_per_second)}/s" if view.bytes_per_second else ""


def latency(view: View) -> str:
    return f"{view.latency_s * 1000:.0f} ms" if view.latency_s is not None else ""


def limit(one: Limit, now: float) -> str:
    """What a registry allows, in a sentence."""
    parts = []
    if one.pulls is not None and one.window_s:
        left = f", {one.remaining} left for this fleet" if one.remaining is not None else ""
        parts.append(f"{one.pulls} pulls in {duration(one.window_s)}{left}")
    if one.requests_per_minute is not None:
        parts.append(f"this fleet asks at most {one.requests_per_minute} times a minute")
    if one.paused_until is not None and one.paused_until > now:
        parts.append(f"it wants to be left alone until {minute(one.paused_until)}")
    return "; ".join(parts) or "no limit is known"


def verified(one: Verified) -> str:
    ends = {"done": "nothing wrong", "failed": "faults found", "open": "under way"}
    return ends.get(one.state, one.state)


def progress(run: OpenRun) -> str:
    tags = f"{run.done:,} of {run.tags:,} tags" if run.listed else f"{run.done:,} tags so far, still listing"
    moved = f", {size(run.moved_bytes)} of {size(run.planned_bytes)}" if run.planned_bytes else ""
    waits = f"; waits: {run.waits}" if run.waits else ""
    return f"{tags}{moved}{'; paused' if run.paused else ''}{waits}"


class Strip(NamedTuple):
    """Bars as SVG paths: a day's height is the share of its probes that found the registry up."""

    up: str
    partly: str
    unknown: str
    width: int
    height: int
    label: str


def strip(days: Sequence[Day]) -> Strip:
    """Of days without a probe a low dash."""
    paths: dict[str, list[str]] = {"up": [], "partly": [], "unknown": []}
    for at, day in enumerate(days):
        height = 2 if day.share is None else max(2, round(_STRIP_HEIGHT * day.share))
        kind = "unknown" if day.share is None else "up" if day.share == 1 else "partly"
        paths[kind].append(f"M{at * _STEP} {_STRIP_HEIGHT - height}h{_BAR}v{height}h-{_BAR}z")
    whole, some, left = (len(paths[kind]) for kind in ("up", "partly", "unknown"))
    label = f"of {len(days)} days: {whole} without a failure, {some} with some, {left} unknown"
    up, partly, unknown = ("".join(paths[kind]) for kind in ("up", "partly", "unknown"))
    return Strip(up, partly, unknown, len(days) * _STEP - 1, _STRIP_HEIGHT, label)


def reach(registry: RegistryStatus | None) -> str:
    """How a registry is reached, in a few words: the best speed, the worst availability."""
    if registry is None:
        return ""
    speeds = [(view.bytes_per_second, view.region) for view in registry.views if view.bytes_per_second]
    shares = [view.day_share for view in registry.views if view.day_share is not None]
    parts = [percent(min(shares))] if shares else []
    if speeds:
        best = sorted(speeds, reverse=True)
        parts.append(", ".join(f"{size(value)}/s from {region}" for value, region in best))
    return " · ".join(parts)


class Images(NamedTuple):
    """What a mirror's tags are besides their digests: said of all, and of each only where they differ."""

    signatures: str
    platforms: str
    notes: tuple[str, ...]
    """By tag, in their order; empty: nothing that is not true of all."""
    reasons: tuple[tuple[str, ...], ...]
    """By tag and place: why it is not the same there; each is told once."""


def images(mirror: MirrorStatus) -> Images:
    """As far as it is known; what is not known is not mentioned."""
    signed = [one.signed for one in mirror.tags]
    left_out = [one.left_out for one in mirror.tags]
    is_mixed = len(set(signed)) > 1
    same = left_out[0] if left_out and len(set(left_out)) == 1 else None
    platforms = f"only {', '.join(mirror.platforms)}" if mirror.platforms else ""
    if same:
        platforms = f"{platforms}, not {', '.join(same)}" if platforms else f"not {', '.join(same)}"
    notes = []
    for one in mirror.tags:
        parts = [_SIGNED[one.signed]] if is_mixed and one.signed is not None else []
        if one.left_out and not same:
            parts.append(f"without {', '.join(one.left_out)}")
        notes.append(", ".join(parts))
    return Images(
        _signatures(signed) if mirror.signatures else "not copied",
        platforms,
        tuple(notes),
        _reasons(mirror.tags),
    )


def _reasons(tags: Sequence[TagStatus]) -> tuple[tuple[str, ...], ...]:
    told: set[str] = set()
    rows = []
    for one in tags:
        row = []
        for held in one.held:
            row.append("" if held.reason in told else held.reason)
            told.add(held.reason)
        rows.append(tuple(row))
    return tuple(rows)


def _signatures(signed: Sequence[bool | None]) -> str:
    known = [one for one in signed if one is not None]
    if not known:
        return ""
    if len(set(signed)) == 1:
        return "on every tag" if known[0] else "none found"
    unknown = len(signed) - len(known)
    return f"on {sum(known)} of {len(signed)} tags" + (f", {unknown} not known" if unknown else "")


def checked(one: Checked) -> str:
    """What verifying found wrong there; empty: nothing."""
    counts = {"missing": one.missing, "different": one.different, "damaged": one.damaged}
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count)


def place_label(place: Place) -> str:
    return place.host or place.repository


def anchors(prefix: str, names: Iterable[str]) -> dict[str, str]:
    """An id for each name; each once in the page, whatever the names are."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for number, name in enumerate(names):
        anchor = f"{prefix}-{_NO_ANCHOR.sub('-', name.lower())[:80]}"
        found[name] = anchor if anchor not in taken else f"{anchor}--{number}"
        taken.add(found[name])
    return found
