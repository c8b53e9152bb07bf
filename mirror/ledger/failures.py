"""Why tags of a run failed, counted as its batches conclude: nobody has to read a million tags to know."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mirror.report import FOLLOWS, FailureReport, TagReport

MOST_REASONS = 50
"""Of a run; what comes beyond them is counted as one."""
MOST_EXAMPLES = 5
LONGEST = 300
OTHER = "\nother reasons"
"""As a field: without a kind."""
_DIGEST = re.compile(r"\b(sha256|sha512):[0-9a-f]{64,128}\b")


COUNT_FAILURE = """
local function count_failure(key, name, count, examples, most, other, most_examples)
  local held = redis.call('HGET', key, name)
  if not held and redis.call('HLEN', key) >= tonumber(most) then
    name = other
    held = redis.call('HGET', key, name)
  end
  local before, known = string.match(held or '0', '^(%d+)(.*)$')
  local _, many = string.gsub(known, '\\n', '')
  for one in string.gmatch(examples, '[^\\n]+') do
    if many < tonumber(most_examples) then
      known, many = known .. '\\n' .. one, many + 1
    end
  end
  redis.call('HSET', key, name, (tonumber(before) + tonumber(count)) .. known)
end
"""
"""For scripts that conclude: a function."""


@dataclass(slots=True)
class _Group:
    count: int = 0
    examples: list[str] = field(default_factory=list)


def grouped(tags: Iterable[TagReport]) -> list[tuple[str, int, str]]:
    """Of those that failed: (field, how many, examples) by what their reasons have in common."""
    groups: dict[str, _Group] = {}
    for one in tags:
        if one.state == "failed":
            group = groups.setdefault(_field(one), _Group())
            group.count += 1
            group.examples += [one.label] if len(group.examples) < MOST_EXAMPLES else []
    return [(name, group.count, "\n".join(group.examples)) for name, group in groups.items()]


def failures_of(rows: Mapping[bytes, bytes]) -> tuple[FailureReport, ...]:
    """The most frequent ones first."""
    found = [_failure(name.decode(), value.decode()) for name, value in rows.items()]
    return tuple(sorted(found, key=lambda one: (-one.count, one.reason)))


def _failure(name: str, value: str) -> FailureReport:
    kinds, _, reason = name.partition("\n")
    count, *examples = value.split("\n")
    return FailureReport(reason, int(count), tuple(kinds.split(",") if kinds else ()), tuple(examples))


def _field(tag: TagReport) -> str:
    kinds = sorted({target.kind for target in tag.targets if target.state == "failed" and target.kind})
    return f"{','.join(kinds)}\n{common(tag, tag.reason)[:LONGEST]}"


def common(tag: TagReport, reason: str) -> str:
    """The reason without what is the tag's alone: ``host/app:…: not found``, ``host/…:…: not found``."""
    reason = reason.removeprefix(FOLLOWS)
    if tag.rest:
        reason = re.sub(rf"/{re.escape(tag.rest)}(?![\w./-])", "/…", reason)
    if tag.tag:
        reason = re.sub(rf":{re.escape(tag.tag)}(?![\w.-])", ":…", reason)
    return _DIGEST.sub(r"\1:…", reason).replace("\n", " ")
