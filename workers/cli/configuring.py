"""``config check``, ``show`` and ``schema``: the fleet file and the environment, before anything runs."""

from __future__ import annotations

import json as jsonlib
from typing import Any

import typer

from workers.cli import options
from workers.cli.exits import Exit, Stop
from workers.cli.session import Session
from workers.cli.text import counted, listed

config = typer.Typer(help="Check and show the configuration.", no_args_is_help=True)


@config.command()
def check(context: typer.Context, *, json: options.Json = False) -> Exit:
    """Check the fleet file and what it takes from the environment; talks to no registry."""
    from config.problems import FleetError

    session = Session.of(context)
    session.console.json = json
    problems: list[str] = []
    try:
        _check(session)
    except FleetError as error:
        problems = str(error).splitlines()
    if json:
        code = Exit.CONFIGURATION if problems else Exit.DONE
        session.console.document({"exit_code": int(code), "problems": problems})
        return code
    if problems:
        raise Stop("\n".join(problems), Exit.CONFIGURATION)
    mirrors = session.fleet.mirrors
    regions = list(dict.fromkeys(target.region for mirror in mirrors for target in mirror.targets))
    session.console.result(
        f"{session.settings.fleet_file}: {counted(len(mirrors), 'mirror')}, "
        f"{counted(len(regions), 'region')}{': ' + listed(regions) if regions else ''}. No problems."
    )
    return Exit.DONE


@config.command()
def show(context: typer.Context, *, json: options.Json = False) -> Exit:
    """Show every setting and the fleet file as they are understood; secrets are masked."""
    session = Session.of(context)
    session.console.json = json
    settings: dict[str, Any] = session.settings.model_dump(mode="json")
    fleet: dict[str, Any] = session.fleet.model_dump(mode="json")
    if json:
        session.console.document({"settings": settings, "fleet": fleet})
        return Exit.DONE
    import yaml

    for name, value in settings.items():
        shown = "" if value is None else value
        session.console.result(f"SEALIFT_{name.upper()}={shown}")
    session.console.result()
    session.console.result(
        f"# {session.settings.fleet_file}{'' if session.has_fleet_file else ' (not there)'}"
    )
    session.console.result(yaml.safe_dump(fleet, sort_keys=False, allow_unicode=True).rstrip())
    return Exit.DONE


@config.command()
def schema(context: typer.Context) -> Exit:
    """Print the fleet file's JSON Schema, for editors."""
    from config.fleet import fleet_schema

    Session.of(context).console.result(jsonlib.dumps(fleet_schema(), indent=2))
    return Exit.DONE


def _check(session: Session) -> None:
    from config.environment import check_environment
    from config.fleet import load_fleet
    from config.problems import FleetError
    from tasks.terms import check_fleet

    fleet = load_fleet(session.settings.fleet_file)
    check_fleet(fleet)
    if problems := check_environment(fleet):
        raise FleetError(tuple(problems))
