"""Which targets hold what the mirror's tags are to be, as far as runs have told the ledger."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
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
_OPEN = frozenset({"pending", "cancelled"})


@dataclass(slots=True)
class Currency:
    """What is known of one target."""

    is_known: bool = False
    """A run has brought the mirror's tags there, or found them there."""
    behind: dict[str, str] = field(default_factory=dict)
    """By tag that is not what it is to be: the reason."""
    apart: set[str] = field(default_factory=set)
    """Of a two-way mirror: tags of which nobody has decided what they are to be."""
    wrong: dict[str, int] = field(default_factory=dict)
    """What a verification found that nothing has mended since: how many tags are missing, damaged, …"""
    is_unsure: bool = False
    """The last run is not through with all tags, or of some it is forgotten what became of them, and
    no run before it is known that was."""


def currencies(ledger: Ledger, spec: MirrorSpec) -> dict[str, Currency]:
    """By target, from the last runs about the mirror; what was pushed since then is not known here.

    ``spec``: a mirror, or one of a wildcard's repositories. Costs a bounded number of exchanges, whatever
    the number of runs; more only where the last one did not end well. A source that does not answer takes
    nothing from what targets are known to hold.
    """
    found = {target.repository: Currency() for target in spec.targets}
    standing = ledger.standings.of([replace(spec, name=spec.mirror)])[spec.mirror]
    was_everywhere = bool(ledger.probes.samples.of([spec.mirror]))
    for run in (*standing.runs, *_under_way(ledger, spec, {run.run for run in standing.runs})):
        terms = ledger.spec(run.run)
        names = {target.repository for target in terms.targets}
        covered = [known for name, known in found.items() if _wildcard(name, spec.rest) in names]
        if run.kind == "verify":
            for one in run.found:
                _take_verified(found, run, one, spec)
        else:
            _take_run(ledger, found, covered, run, spec)
        for known in covered if was_everywhere else ():  # an image was, and what is not any more is known
            known.is_known = True
    return found


def _under_way(ledger: Ledger, spec: MirrorSpec, but: Collection[str]) -> list[RunReport]:
    """Open runs about the mirror: what they wait for has moved at the source."""
    found = [run for run in ledger.standings.open_runs() if run.run not in but and run.kind != "verify"]
    return [run for run in found if ledger.spec(run.run).mirror == spec.mirror]


def _take_run(
    ledger: Ledger,
    found: Mapping[str, Currency],
    covered: Sequence[Currency],
    run: RunReport,
    spec: MirrorSpec,
) -> None:
    terms = ledger.spec(run.run)
    is_whole = not (terms.refs or terms.given or terms.kind in {"rollback", "repair"})
    if run.state == "done":
        for known in covered:
            _take_done(known, is_whole=is_whole, is_repair=run.kind == "repair", asks=not terms.trust_s)
    if run.state == "done" and is_whole:
        return
    reports = list(islice(ledger.tag_reports(run.run), MOST_TAGS))
    own = [one for one in reports if not spec.rest or one.rest == spec.rest]
    is_through = run.listed and len(reports) == run.tags and not any(one.state in _OPEN for one in own)
    for known in covered if is_whole and not is_through else ():
        known.is_unsure = known.is_unsure or not known.is_known  # else a run before was through with all
    _take_tags(found, own)


def _take_done(known: Currency, *, is_whole: bool, is_repair: bool, asks: bool) -> None:
    """A run brought all of its tags to where they are to be; one about all has seen what is there."""
    if is_repair:
        known.wrong = {}
    if is_whole:
        known.is_known, known.is_unsure = True, False
        known.behind, known.apart = {}, set()
        if asks:
            known.wrong = {word: count for word, count in known.wrong.items() if word == "damaged"}


def _take_tags(found: Mapping[str, Currency], reports: Iterable[TagReport]) -> None:
    for one in reports:
        for target in one.targets:
            known = found.get(target.repository) or found.get(_wildcard(target.repository, one.rest))
            if known is None:
                continue
            if one.digest is None or target.state not in _THERE | _LACKING | _APART:
                continue  # the source did not say what it is, or it was not looked at
            known.behind.pop(one.label, None)
            known.apart.discard(one.label)
            if target.state in _THERE:
                known.is_known = True
            elif target.state in _LACKING:
                known.behind[one.label] = target.reason
            else:
                known.apart.add(one.label)


def _take_verified(found: Mapping[str, Currency], run: RunReport, one: FoundReport, spec: MirrorSpec) -> None:
    for name, known in found.items():
        if _wildcard(name, spec.rest) != one.repository:
            continue
        counts = {
            "missing": one.missing,
            "different": one.different,
            "damaged": one.damaged,
            "behind": one.behind,
        }
        known.wrong = {word: count for word, count in counts.items() if count}
        is_clean = not (known.wrong or one.unchecked or one.held)
        if run.ended and one.verified and is_clean:
            known.is_known, known.is_unsure = True, False
            known.behind, known.apart = {}, set()


def _wildcard(repository: str, rest: str) -> str:
    """One of a wildcard's repositories as the fleet file has it."""
    return f"{repository.removesuffix(rest)}{ANY}" if rest else repository
