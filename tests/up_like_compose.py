"""``make up-like-compose``: the fleet of deploy/compose.yaml as plain processes, until Ctrl-C."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

from tests.support.ports import is_listening
from tests.support.scratch import scratch_folder
from tests.support.topology import Topology
from workers import processes

WORKERS_EACH = 2
LOOK_S = 0.5


def main() -> int:
    # Told to end, it ends what it started; one in the background may have been born deaf to Ctrl-C.
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, signal.default_int_handler)
    with scratch_folder("sealift-up-") as folder:
        try:
            scale = {"worker-eu": WORKERS_EACH, "worker-us": WORKERS_EACH}
            topology = Topology(folder, scale=scale, as_published=True)
        except processes.NoServer as error:
            return refuse(str(error))
        if problem := hindrance(topology):
            return refuse(problem)
        say(f"starting {len(topology.instances)} processes; logs: {folder}/*/log")
        try:
            with topology:
                describe(topology)
                stay(topology)
        except AssertionError as error:  # one that ended, or is not well in time: its log is in the text
            return refuse(str(error))
        except KeyboardInterrupt:
            say("stopped")
    return 0


def hindrance(topology: Topology) -> str:
    """Why it cannot start; empty if it can."""
    taken = [str(port) for port in sorted(topology.published) if is_listening(port)]
    if taken:
        return (
            f"something listens on {', '.join(taken)} already, which deploy/compose.yaml publishes: stop it"
        )
    return topology.missing


def describe(topology: Topology) -> None:
    seeded = topology.run("seed")
    source = "its source has an image" if not seeded.returncode else f"no image for it: {seeded.stderr}"
    account = topology.instances["flower-1"].environment["FLOWER_BASIC_AUTH"]
    settings = topology.instances["beat-1"].environment
    said = " ".join(f"{name}={settings[name]}" for name in ("SEALIFT_REDIS_URL", "SEALIFT_FLEET_FILE"))
    for line in (
        "The fleet of deploy/compose.yaml is up, as processes. Stop it with Ctrl-C.",
        f"  Flower      http://{topology.address('flower')}  ({account})",
        f"  metrics     http://{topology.address('exporter')}/metrics",
        f"  registries  {', '.join(topology.address(f'registry-{name}') for name in ('source', 'eu', 'us'))}",
        f"  schedule    mirror hello, at each full minute; {source}",
        "In another shell:",
        f"  export {said}",
        f"  {Path(sys.executable).parent / 'sealift'} schedules",
    ):
        say(line)


def stay(topology: Topology) -> None:
    """Until Ctrl-C; what ends meanwhile is started again, as the container engine would do it."""
    pause = threading.Event()
    while True:
        for line in topology.tend():
            say(line)
        pause.wait(LOOK_S)


def refuse(text: str) -> int:
    say(f"up-like-compose: {text}")
    return 1


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - a command line


if __name__ == "__main__":
    sys.exit(main())
