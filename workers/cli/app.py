"""The commands, put together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from workers.cli import (
    clients,
    configuring,
    deciding,
    demo,
    history,
    hooking,
    mirroring,
    moving,
    notifying,
    options,
    paging,
    probing,
    reporting,
    rewriting,
    rollback,
    runs,
    scheduling,
    serving,
    verifying,
    watching,
)
from workers.cli.exits import Exit
from workers.cli.release import release
from workers.cli.session import Session, take_options

app = typer.Typer(
    name="sealift",
    help="Keep container images identical in several registries.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_PANELS: dict[str, tuple[Callable[..., Exit], ...]] = {
    "Mirror": (mirroring.mirror, mirroring.sync, mirroring.backfill, mirroring.plan, verifying.verify),
    "Tags": (
        history.history,
        rollback.rollback,
        rollback.pins,
        rollback.unpin,
        deciding.conflicts,
        deciding.resolve,
    ),
    "Moving house": (moving.move, rewriting.rewrite),
    "Runs": (
        runs.runs,
        runs.status,
        runs.watch,
        runs.retry,
        runs.pause,
        runs.resume,
        runs.cancel,
        reporting.report,
        reporting.budget,
    ),
    "Fleet": (
        serving.worker,
        serving.beat,
        scheduling.schedules,
        notifying.events,
        probing.probe,
        clients.clients,
        watching.exporter,
        hooking.serve,
        paging.page,
        serving.flower,
        serving.up,
        serving.registry,
        demo.demo,
    ),
}
for _panel, _commands in _PANELS.items():
    for _command in _commands:
        app.command(rich_help_panel=_panel)(_command)
app.add_typer(notifying.notify, name="notify", rich_help_panel="Fleet")
app.add_typer(configuring.config, name="config", rich_help_panel="Fleet")


def print_version(wanted: bool) -> None:  # noqa: FBT001 -- Typer's protocol
    if wanted:
        print(f"sealift {release()}")  # noqa: T201 -- a command line prints
        raise typer.Exit


@app.callback()
def sealift(
    context: typer.Context,
    *,
    state_dir: options.StateDir = None,
    fleet_file: options.FleetFile = None,
    verbose: options.Verbose = False,
    show_version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Keep container images identical in several registries."""
    del show_version
    Session.of(context).verbose = verbose
    take_options(state_dir, fleet_file)
