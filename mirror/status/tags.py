"""Tags as the last runs left or found them, and which of very many are shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mirror.ledger.standing import Standing
from mirror.ledger.values import HELD
from mirror.ledger.verified import BEHIND, DAMAGED, DIFFERENT, MISSING
from mirror.report import FOLLOWS, TagReport, TargetReport
from mirror.semver import Version, version_of
from mirror.status.texts import host_of
from mirror.status.values import Held, TagStatus

_THERE = frozenset({"current", "updated"})
_LACKING = frozenset({"failed", "waiting"})
_UNKNOWN = Held("unknown")
Said = Callable[[str], str]
"""A reason as it may be shown."""


def tags_of(
    standing: Standing, repositories: Sequence[str], said: Said, *, has_source: bool
) -> list[TagStatus]:
    """Every tag that the mirror's last runs were about, the newest first.

    ``repositories``: the targets that are shown, as the mirror has them (of a wildcard's: by their place).
    """
    known: dict[str, _Known] = {}
    for run in standing.runs:
        for report in standing.tags.get(run.run, ()):
            known.setdefault(report.label, _Known()).add(report, repositories, said)
    found = [one.status(label, len(repositories), has_source=has_source) for label, one in known.items()]
    return sorted((_since(one, standing.behind) for one in found), key=_newest, reverse=True)


@dataclass(slots=True)
class _Known:
    """What runs have said of one tag, the later ones over the earlier."""

    digest: str | None = None
    held: dict[int, Held] = field(default_factory=dict)
    """By position of the place."""
    signed: bool | None = None
    left_out: tuple[str, ...] | None = None

    def add(self, report: TagReport, repositories: Sequence[str], said: Said) -> None:
        if report.digest and report.digest != self.digest:
            self.digest, self.signed, self.left_out = report.digest, None, None
        for target in report.targets:
            self.signed = self.signed if target.signed is None else target.signed
            self.left_out = self.left_out if target.left_out is None else target.left_out
            at = _position(target.repository, report.rest, repositories)
            if at is not None:
                self.held[at] = _held(target, report, self.held.get(at), said)

    def status(self, label: str, places: int, *, has_source: bool) -> TagStatus:
        source = (Held("same", self.digest) if self.digest else _UNKNOWN,) if has_source else ()
        held = (*source, *(self.held.get(at, _UNKNOWN) for at in range(places)))
        return TagStatus(label, self.digest, held, None, self.signed, self.left_out)


def _position(repository: str, rest: str, repositories: Sequence[str]) -> int | None:
    as_written = f"{repository.removesuffix(rest)}*" if rest else repository
    return repositories.index(as_written) if as_written in repositories else None


def _held(target: TargetReport, report: TagReport, before: Held | None, said: Said) -> Held:
    digest, reason = report.digest, said(_without_names(target, report))
    if target.state in _THERE:
        return Held("same", digest)
    if target.kind == MISSING:
        return Held("missing")
    if target.kind == DAMAGED:
        return Held("damaged", digest, reason)
    held = target.previous or (before.digest if before else None)
    if target.kind in {DIFFERENT, BEHIND, HELD} or (held and digest and held != digest):
        return Held("different", held, reason)
    if held and held == digest:
        lacks_some = target.signed and target.state in _LACKING
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


def _since(one: TagStatus, behind: Mapping[str, tuple[str, float]]) -> TagStatus:
    digest, since = behind.get(one.tag, (None, None))
    is_behind = digest is not None and digest == one.digest and not one.is_same
    return replace(one, behind_since=since) if is_behind else one


def _newest(one: TagStatus) -> tuple[Any, ...]:
    """``latest``, then versions, then names."""
    name = one.tag.rpartition(":")[2]
    version = version_of(name)
    return (name == "latest", version is not None, version or Version(0), name, one.tag)
