"""What probes measured, as values: how a region reaches a registry, how reliably, and when it did not."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from mirror.ledger.newer import own_fields

HOUR_S, DAY_S = 3600, 86400
HOURS_KEPT, DAYS_KEPT = 24, 30
READ_BYTES = 8 * 2**20
"""Registries are compared by the time that so much takes: about a layer."""

Standing = Literal["up", "unknown", "down"]
_RANK: dict[Standing, int] = {"up": 0, "unknown": 1, "down": 2}


@dataclass(frozen=True, slots=True)
class Measurement:
    """One probe of one registry from one region. Seconds; None: that was not measured."""

    region: str
    host: str
    at: float
    """When it began, on the ledger's clock: Unix time."""
    up: bool
    """The API answered, and a token was issued where one is wanted."""
    hello_s: float | None = None
    """``GET /v2/``, the connection included where none was open."""
    token_s: float | None = None
    """From the token server; None where the registry wants none, too."""
    head_s: float | None = None
    """A manifest, by HEAD."""
    first_byte_s: float | None = None
    """Of a blob, redirects to its storage included."""
    bytes_per_second: float | None = None
    """Of that blob, from its first byte on."""
    error: str = ""
    """What went wrong, in words and redacted: why it is not ``up``, or why the rest was not measured."""
    repository: str = ""
    """What was asked about: ``host/repository``; empty where nothing was."""

    @property
    def latency_s(self) -> float | None:
        """How long a small question takes: a HEAD, else the greeting."""
        return self.head_s if self.head_s is not None else self.hello_s

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Reach:
    """How a region reaches a registry, as far as its probes know."""

    region: str
    host: str
    last: Measurement | None = None
    """None: it was never probed from there."""
    down_since: float | None = None
    """Unix time of the first of the failed probes in a row, where these are enough to call it down."""
    reason: str = ""
    """Why it is down."""
    latency_s: float | None = None
    """The median of the last few probes."""
    bytes_per_second: float | None = None
    """The median of the last few that read a blob."""
    fresh: bool = False
    """Whether the last probe is recent enough to go by."""
    was_up: bool = False
    """Whether any probe from there ever found it up: what a region cannot reach by design has no outage."""

    @property
    def standing(self) -> Standing:
        """``unknown``: never probed, not lately, or the last probe failed and may have been the only one."""
        if self.last is None or not self.fresh:
            return "unknown"
        if self.down_since is not None:
            return "down"
        return "up" if self.last.up else "unknown"

    @property
    def read_s(self) -> float | None:
        """About how long it takes to read READ_BYTES; None where no speed was measured."""
        if not self.bytes_per_second:
            return None
        return (self.latency_s or 0.0) + READ_BYTES / self.bytes_per_second

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "standing": self.standing}


def best_first(reaches: Iterable[Reach]) -> list[Reach]:
    """Up before unknown before down; among equals the fastest, then those whose speed is not known.

    What nothing tells apart stays in the order given.
    """
    return sorted(reaches, key=_cost)


def _cost(one: Reach) -> tuple[int, bool, float, float]:
    read_s = one.read_s
    latency_s = float("inf") if one.latency_s is None else one.latency_s
    return _RANK[one.standing], read_s is None, read_s or 0.0, latency_s


@dataclass(frozen=True, slots=True)
class Span:
    """Probes of one hour or one day (UTC)."""

    began_s: int
    """Unix time."""
    ok: int
    failed: int
    latency_s: float | None = None
    """The median; of a day that of its hours."""
    bytes_per_second: float | None = None

    @property
    def share(self) -> float:
        """Of its probes, those that found the registry up: 0 to 1."""
        return self.ok / (self.ok + self.failed)


@dataclass(frozen=True, slots=True)
class Availability:
    """How reliably a region reached a registry. Spans without a probe are left out."""

    hours: tuple[Span, ...] = ()
    """The last 24 and the one that goes on, the oldest first."""
    days: tuple[Span, ...] = ()
    """The last 30, today among them, the oldest first."""

    @property
    def day_share(self) -> float | None:
        """Of the last 24 hours' probes, those that found it up; None: there was none."""
        total = sum(hour.ok + hour.failed for hour in self.hours)
        return sum(hour.ok for hour in self.hours) / total if total else None


@dataclass(frozen=True, slots=True)
class Incident:
    """A registry was down as seen from one region. Unix times."""

    region: str
    host: str
    down_s: float
    """The first of the failed probes."""
    up_s: float | None
    """The probe that found it up again; None: it is still down."""
    reason: str
    seen_s: float
    """When it was last probed, or came back."""

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Change:
    """A registry went down or came back, as seen from one region: told once."""

    kind: Literal["registry_down", "registry_back"]
    at: float
    """When the probe that told so began: Unix time."""
    region: str
    host: str
    since: float
    """The first of the failed probes."""
    reason: str
    down_in: tuple[str, ...]
    """Regions from which it is down now."""
    up_in: tuple[str, ...]
    """Regions from which it is not, as far as they probed lately."""

    @classmethod
    def parse(cls, text: bytes) -> Change:
        row: dict[str, Any] = json.loads(text)
        regions = {name: tuple(sorted(row[name])) for name in ("down_in", "up_in")}  # Lua's empty list is {}
        return cls(**{**own_fields(cls, row), **regions})


def span(began_s: int, row: bytes) -> Span:
    """From ``ok failed latency speed``, ``-`` for what is not known."""
    ok, failed, latency_s, speed = row.decode().split(" ")
    return Span(began_s, int(ok), int(failed), number(latency_s), number(speed))


def availability(fields: Mapping[bytes, bytes], now: float) -> Availability:
    """From the hours and days among the fields of a ledger's hash."""
    spans = {kind: list[Span]() for kind in "hd"}
    for name, row in fields.items():
        kind, at = name[:1].decode(), name[1:]
        if kind in spans and at.isdigit():
            spans[kind].append(span(int(at) * (HOUR_S if kind == "h" else DAY_S), row))
    oldest_hour, oldest_day = now // HOUR_S - HOURS_KEPT, now // DAY_S - DAYS_KEPT + 1
    hours = (one for one in spans["h"] if one.began_s >= oldest_hour * HOUR_S)
    days = (one for one in spans["d"] if one.began_s >= oldest_day * DAY_S)
    return Availability(_in_order(hours), _in_order(days))


def _in_order(spans: Iterable[Span]) -> tuple[Span, ...]:
    return tuple(sorted(spans, key=lambda one: one.began_s))


def number(text: str) -> float | None:
    return None if text in {"", "-"} else float(text)
