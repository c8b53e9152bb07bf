"""Enumerate: which tags a run is about, cut into batches while the source is being listed.

A list that can be read page by page is read only as far as there is room: the rest waits at the source and
not in Redis, however many tags there are.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil

from mirror.engine import Engine
from mirror.pages import COMPARED, portions
from mirror.plan import cut
from mirror.sources import enumerate_repositories
from mirror.telling import tell_run_failed, tell_wait
from mirror.waits import next_attempt
from registry.errors import RegistryError

NEVER_FULL = 10**9
SPREAD, LEAST_TAGS = 4, 4
"""Into how many batches a list is cut at least, if each still has so many tags."""


def enumerate_tags(
    engine: Engine, run: str, batch_tags: int, grown: Callable[[], None], most_waiting: int = NEVER_FULL
) -> None:
    """Write the run's batches to the ledger, page by page; ``grown`` is called after each.

    It stops once ``most_waiting`` batches wait for room in the window. The cursor is in the ledger: called
    again, it goes on where it stopped. A source in trouble that may pass parks the run; one that cannot be
    listed fails it with the reason. Nothing is raised for either.
    """
    try:
        _enumerate(engine, run, batch_tags, grown, most_waiting)
    except RegistryError as error:
        until = next_attempt(engine, run, error)
        engine.ledger.sources.pause_listing(run)
        if until is not None:
            engine.ledger.park(run, "open", until)
            tell_wait(run, str(error), until)
        elif engine.ledger.fail_run(run, str(error), type(error).__name__):
            spec = engine.ledger.spec(run)
            tell_run_failed(run, spec.name, spec.origin, error)


def _enumerate(
    engine: Engine, run: str, batch_tags: int, grown: Callable[[], None], most_waiting: int
) -> None:
    cursor, listed = engine.ledger.cursor(run)
    spec = engine.ledger.spec(run)
    if listed:
        grown()
        return
    if spec.has_many:
        enumerate_repositories(engine, run, batch_tags, grown, most_waiting)
        return
    for following, pairs, over in portions(engine, run, spec, cursor):
        batches = list(cut(pairs, _batch_size(len(pairs), batch_tags)))
        if over and spec.looks_for_extra:
            batches.append(COMPARED)
        if not engine.ledger.add_batches(run, cursor, following, batches, listed=over):
            return  # another enumeration of this run was faster, or the run has ended
        cursor = following
        grown()
        if not over and engine.ledger.sources.waiting_batches(run) >= most_waiting:
            engine.ledger.sources.pause_listing(run)
            return  # whoever makes room has it go on


def _batch_size(tags: int, most: int) -> int:
    """A short list is spread over several workers; one of a few tags is not worth a second message."""
    return most if tags < 2 * LEAST_TAGS else min(most, max(LEAST_TAGS, ceil(tags / SPREAD)))
