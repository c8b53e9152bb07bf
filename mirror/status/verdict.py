"""In one word how a mirror stands, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mirror.ledger.standing import Standing
from mirror.status.tags import Said
from mirror.status.values import Place, RegistryStatus, State, TagStatus

_WRONG = frozenset({"unsigned", "different", "missing", "damaged"})


def verdict(
    standing: Standing,
    tags: Sequence[TagStatus],
    places: Sequence[Place],
    registries: Mapping[str, RegistryStatus],
    said: Said,
) -> tuple[State, str]:
    """The worst that is known: down before differs before behind."""
    hosts = dict.fromkeys(place.host for place in places if place.host)
    down = [host for host in hosts if registries[host].standing == "down"]
    if down:
        return "down", f"{', '.join(down)} cannot be reached"
    if wrong := _differs(standing, tags, places):
        return "differs", wrong
    if behind := [one.tag for one in tags if one.behind_since is not None]:
        count = len(behind) + max(standing.behind.more.values(), default=0)
        return "behind", f"{_tags(count)} moved at the source and not everywhere yet"
    if not standing.runs or not tags:
        error = next((said(run.error) for run in reversed(standing.runs) if run.error), "")
        return "unknown", f"the last run failed: {error}" if error else "no run of the last 7 days is known"
    if unknown := [one for one in tags if any(held.state == "unknown" for held in one.held)]:
        return "unknown", f"of {_tags(len(unknown))} it is not known what every registry holds"
    return "in step", "every registry holds the same"


def _differs(standing: Standing, tags: Sequence[TagStatus], places: Sequence[Place]) -> str:
    if standing.conflicts:
        return f"{_tags(standing.conflicts)} moved on several sides: somebody has to decide"
    apart = [
        one for one in tags if one.behind_since is None and any(held.state in _WRONG for held in one.held)
    ]
    if apart:
        return f"{_tags(len(apart))} not the same everywhere"
    wrong = sum(place.checked.wrong for place in places if place.checked)
    if wrong and not _is_mended(standing):
        return f"verifying found {_tags(wrong)} missing, different or damaged"
    return ""


def _is_mended(standing: Standing) -> bool:
    """Whether a run since has dealt with the mirror's tags and was through with all."""
    verified = standing.verified
    return verified is not None and any(
        run.state == "done" and run.started_s > verified.started_s and run.kind != "verify"
        for run in standing.runs
    )


def _tags(count: int) -> str:
    return f"{count:,} tag{'' if count == 1 else 's'}"
