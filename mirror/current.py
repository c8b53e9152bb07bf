"""Which targets hold what the mirror's tags are to be, as far as runs have told the ledger."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice

from mirror.ledger import Ledger
from mirror.report import FoundReport, RunReport, TagReport
from mirror.spec import ANY, MirrorSpec

MOST_TAGS = 3200
"""Of a run that did not end well, so many tags are looked through."""
_THERE = frozenset({"current", "updated"})
_LACKING = frozenset({"failed", "waiting"})
_APART = frozenset({"held"})


@dataclass(slots=True)
class Currency:
    """What is known of one target."""

    is_known: bool = False
    """A run has brought all of the mirror's tags there, or found them there."""
    behind: dict[str, str] = field(default_factory=dict)
    """By tag that is not what it is to be: the reason."""
    apart: set[str] = field(default_factory=set)
    """Of a two-way mirror: tags of which nobody has decided what they are to be."""
    wrong: str = ""
    """What a verification found that nothing has mended since."""
    is_unsure: bool = False
    """The last run did not end well, and of some tags it is forgotten where."""


def currencies(ledger: Ledger, spec: MirrorSpec) -> dict[str, Currency]:
    """By target, from the last runs about the mirror; what was pushed since then is not known here.

    ``spec``: a mirror, or one of a wildcard's repositories. Costs a bounded number of exchanges, whatever
    the number of runs; more only where the last one did not end well.
    """
    found = {target.repository: Currency() for target in spec.targets}
    standing = ledger.standings.of([replace(spec, name=spec.mirror)])[spec.mirror]
    for run in standing.runs:
        if run.kind == "verify":
            for one in run.found:
                _take_verified(found, run, one, spec)
            continue
        terms = ledger.spec(run.run)
        is_whole = not (terms.refs or terms.given or terms.kind in {"rollback", "repair"})
        covered = [one for one in found if _as_written(one, spec) in {t.repository for t in terms.targets}]
        for name in covered if is_whole else ():
            _take_whole(found[name], run)
        if run.kind == "repair" and run.state == "done":
            for name in covered:
                found[name].wrong = ""
        if run.state != "done" or not is_whole:
            reports = list(islice(ledger.tag_reports(run.run), MOST_TAGS))
            _take_tags(found, (one for one in reports if not spec.rest or one.rest == spec.rest))
            if is_whole and run.ended and len(reports) < run.tags:
                for name in covered:
                    found[name].is_unsure = True
    return found


def _take_whole(known: Currency, run: RunReport) -> None:
    """A run about all tags: those that it did not see are the mirror's no more."""
    if run.ended:
        known.behind, known.apart, known.is_unsure = {}, set(), False
    known.is_known = known.is_known or bool(run.tags)


def _take_tags(found: Mapping[str, Currency], reports: Iterable[TagReport]) -> None:
    for one in reports:
        for target in one.targets:
            known = found.get(target.repository) or found.get(_wildcard(target.repository, one.rest))
            if known is None or one.digest is None:  # the source did not say what it is
                continue
            if target.state in _THERE | _LACKING | _APART:
                known.behind.pop(one.label, None)
                known.apart.discard(one.label)
            if target.state in _LACKING:
                known.behind[one.label] = target.reason
            elif target.state in _APART:
                known.apart.add(one.label)


def _take_verified(found: Mapping[str, Currency], run: RunReport, one: FoundReport, spec: MirrorSpec) -> None:
    for name, known in found.items():
        if _as_written(name, spec) != one.repository:
            continue
        counts = {
            "missing": one.missing,
            "different": one.different,
            "damaged": one.damaged,
            "behind": one.behind,
        }
        if wrong := [f"{count} {word}" for word, count in counts.items() if count]:
            known.wrong = ", ".join(wrong)
        elif run.ended and one.verified and not one.unchecked:
            known.wrong, known.is_known = "", True
            if not one.held:
                known.behind, known.apart, known.is_unsure = {}, set(), False


def _as_written(repository: str, spec: MirrorSpec) -> str:
    """A target as the fleet file has it."""
    return _wildcard(repository, spec.rest)


def _wildcard(repository: str, rest: str) -> str:
    return f"{repository.removesuffix(rest)}{ANY}" if rest else repository
