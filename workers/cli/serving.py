"""``worker``, ``beat``, ``flower``, ``up`` and ``registry``: what stays until it is stopped."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Annotated

import typer

from mirror.spec import DEFAULT_REGION
from workers.cli.exits import Exit, Stop
from workers.cli.session import Session
from workers.cli.specs import check_region
from workers.cli.text import counted, listed

if TYPE_CHECKING:
    from workers.embedded import EmbeddedFleet
    from workers.supervisor import Child, Death, Supervisor

FLOWER_FIRST_PORT = 5555
STOP_GRACE_S = 10.0
BROKER_PATIENCE_S = 3.0
_WORKER_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")


def worker(
    context: typer.Context,
    *,
    region: Annotated[
        str, typer.Option("--region", "-r", metavar="REGION", help="The region whose targets it writes.")
    ],
    concurrency: Annotated[
        int | None,
        typer.Option(
            "--concurrency", "-c", metavar="N", min=1, help="Processes; one for each core unless said."
        ),
    ] = None,
    name: Annotated[
        str,
        typer.Option(
            "--name",
            metavar="NAME",
            help="Instead of the machine's name, where several workers of a region share the machine.",
        ),
    ] = "",
) -> Exit:
    """Run one worker of a region until it is stopped.

    SIGTERM lets it finish what it can within SEALIFT_SOFT_SHUTDOWN_S; what it cannot goes to another.
    """
    from workers import processes
    from workers.embedded import processes_per_worker

    session = Session.of(context)
    check_region(region)
    _check_name(name)
    session.check_fleet()  # a region's workers need no other region's accounts
    need_broker(session, "a worker")
    share = concurrency or session.settings.worker_processes or processes_per_worker(1)
    command = processes.worker(region, share, name)
    _clear_heartbeat(session)
    os.execve(command[0], command, {**os.environ, **processes.worker_environment(region)})  # noqa: S606 -- ours


def beat(context: typer.Context) -> Exit:
    """Run the scheduler until it is stopped: mirrors' schedules, and the sweeper.

    Run two of them, on two machines: one sends, and the other takes its place when it is gone.
    """
    from workers import processes

    session = Session.of(context)
    session.check_fleet()
    need_broker(session, "beat")
    command = processes.beat()
    _clear_heartbeat(session)
    os.execv(command[0], command)  # noqa: S606 -- ours


def up(
    context: typer.Context,
    *,
    region: Annotated[
        list[str] | None,
        typer.Option("--region", "-r", metavar="REGION", help="Besides those of the fleet file. Repeatable."),
    ] = None,
    flower_port: Annotated[
        int | None,
        typer.Option(
            "--flower-port", metavar="PORT", min=0, max=65535, help="0: no Flower; a free port unless said."
        ),
    ] = None,
) -> Exit:
    """Run a whole fleet on this machine until Ctrl-C.

    A server (unless there is a Redis URL), a worker for each region, the scheduler, and Flower if it is
    installed. Commands in other shells join it.
    """
    session = Session.of(context)
    regions = _regions(session, region or [])
    session.check_fleet(session.hosts)
    deaths: SimpleQueue[Death] = SimpleQueue()
    from workers.embedded import EmbeddedFleet

    with EmbeddedFleet(session.state, deaths.put) as fleet:
        port = _flower_port(flower_port)
        if session.is_external:
            _serve_external(session, fleet.supervisor, regions)
        else:
            _serve_embedded(session, fleet, regions)
        fleet.supervisor.start(*_helpers(session, port))
        _announce(session, regions, port)
        _stay(session, deaths)
    session.console.say("stopped")
    return Exit.DONE


def flower(
    context: typer.Context,
    *,
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="Address to listen on.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", "-p", metavar="PORT", min=1, max=65535, help="Port to listen on.")
    ] = FLOWER_FIRST_PORT,
) -> Exit:
    """Run Flower: tasks by their titles, how far each is, and why tags failed.

    Who may look is said in the environment: FLOWER_BASIC_AUTH=USER:PASSWORD. Its other options, too, are
    FLOWER_ variables.
    """
    from workers import processes

    session = Session.of(context)
    _need_flower()
    _check_flower_access(host, os.environ)
    _check_port(host, port)
    need_broker(session, "Flower")
    refuse_wrong_broker(session)
    command = processes.flower(port, host)
    os.execv(command[0], command)  # noqa: S606 -- ours


def registry(
    context: typer.Context,
    *,
    port: Annotated[
        int, typer.Option("--port", "-p", metavar="PORT", min=0, max=65535, help="0: a free one.")
    ] = 5000,
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="Address to listen on.")
    ] = "127.0.0.1",
) -> Exit:
    """Run a registry that keeps everything in memory: for trials, gone when it ends."""
    from registry.memory import MemoryRegistry

    session = Session.of(context)
    server = MemoryRegistry(port=port, host=host)
    try:
        server.bind()
    except OSError as error:
        raise Stop(f"cannot listen on {host}:{port}: {error.strerror}", Exit.CONFIGURATION) from error
    session.console.say(f"A registry in memory at {server.host}. Stop it with Ctrl-C.")
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        session.console.say("stopped")
    return Exit.DONE


def need_broker(session: Session, who: str) -> None:
    """A Redis for one process: its own settings', else that of an ``up`` on the same state folder."""
    if session.is_external:
        return
    card = session.state.joinable()
    if card is None:
        raise Stop(
            f"{who} needs the Redis of its fleet: set SEALIFT_REDIS_URL, "
            "or start `sealift up` in another shell",
            Exit.CONFIGURATION,
        )
    session.join(card.url)


