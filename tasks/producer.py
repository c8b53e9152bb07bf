"""Starting, retrying and cancelling runs: what the command line, the schedule and webhooks call."""

from __future__ import annotations

from dataclasses import replace

from mirror.spec import Lane, MirrorSpec
from tasks import canvas
from tasks.runtime import Runtime


class NothingFailed(ValueError):
    """The run has no failed tag that could be tried again."""


def start(rt: Runtime, spec: MirrorSpec, lane: Lane = "release") -> str:
    """Write the run to the ledger, then send the message about it; returns its id."""
    run = rt.ledger.create_run(spec, lane)
    canvas.send_enumerate(rt.ledger, run)
    return run


def retry(rt: Runtime, run: str) -> str:
    """A new run of the tags that failed, or of the whole mirror where the run itself did; returns its id.

    Raises:
        UnknownRun: no such run.
        NothingFailed: it has no failed tag.
    """
    report, spec = rt.ledger.run_report(run), rt.ledger.spec(run)
    lane: Lane = rt.ledger.lane(run)
    if report.error:
        return start(rt, spec, lane)
    failed = {one.tag for one in rt.ledger.tag_reports(run) if one.state in {"failed", "cancelled"}}
    if not failed:
        raise NothingFailed(f"run {run} has no failed tag; `sealift sync` starts a new run of everything")
    refs = dict(spec.refs)
    return start(rt, replace(spec, refs=tuple((tag, refs.get(tag, tag)) for tag in sorted(failed))), lane)


def cancel(rt: Runtime, run: str) -> bool:
    """End the run: nothing further is started or flipped. False where it had ended; UnknownRun."""
    return rt.ledger.cancel_run(run)


def sweep(rt: Runtime, *, older_than_s: float | None = None) -> None:  # noqa: ARG001 - the app is set up by it
    """Send the sweeper, where no beat does; ``older_than_s`` 0 where all workers have just been started."""
    canvas.send_sweep(older_than_s)
