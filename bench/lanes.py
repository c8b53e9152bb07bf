"""``python -m bench.lanes``: how long a release copy takes while the queue is full of a backfill's batches.

The same copy of one image, into a repository of its own each time, on an idle fleet and behind a backfill
of so many batches of one tag, all of which are messages in the region's queue.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from bench.rig import UNDISTURBED
from bench.servers import Server
from bench.sets import Tagged, push_all
from mirror.spec import MirrorSpec, Target
from registry.connections import Connections
from registry.credentials import ChainedCredentials
from registry.endpoint import Endpoint
from registry.images import build_image, random_layer
from tasks.canvas import PRIORITY
from tests.support.fleet import PREFIX, Fleet, made
from tests.support.scratch import scratch_folder
from tests.support.waiting import until

REGION = "us"
POLL_S = 0.002
FILL_TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True)
class Took:
    """One release copy, in seconds since it was asked for."""

    begun_s: float
    """Its tag's digest is known: a worker has asked the source."""
    ended_s: float


def main(words: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(words)
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder("sealift-bench-"))
        source, target = (stack.enter_context(Server(folder / name)) for name in ("source", "target"))
        _fill(source.host, 2 * options.waiting, 2 * options.rounds + 1, options.layer_mib * 2**20)
        settings = {
            **UNDISTURBED,
            "SEALIFT_BATCH_TAGS": "1",
            "SEALIFT_WINDOW_BATCHES": str(2 * options.waiting),
        }
        fleet = Fleet(made(folder / "fleet"), [REGION], settings, options.processes)
        stack.enter_context(fleet)
        for line in _measured(fleet, source.host, target.host, options):
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()
    return 0


def _measured(fleet: Fleet, source: str, target: str, options: argparse.Namespace) -> Iterator[str]:
    rounds, numbers = options.rounds, iter(range(2 * options.rounds + 1))
    _release(fleet, source, target, next(numbers))  # the first one finds workers that have imported nothing
    yield "fleet   waiting batches  begun s (worst)  done s (worst)"
    idle = [_release(fleet, source, target, next(numbers)) for _ in range(rounds)]
    yield _row("idle", 0, idle)
    fleet.start_run(_spec(source, target, "backfill/app"), "backfill")
    until(lambda: _waiting(fleet) >= options.waiting, FILL_TIMEOUT_S, fleet.logs, interval_s=0.2)
    waiting = _waiting(fleet)
    busy = [_release(fleet, source, target, next(numbers)) for _ in range(rounds)]
    yield _row("busy", waiting, busy)


def _row(name: str, waiting: int, took: Sequence[Took]) -> str:
    begun, ended = ([getattr(one, field) for one in took] for field in ("begun_s", "ended_s"))
    return (
        f"{name:7} {waiting:15} {statistics.median(begun):8.2f} ({max(begun):.2f}) "
        f"{statistics.median(ended):8.2f} ({max(ended):.2f})"
    )


def _release(fleet: Fleet, source: str, target: str, number: int) -> Took:
    began = time.monotonic()
    run = fleet.start_run(_spec(source, target, f"release/app-{number}"))
    begun = 0.0
    while not (report := fleet.ledger.run_report(run)).ended:
        if (
            not begun
            and report.tags
            and fleet.ledger.batches.state(f"{run}.0") not in {"queued", "resolving"}
        ):
            begun = time.monotonic() - began
        time.sleep(POLL_S)
    if report.state != "done":
        raise RuntimeError(f"{report}\n{fleet.logs()}")
    ended = time.monotonic() - began
    return Took(begun or ended, ended)


def _waiting(fleet: Fleet) -> int:
    with fleet.valkey.client() as client:
        return int(client.llen(f"{PREFIX}{REGION}:{PRIORITY['backfill']}"))


def _spec(source: str, target: str, name: str) -> MirrorSpec:
    targets = (Target(f"{target}/{name}", REGION),)
    return MirrorSpec(name.replace("/", "-"), f"{source}/{name}", targets, referrers=False)


def _fill(host: str, tags: int, releases: int, layer_bytes: int) -> None:
    image = build_image({}, layers=[random_layer(2**20, seed=1)])
    tagged = [Tagged("backfill/app", f"1.{number}", image) for number in range(tags)]
    for number in range(releases):
        own = build_image({}, layers=[random_layer(layer_bytes, seed=2 + number)])
        tagged.append(Tagged(f"release/app-{number}", "2.0", own))
    connections = Connections(lambda name: Endpoint(name, plain_http=True), ChainedCredentials(()))
    push_all(tagged, {one.repository: connections.open(f"{host}/{one.repository}") for one in tagged})
    connections.close()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.lanes", description=__doc__)
    parser.add_argument(
        "--waiting", type=int, default=10_000, help="batches, of twice as many (default: 10000)"
    )
    parser.add_argument("--rounds", type=int, default=5, help="release copies, each way (default: 5)")
    parser.add_argument("--processes", type=int, default=2, help="of the worker (default: 2)")
    parser.add_argument("--layer-mib", type=int, default=16, help="of a release copy (default: 16)")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
