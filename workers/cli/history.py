"""``history``: where each tag of a mirror was moved, when, by which run and from what."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from heapq import nlargest
from typing import TYPE_CHECKING, Annotated

import typer

from registry.descriptor import abridged
from workers.cli import options
from workers.cli.exits import Exit, Stop
from workers.cli.fleets import engine
from workers.cli.mirroring import unknown
from workers.cli.session import Session
from workers.cli.text import listed, moment

if TYPE_CHECKING:
    from mirror.ledger import Ledger
    from mirror.ledger.history import Flip
    from mirror.spec import MirrorSpec


def history(
    context: typer.Context,
    *,
    mirror: options.OneMirror,
    tags: Annotated[list[str] | None, typer.Argument(metavar="TAG", help="Tags; none: all.")] = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", metavar="N", min=1, help="So many moves, the newest first.")
    ] = 20,
    json: options.Json = False,
) -> Exit:
    """Show when tags were moved, by which run, from what to what, and where.

    - `sealift history explorer 1.4`
    - `sealift history everything/web --limit 100` of one repository of a wildcard
    """
    session = Session.of(context)
    session.console.json = json
    is_known = own_spec(session, mirror) is not None
    flips: list[Flip] = []
    if not session.is_fresh:
        with engine(session, workers=False) as fleet:
            flips = nlargest(limit, _found(fleet.rt.ledger, mirror, tags or []), key=lambda one: one.at_s)
    if not flips and not is_known:
        raise Stop(unknown(mirror, [entry.name for entry in session.fleet.mirrors]), Exit.USAGE)
    if json:
        session.console.document({"mirror": mirror, "flips": [one.document() for one in flips]})
    elif flips:
        _show(session, flips)
    else:
        of_what = listed(tags, "or") if tags else "any tag"
        session.console.result(f"No move of {of_what} of {mirror} is remembered.")
    return Exit.DONE


def own_spec(session: Session, name: str) -> MirrorSpec | None:
    """The fleet file's mirror of that name, or ``MIRROR/REPOSITORY`` of a wildcard; None: it has no such.

    Stop where the name is a wildcard's alone: each of its repositories has a history of its own.
    """
    from mirror.spec import one_of
    from tasks.terms import spec_of

    own, _, rest = name.partition("/")
    for entry in session.fleet.mirrors:
        if entry.name == own:
            spec = spec_of(entry, session.fleet)
            if spec.is_wildcard == bool(rest):
                return one_of(spec, rest)
            if spec.is_wildcard:
                raise Stop(
                    f"{own} is many repositories: name one of them, as in {own}/REPOSITORY", Exit.USAGE
                )
    return None


def _found(ledger: Ledger, mirror: str, tags: Sequence[str]) -> Iterable[Flip]:
    if not tags:
        return ledger.history.all(mirror)
    return (one for flips in ledger.history.of(mirror, tags).values() for one in flips)


def _show(session: Session, flips: Iterable[Flip]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("WHEN", "TAG", "RUN", "FROM", "TO", "WHERE"):
        table.add_column(name, overflow="fold")
    for one in flips:
        for before, targets in _by_previous(one):
            table.add_row(
                moment(one.at_s),
                Text(one.tag),
                one.run,
                abridged(before, end="") if before else "-",
                abridged(one.to, end="") if one.to else "deleted",
                Text("\n".join(targets)),
            )
    session.console.table(table)


def _by_previous(flip: Flip) -> Iterator[tuple[str | None, list[str]]]:
    """What the tag was, and the targets where it was that: most often the same everywhere."""
    for digest in dict.fromkeys(flip.previous.values()):
        yield digest, [target for target, before in flip.previous.items() if before == digest]
