"""Making plans from a command: with whatever fleet's ledger there is, or one of its own for the moment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

from mirror.spec import Lane, MirrorSpec
from workers.cli.console import Console
from workers.cli.exits import Exit
from workers.cli.fleets import engine
from workers.cli.lists import References, hosts_of
from workers.cli.progress import LINE_INTERVAL_S
from workers.cli.session import Session
from workers.cli.text import counted


def plan_all(
    session: Session,
    specs: Sequence[MirrorSpec],
    lane: Lane,
    *,
    keeps: bool = False,
    reads: bool = True,
    everything: bool,
    references: References | None = None,
) -> Exit:
    """Plan a run of each and show what it would do; ``keeps``: so that it can be begun.

    ``references``: what they are about instead of all that their sources have.
    """
    from workers.cli.plans import show_plans

    session.check_fleet(hosts_of(specs, references))
    entries = references.entries if references else lambda: None
    with _place(session, keeps=keeps) as place, engine(place, workers=False) as fleet:
        from tasks.planner import planning

        with planning(fleet.rt, keeps=keeps, reads=reads, heard=_Teller(session.console)) as plans:
            forecasts = [plans.forecast(spec, lane, entries()) for spec in specs]
    return show_plans(session.console, forecasts, everything=everything)


@contextmanager
def _place(session: Session, *, keeps: bool) -> Iterator[Session]:
    """Where nothing was ever run, a plan that is not kept leaves nothing."""
    if keeps or not session.is_fresh:
        yield session
        return
    from workers.state import StateFolder

    with TemporaryDirectory(prefix="sealift-plan-") as folder:
        apart = replace(session)
        apart.state = StateFolder(Path(folder))
        yield apart


class _Teller:
    """Says how far a plan is, where it takes long."""

    def __init__(self, console: Console) -> None:
        self._console, self._at = console, monotonic()

    def __call__(self, mirror: str, done: int, tags: int) -> None:
        if monotonic() - self._at >= LINE_INTERVAL_S:
            self._at = monotonic()
            self._console.say(f"{mirror}: {done:,} of {counted(tags, 'tag')} looked at")
