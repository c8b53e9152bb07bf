"""Which targets hold what the mirror's tags are to be, as far as runs have told the ledger."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from mirror.ledger import Ledger
from mirror.ledger.lagging import LACKING, Lagging
from mirror.report import THERE, FoundReport, RunReport, TagReport
from mirror.spec import MirrorSpec, above

MOST_TAGS = 3200
"""Of a run that is under way, so many tags are looked through."""
_OPEN = frozenset({"pending", "cancelled"})


@dataclass(slots=True)
class Currency:
    """What is known of one target."""

    is_known: bool = False
    """A run has brought the mirror's tags there, or found them there."""
    behind: dict[str, float] = field(default_factory=dict)
    """By tag that is not what it is to be: when a run last saw that, in Unix time."""
    more_behind: int = 0
    """How many there are beside these, of all repositories where the mirror is a wildcard's."""
    apart: dict[str, float] = field(default_factory=dict)
    """The same of tags of which nobody has decided what they are to be: their sides moved apart."""
    wrong: dict[str, int] = field(default_factory=dict)
    """What a verification found that nothing has mended since: how many tags are missing, damaged, …"""
    is_unsure: bool = False
    """The last run is not through with all tags, and no run before it is known that was."""


def currencies(ledger: Ledger, spec: MirrorSpec) -> dict[str, Currency]:
    """By target, from what runs have left; what was pushed since then is not known here.

    ``spec``: a mirror, or one of a wildcard's repositories. Costs a bounded number of exchanges, whatever
    the number of runs; more only for those that are under way. A source that does not answer takes nothing
    from what targets are known to hold.
    """
    found = {target.repository: Currency() for target in spec.targets}
    standing = ledger.standings.of([replace(spec, name=spec.mirror)])[spec.mirror]
    was_everywhere = bool(ledger.probes.samples.of([spec.mirror]))
    _take_behind(found, standing.behind, spec)
    for name, known in found.items():
        known.wrong = standing.wrong.get(spec.place_of(name), {})
    for run in (*standing.runs, *_under_way(ledger, spec, {run.run for run in standing.runs})):
        names = {target.repository for target in ledger.spec(run.run).targets}
        covered = [known for name, known in found.items() if spec.place_of(name) in names]
        if run.kind == "verify":
            for one in run.found:
                _take_verified(found, run, one, spec)
        elif run.ended:
            _take_ended(ledger, covered, run)
            _take_tags(found, run, standing.tags.get(run.run, ()))
        else:
            _take_open(ledger, found, covered, run, spec)
        for known in covered if was_everywhere else ():  # an image was, and what is not any more is known
            known.is_known = True
    return found


def _take_behind(found: Mapping[str, Currency], behind: Lagging, spec: MirrorSpec) -> None:
    """What a run has left so and no run since has found to be there."""
    for name, known in found.items():
        place = spec.place_of(name)
        known.more_behind = behind.more.get(place, 0)
        for label, own in behind.tags.items():
            lag = own.get(place) or own.get("")
            if lag is None or (spec.rest and label.rpartition(":")[0] != spec.rest):
                continue
            lags = known.apart if lag.digest is None else known.behind
            lags[label] = lag.seen_s


def _under_way(ledger: Ledger, spec: MirrorSpec, but: Collection[str]) -> list[RunReport]:
    """Open runs about the mirror: what they wait for has moved at the source."""
    found = ledger.standings.open_runs().get(spec.mirror, ())
    return [run for run in found if run.run not in but and run.kind != "verify"]


def _take_ended(ledger: Ledger, covered: Sequence[Currency], run: RunReport) -> None:
    terms = ledger.spec(run.run)
    is_through = run.listed and not _OPEN & run.states.keys()
    for known in covered:
        if terms.is_whole:
            known.is_unsure = not is_through and (known.is_unsure or not known.is_known)
        if terms.is_whole and run.state == "done":
            known.is_known = True


def _take_open(
    ledger: Ledger,
    found: Mapping[str, Currency],
    covered: Sequence[Currency],
    run: RunReport,
    spec: MirrorSpec,
) -> None:
    reports = list(islice(ledger.tag_reports(run.run), MOST_TAGS))
    own = [one for one in reports if not spec.rest or one.rest == spec.rest]
    is_through = run.listed and len(reports) == run.tags and not any(one.state in _OPEN for one in own)
    if ledger.spec(run.run).is_whole and not is_through:
        for known in covered:
            known.is_unsure = known.is_unsure or not known.is_known  # else a run before was through with all
    _take_tags(found, run, own)


def _take_tags(found: Mapping[str, Currency], run: RunReport, reports: Iterable[TagReport]) -> None:
    """What the run did since, and, while it is under way, what it could not do yet."""
    for one in reports:
        for target in one.targets:
            known = found.get(target.repository) or found.get(above(target.repository, one.rest))
            if known is None or (one.digest is None and target.state != "held"):
                continue  # the source did not say what it is
            if target.state in THERE:
                known.is_known = True
                for lags in (known.behind, known.apart):
                    if lags.get(one.label, run.started_s) < run.started_s:
                        del lags[one.label]
            elif not run.ended and target.state in LACKING:
                known.behind[one.label] = run.started_s
            elif not run.ended and target.state == "held":
                known.apart[one.label] = run.started_s


def _take_verified(found: Mapping[str, Currency], run: RunReport, one: FoundReport, spec: MirrorSpec) -> None:
    for name, known in found.items():
        if spec.place_of(name) != one.repository:
            continue
        is_clean = not (one.wrong or one.unchecked or one.held)
        if run.ended and one.verified and is_clean:
            known.is_known, known.is_unsure = True, False
