"""What a rehearsed batch says, as a plan has it."""

from __future__ import annotations

from mirror.forecast import PlannedTag, PlannedTarget, State
from mirror.ledger.values import DELETED, GONE, HELD, Merged
from mirror.rehearsal import Withheld
from mirror.report import THERE, TagReport, TargetReport
from mirror.spec import MirrorSpec


def planned(report: TagReport, spec: MirrorSpec, merged: Merged | None = None) -> PlannedTag:
    """``merged``: of a two-way mirror, what the sides have, where it is not the same."""
    seen = merged.seen if merged else (None,) * len(report.targets)
    targets = tuple(
        _target(report, target, spec, merged, at) for target, at in zip(report.targets, seen, strict=True)
    )
    return PlannedTag(
        report.tag,
        report.digest,
        targets,
        report.repository,
        report.rest,
        tuple(t.repository for t in targets if merged and report.digest and t.previous == report.digest),
        merged.rule if merged else "",
    )


def _target(
    report: TagReport, target: TargetReport, spec: MirrorSpec, merged: Merged | None, seen: str | None
) -> PlannedTarget:
    state, reason = _state(report, target, spec, merged)
    return PlannedTarget(target.repository, target.region, state, target.previous or seen, reason)


def _state(
    report: TagReport, target: TargetReport, spec: MirrorSpec, merged: Merged | None
) -> tuple[State, str]:
    is_unread = target.kind == Withheld.__name__ and report.digest is not None
    if target.kind in {GONE, DELETED}:
        return "current", target.reason
    if target.state in THERE or is_unread:
        if target.state == "current" or target.previous == report.digest:
            return "current", ""
        return ("move" if target.previous else "new"), ""
    if target.state in {"held", "pinned"}:
        return ("conflict" if merged and target.kind == HELD else "held"), target.reason
    if report.tag and report.digest is None and target.kind == "NotFound":
        return "missing", f"{'no side' if spec.is_two_way else 'the source'} has no such tag"
    return "error", target.reason
