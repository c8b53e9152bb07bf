"""Tags as the last runs left or found them, and which of very many are shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mirror.ledger.lagging import LACKING, Lag, Lagging
from mirror.ledger.standing import Standing
from mirror.ledger.values import HELD
from mirror.ledger.verified import BEHIND, DAMAGED, DIFFERENT, MISSING
from mirror.report import FOLLOWS, THERE, RunReport, TagReport, TargetReport
from mirror.semver import Version, version_of
from mirror.spec import above
from mirror.status.texts import host_of
from mirror.status.values import Held, TagStatus

_UNKNOWN = Held("unknown")
Said = Callable[[str], str]
"""A reason as it may be shown."""


def tags_of(
    standing: Standing, repositories: Sequence[str], said: Said, *, has_source: bool
) -> list[TagStatus]:
    """Every tag that the mirror's last runs were about or that is behind, the newest first.

    ``repositories``: the targets that are shown, as the mirror has them (of a wildcard's: by their place).
    """
    known: dict[str, _Known] = {}
    for run in standing.runs:
        for report in standing.tags.get(run.run, ()):
            known.setdefault(report.label, _Known()).add(run, report, repositories, said)
    _take_behind(known, standing.behind, repositories)
    found = (one.status(label, len(repositories), has_source=has_source) for label, one in known.items())
    return sorted(found, key=_newest, reverse=True)


@dataclass(slots=True)
class _Known:
    """What runs have said of one tag, the later ones over the earlier."""

    digest: str | None = None
    held: dict[int, Held] = field(default_factory=dict)
    """By position of the place."""
    there: set[int] = field(default_factory=set)
    """Where the last run about it that was read brought or found it."""
    lacking: set[int] = field(default_factory=set)
    """Where that run could not, and is over."""
    told_s: float = 0.0
    """When that run began."""
    since_s: float | None = None
    """Since when it is behind."""
    signed: bool | None = None
    left_out: tuple[str, ...] | None = None

    def add(self, run: RunReport, report: TagReport, repositories: Sequence[str], said: Said) -> None:
        self.told_s = run.started_s
        if report.digest:
            self._move_on(report.digest)
        is_over = run.ended and run.kind != "verify" and report.digest is not None
        for target in report.targets:
            self.signed = self.signed if target.signed is None else target.signed
            self.left_out = self.left_out if target.left_out is None else target.left_out
            at = _position(target.repository, report.rest, repositories)
            if at is None:
                continue
            before = self.held.get(at)
            held = _held(target, report, before, said)
            is_seen_only = run.kind not in {"verify", "repair"} and target.state == "current"
            if before and before.state == "damaged" and is_seen_only and before.digest == held.digest:
                held = before  # the digest that it promises was seen, and not what is there of it
            self.held[at] = held
            for places, is_so in (
                (self.there, target.state in THERE),
                (self.lacking, is_over and target.state in LACKING),
            ):
                (places.add if is_so else places.discard)(at)

    def put_behind(self, lags: Mapping[int, Lag], *, is_named: bool) -> None:
        """``is_named``: whether it is known which targets; else none that was seen to have the same."""
        last = max(lags.values(), key=lambda lag: lag.seen_s)
        is_news = is_named and last.seen_s >= self.told_s
        for at, lag in lags.items():
            held = self.held.get(at, _UNKNOWN)
            if held.state == "same":
                is_told = at not in self.there and held.digest == last.digest  # its image at least is there
                if is_told or not is_news:
                    continue
                held = Held("different", held.digest) if held.digest != last.digest else _UNKNOWN
            self.held[at] = held
            self.since_s = lag.since_s if self.since_s is None else min(lag.since_s, self.since_s)
        if last.digest and (is_news or self.digest is None):
            self._move_on(last.digest)
            same = [at for at, held in self.held.items() if held.state == "same"]
            self.held |= dict.fromkeys(same, Held("same", last.digest))

    def put_right(self, places: Iterable[int]) -> None:
        """Where it is not behind any more a run has brought it since."""
        self.held |= dict.fromkeys(self.lacking.intersection(places), Held("same", self.digest))

    def status(self, label: str, places: int, *, has_source: bool) -> TagStatus:
        source = (Held("same", self.digest) if self.digest else _UNKNOWN,) if has_source else ()
        held = (*source, *(self.held.get(at, _UNKNOWN) for at in range(places)))
        return TagStatus(label, self.digest, held, self.since_s, self.signed, self.left_out)

    def _move_on(self, digest: str) -> None:
        if digest != self.digest:
            self.digest, self.signed, self.left_out = digest, None, None


def _take_behind(known: dict[str, _Known], behind: Lagging, repositories: Sequence[str]) -> None:
    """What is behind is so whichever run left it; what is not, a run has brought that may not be read."""
    counted = {at for at, name in enumerate(repositories) if behind.more.get(name)}
    for label in {**known, **behind.tags}:
        own = behind.tags.get(label, {})
        lags = {at: lag for at, name in enumerate(repositories) if (lag := own.get(name) or own.get(""))}
        if label in known:
            known[label].put_right(set(range(len(repositories))) - counted - lags.keys())
        if lags := {at: lag for at, lag in lags.items() if lag.digest is not None}:
            known.setdefault(label, _Known()).put_behind(lags, is_named="" not in own)


def _position(repository: str, rest: str, repositories: Sequence[str]) -> int | None:
    as_written = above(repository, rest)
    return repositories.index(as_written) if as_written in repositories else None


def _held(target: TargetReport, report: TagReport, before: Held | None, said: Said) -> Held:
    digest, reason = report.digest, said(_without_names(target, report))
    if target.state in THERE:
        return Held("same", digest)
    if target.kind == MISSING:
        return Held("missing")
    if target.kind == DAMAGED:
        return Held("damaged", digest, reason)
    held = target.previous or (before.digest if before else None)
    if target.kind in {DIFFERENT, BEHIND, HELD} or (held and digest and held != digest):
        return Held("different", held, reason)
    if held and held == digest:
        lacks_some = target.signed and target.state in LACKING
        return Held("unsigned", digest, reason) if lacks_some else Held("same", digest)
    return Held("unknown", None, reason)


def _without_names(target: TargetReport, report: TagReport) -> str:
    """Why, without of what: it stands beside that. Why another registry failed stands there."""
    if target.reason.startswith(FOLLOWS):
        others = (one.repository for one in report.targets if one.repository in target.reason)
        return f"{FOLLOWS}{host_of(next(others, '')) or 'another registry'}"
    named = f"{target.repository}:{report.tag}: ", f"{target.repository}@{report.digest}: "
    for name in named:
        if target.reason.startswith(name):
            return target.reason.removeprefix(name)
    return target.reason


def _newest(one: TagStatus) -> tuple[Any, ...]:
    """``latest``, then versions, then names."""
    name = one.tag.rpartition(":")[2]
    version = version_of(name)
    return (name == "latest", version is not None, version or Version(0), name, one.tag)
