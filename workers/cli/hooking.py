"""``serve``: webhooks and the status page, by HTTP."""

from __future__ import annotations

import re
from importlib import import_module
from typing import TYPE_CHECKING, Annotated

import typer

from workers.cli.exits import Exit, Stop
from workers.cli.serving import need_broker, refuse_wrong_broker
from workers.cli.session import Session

if TYPE_CHECKING:
    from tasks.runtime import Runtime
    from workers.serve.hooks import Hooks
    from workers.serve.pages import Pages

PATIENCE_S = 3.0
"""How long Redis may take to answer: senders give up after five or ten seconds."""
_BIND = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<v4>[^\[\]:]+)):(?P<port>[0-9]{1,5})")
_LAST_PORT = 65535


def serve(
    context: typer.Context,
    *,
    bind: Annotated[
        str, typer.Option("--bind", "-b", metavar="ADDRESS:PORT", help="Where to listen; port 0: a free one.")
    ] = "127.0.0.1:8080",
) -> Exit:
    """Take webhooks and show the status page until it is stopped.

    A tag that is pushed is mirrored at once: webhooks are at /hooks/NAME, as the fleet file has them under
    webhooks (docs/webhooks.md). The page is at / (docs/page.md). TLS is for what stands before it. /healthz
    says that it runs, /readyz that it can take deliveries.
    """
    from tasks.schedules import FleetFile
    from workers.logs import set_up_logging
    from workers.serve.application import application
    from workers.serve.hooks import Hooks
    from workers.serve.pages import routes
    from workers.serve.server import bound
    from workers.serve.server import serve as answer

    session = Session.of(context)
    host, port = _address(bind)
    session.check_fleet()
    _check_secrets(session)
    need_broker(session, "serve")
    refuse_wrong_broker(session)
    try:
        listener = bound(host, port)
    except OSError as error:
        raise Stop(f"cannot listen on {bind}: {error.strerror}", Exit.CONFIGURATION) from error
    set_up_logging(session.settings.log_level, session.settings.log_format)
    hooks = Hooks(FleetFile(session.settings), lambda: _composed(session))
    at = f"http://{bind.rpartition(':')[0]}:{listener.getsockname()[1]}"
    session.console.say(f"The page at {at}/, webhooks at {at}/hooks/NAME. Stop it with Ctrl-C.")
    if not session.fleet.webhooks:
        session.console.say(f"{session.fleet.path} has no webhooks: yet; they are looked for as it changes")
    try:
        answer(application(hooks, [*routes(_pages(session, hooks))]), listener)
    except KeyboardInterrupt:
        session.console.say("stopped")
    return Exit.DONE


def _pages(session: Session, hooks: Hooks) -> Pages:
    """By a fleet file of their own: reading one is not thread-safe, and one page is made at a time."""
    from tasks.schedules import FleetFile
    from workers.page.made import made
    from workers.page.render import files
    from workers.serve.hooks import AWAY
    from workers.serve.pages import Pages

    file = FleetFile(session.settings)

    def make() -> dict[str, bytes]:
        fleet = file.latest()
        return dict(files(made(fleet, hooks.runtime().ledger), fleet.page.url))

    return Pages(make, AWAY)


def _composed(session: Session) -> Runtime:
    from tasks.runtime import compose

    import_module("workers.app")  # producers send by the app that it sets up
    return compose(session.settings, PATIENCE_S)


def _address(bind: str) -> tuple[str, int]:
    found = _BIND.fullmatch(bind)
    if found is None or int(found["port"]) > _LAST_PORT:
        raise Stop(f"--bind {bind}: not an address; write ADDRESS:PORT, as 127.0.0.1:8080", Exit.USAGE)
    return found["v6"] or found["v4"], int(found["port"])


def _check_secrets(session: Session) -> None:
    """What a webhook's secret points at must be there, and be one. Raises FleetError."""
    from config.environment import check_environment
    from config.problems import FleetError

    lacking = [one for one in check_environment(session.fleet) if one.where[0] == "webhooks"]
    if lacking:
        raise FleetError(tuple(lacking))
