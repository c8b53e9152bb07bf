"""What a fleet's Python processes run: ``python -P -m workers.launch worker|beat|flower …``.

The ``celery`` command would do the same, but it imports every other command of Celery and Flower first,
which doubles a worker's start, and it looks for our modules in the current folder before it looks in
the installation.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable

# Celery imports task modules with the current folder on the path: these names are taken from here on.
import config
import mirror
import registry
import tasks

PINNED = (config, mirror, registry, tasks)


def worker(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="sealift worker")
    parser.add_argument("--region", required=True)
    parser.add_argument("--concurrency", type=int, required=True)
    parser.add_argument("--name", default="%h")
    options = parser.parse_args(arguments)
    from celery.exceptions import CPendingDeprecationWarning, SecurityWarning
    from celery.utils.nodenames import host_format

    from config.settings import Settings
    from tasks.canvas import CONTROL_QUEUE
    from workers.app import app

    # It warns of pickle, which a fleet never speaks: one may be root in a container.
    warnings.simplefilter("ignore", SecurityWarning)
    # And, whenever Redis was away, of a default that it may change: ours is chosen (tasks/configuration.py).
    warnings.simplefilter("ignore", CPendingDeprecationWarning)
    process = app.Worker(
        hostname=host_format(f"{options.region}@{options.name}"),
        queues=[options.region, CONTROL_QUEUE],
        concurrency=options.concurrency,
        loglevel=Settings().log_level,
        # Gossip fails on a Redis restart and mingling delays the start; the fleet uses neither.
        without_gossip=True,
        without_mingle=True,
        optimization="fair",
        quiet=True,
    )
    process.start()
    return int(process.exitcode or 0)


def beat(arguments: list[str]) -> int:
    argparse.ArgumentParser(prog="sealift beat").parse_args(arguments)

    from config.settings import Settings
    from workers.app import app

    app.Beat(loglevel=Settings().log_level, quiet=True).run()  # until the process is stopped
    return 0


def flower(arguments: list[str]) -> int:
    from workers.app import app

    app.start(["flower", *arguments])  # until the process is stopped


ROLES: dict[str, Callable[[list[str]], int]] = {"worker": worker, "beat": beat, "flower": flower}


def main() -> int:
    return ROLES[sys.argv[1]](sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
