"""``page``: the status page, written into a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from workers.cli import options
from workers.cli.exits import Exit, Stop
from workers.cli.fleets import engine
from workers.cli.session import Session
from workers.cli.text import counted


def page(
    context: typer.Context,
    *,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="The folder; it is made if it is not there.")
    ],
    json: options.Json = False,
) -> Exit:
    """Write the status page: how each mirror stands, for those who use the images.

    One HTML file without scripts, status.json and its schema, a badge for each mirror, and a feed of
    incidents. What is shown says the fleet file under page (docs/page.md). `sealift serve` shows the same.

    - `sealift page --out public`
    """
    from workers.page.files import write
    from workers.page.made import made
    from workers.page.render import INDEX, files

    session = Session.of(context)
    session.console.json = json
    session.check_fleet()
    if not session.fleet.mirrors:
        where = session.fleet.path if session.has_fleet_file else session.settings.fleet_file
        raise Stop(f"{where} has no mirrors to show", Exit.CONFIGURATION)
    if out.exists() and not out.is_dir():
        raise Stop(f"--out {out}: is a file; name a folder", Exit.CONFIGURATION)
    with engine(session, [], workers=False) as fleet:
        status = made(session.fleet, fleet.rt.ledger)
    try:
        written = write(out, files(status, session.fleet.page.url))
    except OSError as error:
        at = error.filename or out
        raise Stop(f"--out {out}: {at}: {error.strerror}; name a folder", Exit.CONFIGURATION) from error
    if json:
        states = {one.name: one.state for one in status.mirrors}
        session.console.document({"files": [str(path) for path in written], "mirrors": states})
    else:
        session.console.result(f"{out / INDEX}: {counted(len(status.mirrors), 'mirror')}")
    return Exit.DONE
