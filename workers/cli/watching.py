"""``exporter``: what the fleet does, for Prometheus."""

from __future__ import annotations

from typing import Annotated

import typer

from workers.cli.exits import Exit, Stop
from workers.cli.serving import need_broker, refuse_wrong_broker
from workers.cli.session import Session


def exporter(
    context: typer.Context,
    *,
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="Address to listen on.")] = "0.0.0.0",  # noqa: S104 -- scraped from elsewhere; it shows counters and no secret
    port: Annotated[
        int, typer.Option("--port", "-p", metavar="PORT", min=0, max=65535, help="0: a free one.")
    ] = 9540,
) -> Exit:
    """Show the fleet's counters to Prometheus at /metrics until it is stopped.

    /healthz answers as long as it runs. While Redis is away a scrape says so: sealift_redis_up is 0.
    """
    from tasks.runtime import compose
    from workers.cli.release import release
    from workers.exporter import Ledgers, serving
    from workers.logs import set_up_logging

    session = Session.of(context)
    session.check_fleet()
    need_broker(session, "the exporter")
    refuse_wrong_broker(session)
    try:
        server = serving(host, port, Ledgers(lambda: compose(session.settings, PATIENCE_S), release()))
    except OSError as error:
        raise Stop(f"cannot listen on {host}:{port}: {error.strerror}", Exit.CONFIGURATION) from error
    set_up_logging(session.settings.log_level, session.settings.log_format)
    session.console.say(f"Metrics at http://{host}:{server.server_port}/metrics. Stop it with Ctrl-C.")
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        session.console.say("stopped")
    finally:
        server.server_close()
    return Exit.DONE


PATIENCE_S = 3.0
"""How long Redis may take to answer: Prometheus gives up on a scrape after ten seconds."""
