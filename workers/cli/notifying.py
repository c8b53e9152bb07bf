"""``notify`` and ``events``: who is told of what, whether that works, and what there was to tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from workers.cli import options
from workers.cli.exits import Exit, Stop
from workers.cli.fleets import engine
from workers.cli.session import Session
from workers.cli.text import counted, listed, moment

if TYPE_CHECKING:
    from config.notification import Receiver
    from mirror.ledger.receivers import Standing

notify = typer.Typer(help="Who is told of what happens: `notify test` tries it.", invoke_without_command=True)
Standings = dict[str, "Standing"]


def events(
    context: typer.Context,
    *,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, max=2000, help="So many.")] = 20,
    json: options.Json = False,
) -> Exit:
    """List what has happened lately that is worth telling, the newest first, and what to do next.

    - `sealift events --limit 50`
    """
    session = Session.of(context)
    session.console.json = json
    found = []
    if not session.is_fresh:
        with engine(session, workers=False) as fleet:
            found = fleet.rt.ledger.events.recent(limit)
    from mirror.notices import notices

    told = [(one, notices([one])[0]) for one in found]
    if json:
        documents = [{**one.document(), "notice": notice.document()} for one, notice in told]
        session.console.document({"events": documents})
        return Exit.DONE
    for one, notice in told:
        session.console.result(f"{moment(one.at_s)}  {notice.title}. {notice.sentence}")
        if notice.todo:
            session.console.result(f"    {notice.todo}")
    if not told:
        session.console.result("Nothing has happened that is worth telling.")
    return Exit.DONE


@notify.callback()
def receivers(context: typer.Context, *, json: options.Json = False) -> Exit | None:
    """List who is told of what happens, by the fleet file's `notify`, and whether they are reached."""
    if context.invoked_subcommand is not None:
        return None
    session = Session.of(context)
    session.console.json = json
    session.check_fleet()
    known: Standings = {}
    if not session.is_fresh and session.fleet.notify:
        with engine(session, workers=False) as fleet:
            known = fleet.rt.ledger.receivers.standings()
    if json:
        documents = [_document(one, known) for one in session.fleet.notify]
        session.console.document({"receivers": documents})
    elif not session.fleet.notify:
        session.console.result("Nobody is told: the fleet file has no `notify`.")
    else:
        _show(session, known)
    return Exit.DONE


@notify.command("test")
def trial(
    context: typer.Context,
    *,
    receiver: Annotated[
        str | None,
        typer.Argument(metavar="RECEIVER", help="A receiver's name; none: all.", show_default=False),
    ] = None,
    json: options.Json = False,
) -> Exit:
    """Send a message to each receiver, from this machine, and say what came of it.

    - `sealift notify test`
    - `sealift notify test team`
    """
    session = Session.of(context)
    session.console.json = json
    session.check_fleet()
    chosen = _chosen(session, receiver)
    from tasks.receivers import check

    for one in chosen:  # what is wrong with one of them is said before anybody is told anything
        check(session.fleet, one)
    faults = {one.name: _try(session, one) for one in chosen}
    if json:
        rows = [
            {"receiver": name, "sent": not fault, "error": fault or None} for name, fault in faults.items()
        ]
        session.console.document({"receivers": rows})
    else:
        for name, fault in faults.items():
            session.console.result(f"{name}: {f'not reached: {fault}' if fault else 'sent'}")
    return Exit.FAILED if any(faults.values()) else Exit.DONE


def _chosen(session: Session, name: str | None) -> list[Receiver]:
    found = [one for one in session.fleet.notify if name in {None, one.name}]
    if not found and name is None:
        raise Stop(
            "nobody is told of anything: the fleet file has no `notify`; docs/notifications.md shows one",
            Exit.CONFIGURATION,
        )
    if not found:
        names = listed([one.name for one in session.fleet.notify]) or "none"
        raise Stop(f"there is no receiver {name!r}; there is: {names}", Exit.USAGE)
    return found


def _try(session: Session, receiver: Receiver) -> str:
    """Why it did not arrive; empty if it did."""
    from mirror.notices import trial as message
    from tasks.receivers import NotReached, send

    try:
        send(session.fleet, receiver, message(receiver.name))
    except NotReached as error:
        return str(error)
    return ""


def _document(receiver: Receiver, known: Standings) -> dict[str, Any]:
    from tasks.receivers import shown

    standing = known.get(receiver.name)
    return {
        "receiver": receiver.name,
        "to": shown(receiver),
        "on": list(receiver.on),
        "mirrors": list(receiver.mirrors),
        "per_hour": receiver.per_hour,
        "standing": standing.document() if standing else None,
    }


def _show(session: Session, known: Standings) -> None:
    from rich.table import Table
    from rich.text import Text

    from tasks.receivers import shown

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("RECEIVER", "TO", "EVENTS", "MIRRORS", "STATE"):
        table.add_column(name, overflow="fold")
    for one in session.fleet.notify:
        on, mirrors = ", ".join(one.on) or "all", ", ".join(one.mirrors)
        table.add_row(Text(one.name), Text(shown(one)), on, Text(mirrors), Text(_state(known.get(one.name))))
    session.console.table(table)


def _state(standing: Standing | None) -> str:
    if standing is None:
        return "not told anything yet"
    if standing.failing_s:
        tries = counted(standing.tries, "attempt")
        return f"not reached since {moment(standing.failing_s)} ({tries}): {standing.error}"
    last = f"told last {moment(standing.sent[-1])}" if standing.sent else "well"
    return f"{last}; held back until {moment(standing.next_s)}" if standing.is_held else last
