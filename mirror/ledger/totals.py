"""Totals: what the fleet has done since its ledger began, for whoever watches it; longer-lived than runs.

Each is counted by the script that changes the state which it describes, so that a step that is taken twice
counts once (G6). All are fields of one hash, ``name⏎label=value⏎…``. Labels that come from outside are
bounded: beyond MOST_OTHERS names that no fleet file has, the rest count as ``other``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from mirror.ledger.keys import Client, Keys
from mirror.ledger.values import Resolved
from mirror.report import TagReport

Kind = Literal["mirror", "region", "registry", "receiver"]
"""Labels whose values are anybody's."""
KINDS: tuple[Kind, ...] = ("mirror", "region", "registry", "receiver")
MOST_OTHERS = 50
"""Values of each kind that are counted by name besides those of fleet files."""
OTHER = "other"
LAG_BOUNDS_S = (10, 30, 60, 120, 300, 600, 1800, 3600, 10800, 21600, 86400)
LAG, LAG_MS = "tag_lag", "tag_lag_ms"
_NAME, _NAMES = "name", "names"

COUNT = """
local most_others = MOST_OTHERS
local bounded = {BOUNDED}
local function bounded_series(totals, series)
  return (string.gsub(series, '(%l+)=([^\\n]*)', function(kind, name)
    if not bounded[kind] then return end
    local place, many = 'name\\n' .. kind .. '=' .. name, 'names\\n' .. kind
    if redis.call('HEXISTS', totals, place) == 1 then return end
    if tonumber(redis.call('HGET', totals, many) or 0) >= most_others then return kind .. '=other' end
    redis.call('HINCRBY', totals, many, 1)
    redis.call('HSET', totals, place, 1)
  end))
end
local function count(totals, pairs_json)
  for _, one in ipairs(cjson.decode(pairs_json)) do
    redis.call('HINCRBY', totals, bounded_series(totals, one[1]), one[2])
  end
end
""".replace("MOST_OTHERS", str(MOST_OTHERS)).replace("BOUNDED", ", ".join(f"{kind} = true" for kind in KINDS))
"""For scripts that change what is counted: a function of the totals' key and what :func:`counts` returns."""

COUNT_LAGS = """
local lag_bounds = {LAG_BOUNDS}
local function count_lags(totals, labels, seen_json)
  for _, one in ipairs(cjson.decode(seen_json)) do
    local lag, le = math.max(0, now - tonumber(one[1])), '+Inf'
    for i = #lag_bounds, 1, -1 do
      if lag <= lag_bounds[i] then le = lag_bounds[i] end
    end
    count(totals, cjson.encode({
      {'tag_lag\\n' .. labels .. '\\nle=' .. le, one[2]},
      {'tag_lag_ms\\n' .. labels, string.format('%.0f', lag * 1000 * one[2])}
    }))
  end
end
""".replace("LAG_BOUNDS", ", ".join(map(str, LAG_BOUNDS_S)))
"""After COUNT: a function that puts (when it was seen, how many) pairs into the histogram of lags."""

ADMIT = """
-- KEYS totals; ARGV names: each is counted as what it is, and takes nobody's place
for _, name in ipairs(ARGV) do redis.call('HSETNX', KEYS[1], 'name\\n' .. name, 1) end
return 1
"""

ADD = (
    COUNT
    + """
-- KEYS totals; ARGV totals
count(KEYS[1], ARGV[1])
return 1
"""
)

Series = Mapping[str, int]
"""By ``name⏎label=value⏎…``."""


def series(name: str, **labels: str) -> str:
    """The field that counts this."""
    return "\n".join([name, *(f"{label}={value}" for label, value in labels.items())])


def counts(of: Series) -> str:
    """As the scripts' ``count`` takes them; amounts are text, so that Lua does not round them."""
    return json.dumps([[name, str(amount)] for name, amount in of.items()], separators=(",", ":"))


def tags_of(mirror: str, reports: Iterable[TagReport]) -> Series:
    """Tags in targets by what became of them."""
    return Counter(
        series("tags", mirror=mirror, region=target.region, state=target.state)
        for report in reports
        for target in report.targets
    )


def lags_of(resolved: Iterable[Resolved], reports: Iterable[TagReport]) -> str:
    """When the source was asked about tags that have moved everywhere, for :data:`COUNT_LAGS`."""
    moved = {report.tag for report in reports if report.state == "updated"}
    seen = Counter(one.at for one in resolved if one.tag in moved and one.at)
    return json.dumps([[f"{at:.3f}", number] for at, number in seen.items()])


@dataclass(frozen=True, slots=True)
class Total:
    """One series as it stands."""

    name: str
    labels: dict[str, str]
    value: int


@dataclass(slots=True)
class Told:
    """All totals, and which names are counted as what they are."""

    totals: dict[str, list[Total]] = field(default_factory=dict)
    """By the name of what is counted."""
    named: set[tuple[str, str]] = field(default_factory=set)
    """(kind, name)."""

    def of(self, name: str) -> list[Total]:
        return self.totals.get(name, [])

    def shown(self, kind: Kind, name: str) -> str:
        """What a name is counted as."""
        return name if (kind, name) in self.named else OTHER

    @classmethod
    def parse(cls, rows: Mapping[bytes, bytes]) -> Told:
        """From the fields of the hash."""
        told = cls()
        for row, value in rows.items():
            name, *rest = row.decode().split("\n")
            labels = dict(_label(one) for one in rest if "=" in one)
            if name == _NAME:
                told.named.update(labels.items())
            elif name != _NAMES:
                told.totals.setdefault(name, []).append(Total(name, labels, int(value)))
        return told


class Totals:
    """One fleet's totals."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._key = keys.totals
        self._admit, self._add = client.register_script(ADMIT), client.register_script(ADD)

    def admit(self, names: Mapping[Kind, Iterable[str]]) -> None:
        """Count these by their names, however many others there are."""
        words = [f"{kind}={name}" for kind, several in names.items() for name in several]
        if words:
            self._admit([self._key], words)

    def add(self, counted: Series) -> None:
        """Count what changes no state: whoever counts it may be killed before, and then it is lost."""
        if counted:
            self._add([self._key], [counts(counted)])


def _label(text: str) -> tuple[str, str]:
    label, _, value = text.partition("=")
    return label, value
