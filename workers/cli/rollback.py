"""``rollback``, ``pins`` and ``unpin``: tags go back, stay there if that is wanted, and are let go again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from registry.descriptor import abridged
from workers.cli import options
from workers.cli.exits import Exit, Stop
from workers.cli.fleets import Engine, engine
from workers.cli.history import own_spec
from workers.cli.lists import hosts_of
from workers.cli.mirroring import see_through, unknown
from workers.cli.session import Session
from workers.cli.text import listed, moment

if TYPE_CHECKING:
    from mirror.ledger import Ledger
    from mirror.ledger.history import Flip
    from mirror.ledger.pins import Pin
    from mirror.spec import MirrorSpec


def rollback(
    context: typer.Context,
    *,
    mirror: options.OneMirror,
    tags: Annotated[
        list[str] | None, typer.Argument(metavar="TAG", help="Tags; none, with --run: all that it moved.")
    ] = None,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="DIGEST", help="To this digest, or the start of one in the history."),
    ] = None,
    run: Annotated[
        str | None, typer.Option("--run", metavar="RUN", help="To what each tag was before that run.")
    ] = None,
    pin: Annotated[bool, typer.Option("--pin", help="And keep them there, whatever the source has.")] = False,
    no_wait: options.NoWait = False,
    timeout: options.Timeout = None,
    all_rows: options.All = False,
    json: options.Json = False,
) -> Exit:
    """Move tags back in every target, together: to what they were before their last move, unless said.

    The source is not asked: what a target has lost comes from another. A tag that is whole in none stays.

    - `sealift rollback explorer 1.4 --pin`
    - `sealift rollback explorer --run RUN` undoes what that run moved
    """
    session = Session.of(context)
    session.console.json = json
    own = _checked(session, mirror, tags or [], to or "", run or "")

    def start(fleet: Engine) -> list[str]:
        from mirror.rollback import rollback_of
        from tasks import producer

        flips = _flips(fleet.rt.ledger, mirror, tags or [], run or "")
        spec = own or _remembered(session, fleet.rt.ledger, mirror, flips)
        targets = [target.repository for target in spec.targets]
        digests = _digests(flips, targets, to or "", run or "")
        fleet.need(spec.regions, wait=not no_wait)
        return [producer.start(fleet.rt, rollback_of(spec, digests, pin=pin))]

    return see_through(session, (), start, wait=not no_wait, timeout_s=timeout, everything=all_rows)


def _checked(session: Session, mirror: str, tags: Sequence[str], to: str, run: str) -> MirrorSpec | None:
    """The fleet file's mirror, if it has it; Stop where nothing can be meant or was moved."""
    if to and run:
        raise Stop("--to and --run each say where to go back to: give one of them", Exit.USAGE)
    if not tags and not run:
        raise Stop("say which TAG, or --run RUN for all that it moved", Exit.USAGE)
    own = own_spec(session, mirror)
    if session.is_fresh:
        nothing = f"nothing has run on {session.state.path} yet"
        raise Stop(f"no move of {mirror} is remembered: {nothing}", Exit.USAGE)
    if own and not session.finds_fleet:
        session.check_fleet(hosts_of([own], None))
    return own


def pins(
    context: typer.Context,
    *,
    mirror: Annotated[
        str | None, typer.Argument(metavar="MIRROR", help="Only this one's; of a wildcard all below it.")
    ] = None,
    json: options.Json = False,
) -> Exit:
    """List pinned tags: where they stay, since when, and by which rollback."""
    session = Session.of(context)
    session.console.json = json
    found: list[Pin] = []
    if not session.is_fresh:
        with engine(session, workers=False) as fleet:
            found = sorted(fleet.rt.ledger.pins.all(), key=lambda one: (one.mirror, one.tag))
    if mirror:
        found = [one for one in found if mirror in {one.mirror, one.mirror.partition("/")[0]}]
    if json:
        session.console.document({"pins": [one.document() for one in found]})
    elif found:
        _show(session, found)
    else:
        session.console.result("No tag is pinned.")
    return Exit.DONE


def unpin(
    context: typer.Context,
    *,
    mirror: options.OneMirror,
    tags: Annotated[list[str], typer.Argument(metavar="TAG", help="Tags.")],
    json: options.Json = False,
) -> Exit:
    """Let pinned tags follow the source again, from the next run on."""
    session = Session.of(context)
    session.console.json = json
    dropped: list[str] = []
    if not session.is_fresh:
        with engine(session, workers=False) as fleet:
            dropped = fleet.rt.ledger.pins.drop(mirror, tags)
    if json:
        session.console.document({"mirror": mirror, "unpinned": dropped})
    elif dropped:
        session.console.result(f"{listed(dropped)} of {mirror} may move again, from the next run on.")
    else:
        session.console.result(f"Nothing to do: {listed(tags, 'or')} of {mirror} is not pinned.")
    return Exit.DONE


def _flips(ledger: Ledger, mirror: str, tags: Sequence[str], run: str) -> dict[str, list[Flip]]:
    """By tag, the newest first; without tags those that the run moved. Stop where that is nothing."""
    if tags:
        known = ledger.history.of(mirror, tags)
        return {tag: known.get(tag, []) for tag in tags}
    moved = [one.tag for one in ledger.history.all(mirror) if one.run == run]
    if not moved:
        raise Stop(f"no move by run {run} is remembered in the history of {mirror}", Exit.USAGE)
    return ledger.history.of(mirror, sorted(set(moved)))


def _digests(
    flips: Mapping[str, Sequence[Flip]], targets: Sequence[str], to: str, run: str
) -> dict[str, str]:
    """Where each tag goes; Stop, naming each that has no way back: then none goes."""
    from mirror.rollback import NoWayBack, digest_before, digest_named

    digests, faults = dict[str, str](), list[str]()
    for tag, own in flips.items():
        try:
            digests[tag] = digest_named(tag, own, to) if to else digest_before(tag, own, targets, run)
        except NoWayBack as fault:
            faults.append(str(fault))
    if faults:
        raise Stop("; ".join(faults), Exit.FAILED)
    return digests


def _remembered(
    session: Session, ledger: Ledger, mirror: str, flips: Mapping[str, Sequence[Flip]]
) -> MirrorSpec:
    """The terms of a mirror that the fleet file does not have: those of the run that moved its tags last."""
    from mirror.ledger import UnknownRun
    from mirror.spec import one_of

    last = max((one for own in flips.values() for one in own), key=lambda one: one.at_s, default=None)
    if last is None:
        raise Stop(unknown(mirror, [entry.name for entry in session.fleet.mirrors]), Exit.USAGE)
    try:
        spec = ledger.spec(last.run)
    except UnknownRun:
        reason = f"the fleet file has no mirror {mirror!r}, and its last run {last.run} is forgotten"
        raise Stop(f"{reason}: add the mirror", Exit.USAGE) from None
    return one_of(spec, mirror.removeprefix(f"{spec.name}/"))


def _show(session: Session, found: Sequence[Pin]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("MIRROR", "TAG", "PINNED AT", "SINCE", "BY"):
        table.add_column(name, overflow="fold")
    for one in found:
        table.add_row(
            Text(one.mirror),
            Text(one.tag),
            abridged(one.digest, end=""),
            moment(one.at_s),
            f"rollback {one.run}",
        )
    session.console.table(table)