def _clear_heartbeat(session: Session) -> None:
    """What a process before this one said: its file may outlive a container, and nobody has started yet."""
    if session.settings.heartbeat_file:
        with suppress(OSError):
            session.settings.heartbeat_file.unlink(missing_ok=True)


def _check_port(host: str, port: int) -> None:
    """That it is free: Flower would end with a traceback."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise Stop(f"cannot listen on {host}:{port}: {error.strerror}", Exit.CONFIGURATION) from error


def _check_name(name: str) -> None:
    if name and not _WORKER_NAME.fullmatch(name):
        raise Stop(
            f"--name {name!r} is not a worker's name (letters, digits, and '.', '-', '_' between them)",
            Exit.USAGE,
        )


def refuse_wrong_broker(session: Session) -> None:
    """WrongBroker; one that is away may come back."""
    from tasks.broker import check
    from tasks.runtime import redis_url

    check(redis_url(session.settings, session.fleet), BROKER_PATIENCE_S)


def _need_flower() -> None:
    from workers import processes

    if not processes.has_flower():
        raise Stop("Flower is not installed: pip install 'sealift[flower]'", Exit.CONFIGURATION)


def _check_flower_access(host: str, environ: Mapping[str, str]) -> None:
    """Whoever sees Flower can stop workers and tasks: only this machine may without a password."""
    accounts = environ.get("FLOWER_BASIC_AUTH", "")
    if accounts and not all(all(one.partition(":")[::2]) for one in accounts.split(",")):
        raise Stop(
            "FLOWER_BASIC_AUTH is malformed: write USER:PASSWORD, several divided by commas",
            Exit.CONFIGURATION,
        )
    if accounts or environ.get("FLOWER_AUTH"):
        return
    try:
        is_own = host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        is_own = False
    if not is_own:
        raise Stop(
            f"Flower on {host} would let anybody stop workers: set FLOWER_BASIC_AUTH=USER:PASSWORD, "
            "or leave --host away",
            Exit.CONFIGURATION,
        )


def _regions(session: Session, extra: Sequence[str]) -> list[str]:
    named = [target.region for mirror in session.fleet.mirrors for target in mirror.targets]
    return list(dict.fromkeys([*named, *(check_region(name) for name in extra)])) or [DEFAULT_REGION]


def _serve_embedded(session: Session, fleet: EmbeddedFleet, regions: list[str]) -> None:
    if card := session.state.joinable():
        raise Stop(f"a fleet is up already on {session.state.path} (process {card.pid})", Exit.CONFIGURATION)
    fleet.open()
    os.environ["SEALIFT_REDIS_URL"] = fleet.url
    fleet.serve(regions, session.settings.worker_processes)
    fleet.announce(shared=True)
    fleet.await_server()


def _serve_external(session: Session, supervisor: Supervisor, regions: list[str]) -> None:
    from workers.embedded import processes_per_worker, worker_child

    share = session.settings.worker_processes or processes_per_worker(len(regions))
    supervisor.start(*(worker_child(region, share, _log(session, f"worker-{region}")) for region in regions))


def _helpers(session: Session, flower_port: int) -> list[Child]:
    """The scheduler, which also sweeps, what commands are forked from, and Flower."""
    from workers import processes
    from workers.server import standby_path
    from workers.supervisor import Child

    standby = processes.standby(standby_path(session.state.path))
    helpers = [
        Child("beat", tuple(processes.beat()), _log(session, "beat")),
        Child("standby", tuple(standby), _log(session, "standby")),
    ]
    if flower_port:
        helpers.append(Child("flower", tuple(processes.flower(flower_port)), _log(session, "flower")))
    return helpers


def _log(session: Session, name: str) -> Path:
    return session.state.logs / f"{name}.log"


def _announce(session: Session, regions: list[str], flower_port: int) -> None:
    scheduled = sum(mirror.schedule is not None for mirror in session.fleet.mirrors)
    where = (
        "the Redis that is configured" if session.is_external else f"embedded, data in {session.state.path}"
    )
    flower = f"http://127.0.0.1:{flower_port}" if flower_port else "off (pip install 'sealift[flower]')"
    lines = (
        "The fleet is up. Stop it with Ctrl-C.",
        f"  server    {where}",
        f"  workers   {listed(regions)}",
        f"  schedule  {counted(scheduled, 'mirror')} of the fleet file"
        + ("" if scheduled else ": none has one"),
        f"  Flower    {flower}",
        f"  logs      {session.state.logs}",
        "In another shell: sealift mirror …, sealift sync, sealift runs",
    )
    for line in lines:
        session.console.say(line)


def _stay(session: Session, deaths: SimpleQueue[Death]) -> None:
    """Until Ctrl-C or SIGTERM; says when something had to be started again."""
    try:
        while True:
            try:
                death = deaths.get(timeout=3600)
            except Empty:
                continue
            session.console.say(f"{death}; starting it again")
    except KeyboardInterrupt:
        session.console.say("stopping")


def _flower_port(wanted: int | None) -> int:
    """The port to give Flower; 0 where there is to be none."""
    from workers import processes

    if wanted == 0 or (wanted is None and not processes.has_flower()):
        return 0
    _need_flower()
    if wanted is not None:
        return wanted
    for port in (FLOWER_FIRST_PORT, 0):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    return 0
