"""Starting, retrying and cancelling runs: what the command line, the schedule and webhooks call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain, groupby
from typing import NamedTuple

from mirror.ledger.sources import Entry, Staged
from mirror.ledger.verified import MENDED
from mirror.report import RunReport, TagReport
from mirror.spec import Lane, MirrorSpec, name_of
from tasks import canvas
from tasks.runtime import Runtime

_NOTHING_FAILED = "run {} has no failed tag; `sealift sync` starts a new run of everything"


class NothingFailed(ValueError):
    """The run has no failed tag that could be tried again."""


class UnderWay(ValueError):
    """A plan cannot be begun: the same is being done already."""


class Started(NamedTuple):
    """A run that was asked for."""

    run: str
    is_new: bool
    """Else it was under way already, and has been joined."""


def start(
    rt: Runtime, spec: MirrorSpec, lane: Lane = "release", references: Iterable[Entry] | None = None
) -> str:
    """Write the run to the ledger, then send the message about it; returns its id.

    ``references``: what the run is about instead of all that the spec's source has.
    """
    spec, staged = _given(rt, spec, references)
    run = rt.ledger.create_run(spec, lane, staged)
    canvas.send_enumerate(rt.ledger, run)
    return run


def start_backfill(rt: Runtime, spec: MirrorSpec, references: Iterable[Entry] | None = None) -> Started:
    """The same in the backfill lane; one on the same terms that is still open is joined, not doubled.

    A message is sent for that one, too: whoever asked for it first may have died before sending any.
    """
    spec, staged = _given(rt, spec, references)
    run, is_new = rt.ledger.create_or_join_run(spec, "backfill", staged)
    canvas.send_enumerate(rt.ledger, run)
    return Started(run, is_new)


def _given(
    rt: Runtime, spec: MirrorSpec, references: Iterable[Entry] | None
) -> tuple[MirrorSpec, Staged | None]:
    if references is None:
        return spec, None
    staged = rt.ledger.sources.stage(references)
    return replace(spec, given=staged.digest), staged


def retry(rt: Runtime, run: str, *, failed_only: bool = False) -> str:
    """A new run of the tags that failed or were cancelled, in the same lane; returns its id.

    Where the run itself failed, of the whole mirror. ``failed_only``: of tags that failed, and no others.

    Raises:
        UnknownRun: no such run.
        NothingFailed: it has no such tag.
    """
    report, spec = rt.ledger.run_report(run), rt.ledger.spec(run)
    lane: Lane = rt.ledger.lane(run)
    wanted = {"failed"} if failed_only else {"failed", "cancelled"}
    if spec.has_many:
        return _retry_many(rt, report, spec, lane, wanted)
    if report.error and not failed_only:
        return start(rt, spec, lane)
    failed = {one.tag for one in rt.ledger.tag_reports(run) if one.state in wanted}
    if not failed:
        raise NothingFailed(_NOTHING_FAILED.format(run))
    return start(rt, _of_tags(spec, failed), lane)


def _of_tags(spec: MirrorSpec, tags: Iterable[str]) -> MirrorSpec:
    refs = dict(spec.refs)
    return replace(spec, refs=tuple((tag, refs.get(tag, tag)) for tag in sorted(tags)))


def repair(rt: Runtime, run: str) -> str:
    """A run that mends what a verifying run has found wrong, in the same lane; asked twice, the same one.

    Raises:
        UnknownRun: no such run.
        NothingFailed: nothing that a repair would mend.
    """
    spec, staged = _repair(rt, run)
    begun, _ = rt.ledger.create_or_join_run(spec, rt.ledger.lane(run), staged)
    canvas.send_enumerate(rt.ledger, begun)
    return begun


def repair_if_due(rt: Runtime, run: str) -> None:
    """Begin the repair that the end of a verifying run asked for; whoever else asks, it is begun once."""
    spec, owed = rt.ledger.spec(run), rt.ledger.beginnings
    is_asked = spec.verifies and spec.verification is not None and spec.verification.repairs
    if not is_asked or not owed.owes_repair(run):
        return
    try:
        spec, staged = _repair(rt, run)
    except NothingFailed:
        owed.no_repair(run)
        return
    if begun := owed.repair(run, spec, rt.ledger.lane(run), staged):
        canvas.send_enumerate(rt.ledger, begun)


def _repair(rt: Runtime, run: str) -> tuple[MirrorSpec, Staged | None]:
    """On what terms that is mended which a verifying run has found wrong. Raises NothingFailed."""
    spec = replace(rt.ledger.spec(run), kind="repair")
    wrong = (one for one in rt.ledger.tag_reports(run) if any(t.kind in MENDED for t in one.targets))
    first = next(wrong, None)
    if first is None:
        raise NothingFailed(f"run {run} has found nothing wrong")
    found = chain((first,), wrong)
    if spec.has_many:
        return _given(rt, replace(spec, given=""), _entries(spec, found))
    return _of_tags(spec, (one.tag for one in found)), None


def verify_again(rt: Runtime, run: str) -> str:
    """A run that verifies the tags of a run that repaired them."""
    spec, lane = replace(rt.ledger.spec(run), kind="verify"), rt.ledger.lane(run)
    if not spec.has_many:
        return start(rt, spec, lane)
    return start(rt, replace(spec, given=""), lane, _entries(spec, rt.ledger.tag_reports(run)))


def _retry_many(rt: Runtime, report: RunReport, spec: MirrorSpec, lane: Lane, states: set[str]) -> str:
    """The same of a run of many repositories, and of a list that was given what was not reached."""
    only_failed = "cancelled" not in states
    if report.error and not spec.given and not only_failed:
        return start(rt, spec, lane)
    left = rt.ledger.sources.left(report.run) if spec.given and not only_failed else iter(())
    again = chain(_in(spec, states, rt.ledger.tag_reports(report.run)), left)
    first = next(again, None)
    if first is None:
        raise NothingFailed(_NOTHING_FAILED.format(report.run))
    return start(rt, replace(spec, given=""), lane, chain((first,), again))


def _in(spec: MirrorSpec, states: set[str], tags: Iterable[TagReport]) -> Iterator[Entry]:
    """What ended so by its repository; of one that could not be listed all of it."""
    return _entries(spec, (one for one in tags if one.state in states))


def _entries(spec: MirrorSpec, tags: Iterable[TagReport]) -> Iterator[Entry]:
    def named(one: TagReport) -> str:
        return name_of(spec, one.rest) if spec.reads_targets else one.repository

    for repository, group in groupby(tags, key=named):
        refs = tuple((one.tag, one.ref) for one in group)
        yield Entry(repository, refs if all(tag for tag, _ in refs) else ())


def pause(rt: Runtime, run: str) -> bool:
    """Begin nothing further of the run until it is resumed; what is under way is finished.

    False where the run has ended or is paused already; UnknownRun.
    """
    return rt.ledger.pause_run(run, paused=True)


def resume(rt: Runtime, run: str) -> bool:
    """Let a run go on from where it is: what is concluded is neither listed nor looked at again.

    One that is planned begins, with the batches that it was planned with. True where it rested; UnknownRun.
    A message is sent in any case: the last one may be lost.

    Raises:
        UnderWay: another run on the same terms is open.
    """
    if rt.ledger.run_report(run).state == "planned":
        begun = rt.ledger.begin_planned(run)
        if begun != run:
            raise UnderWay(f"run {begun} is under way on the same terms: `sealift watch {begun}`")
        canvas.send_enumerate(rt.ledger, run)
        return True
    was_paused = rt.ledger.pause_run(run, paused=False)
    canvas.send_enumerate(rt.ledger, run)
    return was_paused


def cancel(rt: Runtime, run: str) -> bool:
    """End the run: nothing further is started or flipped. False where it had ended; UnknownRun."""
    return rt.ledger.cancel_run(run)


def sweep(rt: Runtime, *, older_than_s: float | None = None) -> None:  # noqa: ARG001 - the app is set up by it
    """Send the sweeper, where no beat does; ``older_than_s`` 0 where all workers have just been started."""
    canvas.send_sweep(older_than_s)
