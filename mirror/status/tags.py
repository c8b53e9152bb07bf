"""Tags as the last runs left or found them, and which of very many are shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mirror.ledger.standing import Standing
from mirror.ledger.values import HELD
from mirror.ledger.verified import BEHIND, DAMAGED, DIFFERENT, MISSING
from mirror.report import TagReport, TargetReport
from mirror.semver import Version, version_of
from mirror.status.values import Held, TagStatus

_THERE = frozenset({"current", "updated"})
_UNKNOWN = Held("unknown")
Said = Callable[[str], str]
"""A reason as it may be shown."""


def tags_of(
    standing: Standing, repositories: Sequence[str], said: Said, *, has_source: bool
) -> list[TagStatus]:
    """Every tag that the mirror's last runs were about, the newest first.

    ``repositories``: the targets that are shown, as the mirror has them (of a wildcard's: by their place).
    """
    known: dict[str, tuple[str | None, dict[int, Held]]] = {}
    for run in standing.runs:
        for report in standing.tags.get(run.run, ()):
            digest, held = known.get(report.label, (None, {}))
            known[report.label] = report.digest or digest, _merged(held, report, repositories, said)
    found = [
        _status(label, digest, held, range(len(repositories)), has_source=has_source)
        for label, (digest, held) in known.items()
    ]
    return sorted((_since(one, standing.behind) for one in found), key=_newest, reverse=True)


def _merged(
    held: Mapping[int, Held], report: TagReport, repositories: Sequence[str], said: Said
) -> dict[int, Held]:
    """What was known, and over it what this run says."""
    now = dict(held)
    for target in report.targets:
        at = _position(target.repository, report.rest, repositories)
        if at is not None:
            now[at] = _held(target, report.digest, held.get(at), said)
    return now


def _position(repository: str, rest: str, repositories: Sequence[str]) -> int | None:
    as_written = f"{repository.removesuffix(rest)}*" if rest else repository
    return repositories.index(as_written) if as_written in repositories else None


def _held(target: TargetReport, digest: str | None, before: Held | None, said: Said) -> Held:
    reason = said(target.reason)
    if target.state in _THERE:
        return Held("same", digest)
    if target.kind == MISSING:
        return Held("missing", None, reason)
    if target.kind == DAMAGED:
        return Held("damaged", digest, reason)
    held = target.previous or (before.digest if before else None)
    if target.kind in {DIFFERENT, BEHIND, HELD} or (held and digest and held != digest):
        return Held("different", held, reason)
    if held and held == digest:
        return Held("same", digest)
    return Held("unknown", None, reason)


def _status(
    label: str, digest: str | None, held: Mapping[int, Held], places: Iterable[int], *, has_source: bool
) -> TagStatus:
    source = (Held("same", digest) if digest else _UNKNOWN,) if has_source else ()
    return TagStatus(label, digest, (*source, *(held.get(at, _UNKNOWN) for at in places)))


def _since(one: TagStatus, behind: Mapping[str, tuple[str, float]]) -> TagStatus:
    digest, since = behind.get(one.tag, (None, None))
    is_behind = digest is not None and digest == one.digest and not one.is_same
    return replace(one, behind_since=since) if is_behind else one


def _newest(one: TagStatus) -> tuple[Any, ...]:
    """``latest``, then versions, then names."""
    name = one.tag.rpartition(":")[2]
    version = version_of(name)
    return (name == "latest", version is not None, version or Version(0), name, one.tag)
