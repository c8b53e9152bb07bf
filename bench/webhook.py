"""``python -m bench.webhook``: from a push to both targets; ``--load``: many deliveries, one process.

The first copies images into a real registry, which tells of it, and waits until both targets have them. The
second sends so many deliveries a second for so long, whatever the answers take (no delivery waits for
another's answer), and then looks whether every tag that was pushed is in the target as it was pushed last.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from uuid import uuid4

from registry.images import Image, build_image
from tests.support import skopeo
from tests.support.fleet import Fleet, made
from tests.support.ports import LOOPBACK, free_fixed_port
from tests.support.process import Process
from tests.support.pushing import ask, push
from tests.support.registries import DockerRegistry, RegistryOptions
from tests.support.scratch import scratch_folder
from tests.support.waiting import until

SECRET = "told-by-nobody-else"
FILE = """\
webhooks:
  - {{name: source, kind: distribution, registry: "{source}", secret: env:HOOK_SECRET}}
mirrors:
  - name: app
    source: {source}/app
    targets: [{{region: us, repository: {us}/app}}, {{region: eu, repository: {eu}/app}}]
"""
REGIONS = ("us", "eu")
PATIENCE_S = 120.0
ELSEWHERE = 10
"""The niceness of workers and registries: on a fleet they are on other machines than what serves."""
CONNECTIONS = 64
"""Of all senders together."""
MOVES_EVERY = 20
"""One in so many deliveries of the load is about a tag that has really moved."""


@dataclass
class World:
    fleet: Fleet
    serve: Process
    port: int
    registries: dict[str, DockerRegistry]

    @classmethod
    def built(cls, stack: ExitStack, *, tells: bool) -> World:
        folder, port = stack.enter_context(scratch_folder("sealift-bench-")), free_fixed_port()
        told = RegistryOptions(tells=(f"http://{LOOPBACK}:{port}/hooks/source", f"Bearer {SECRET}"))
        registries = {
            name: stack.enter_context(
                DockerRegistry(made(folder / name), told if tells and name == "source" else None)
            )
            for name in ("source", *REGIONS)
        }
        file = made(folder / "fleet") / "sealift.yaml"
        file.write_text(FILE.format(**{name: one.host for name, one in registries.items()}))
        fleet = stack.enter_context(Fleet(folder / "fleet", REGIONS, {"HOOK_SECRET": SECRET}))
        for process in (*fleet.workers.values(), *(one.process for one in registries.values())):
            os.setpriority(os.PRIO_PGRP, process.pid, ELSEWHERE)
        return cls(fleet, fleet.serve(port), port, registries)

    def has(self, tag: str, digest: str) -> bool:
        """Whether both targets do."""
        return all(self._at(name, tag) == digest for name in REGIONS)

    def _at(self, name: str, tag: str) -> str:
        found = ask(self.registries[name].host, "HEAD", f"/v2/app/manifests/{tag}")
        return found.headers.get("Docker-Content-Digest", "")


def main(words: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(words)
    with ExitStack() as stack:
        world = World.built(stack, tells=not options.load)
        lines = (
            _load(world, options.rate, options.seconds, options.tags)
            if options.load
            else _way(world, options.pushes, options.mib)
        )
        for line in lines:
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()
    return 0


def _way(world: World, pushes: int, mib: int) -> Iterator[str]:
    source = world.registries["source"].host
    after_s, all_s = list[float](), list[float]()
    for number in range(pushes):
        image = build_image({"data": os.urandom(mib * 2**20)})
        push(f"{source}/elsewhere", image, "latest")
        began = time.monotonic()
        skopeo.copy(f"{source}/elsewhere:latest", f"{source}/app:v{number}")
        pushed = time.monotonic()
        until(
            partial(world.has, f"v{number}", image.digest),
            PATIENCE_S,
            world.fleet.logs,
            interval_s=0.01,
        )
        after_s.append(time.monotonic() - pushed)
        all_s.append(time.monotonic() - began)
    yield f"{pushes} images of {mib} MiB, each pushed with skopeo copy, to two targets in two regions"
    yield f"from the end of the push until both have it:  {_spread(after_s)}"
    yield f"from the start of the push:                   {_spread(all_s)}"


def _spread(seconds: list[float]) -> str:
    return f"median {statistics.median(seconds):.2f} s, longest {max(seconds):.2f} s"


@dataclass
class Load:
    """What one client has seen, in one thread: several would measure how they wait for each other."""

    port: int
    took_s: list[float] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)
    room: asyncio.Semaphore = field(default_factory=partial(asyncio.Semaphore, CONNECTIONS))
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = field(default_factory=list)

    async def send(self, body: bytes) -> None:
        """What it waits for one of the connections counts, too."""
        began = time.monotonic()
        async with self.room:
            await self._send(body, began)

    async def _send(self, body: bytes, began: float) -> None:
        reader, writer = self.idle.pop() if self.idle else await asyncio.open_connection(LOOPBACK, self.port)
        head = (
            f"POST /hooks/source HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {SECRET}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        answer = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = int(answer.lower().partition("content-length: ")[2].partition("\r\n")[0] or 0)
        text = (await reader.readexactly(length)).decode()
        self.took_s.append(time.monotonic() - began)
        self.idle.append((reader, writer))
        self.answers[f"{answer.split()[1]} {text.strip().rpartition(' ')[2]}".strip()] += 1

    async def move(self, place: str, tag: str, image: Image, pushers: ThreadPoolExecutor) -> None:
        """The tag moves at the source, and then that is told."""
        host, _, name = place.partition("/")
        manifest, path = image.manifest, f"/v2/{name}/manifests/{tag}"
        words = (host, "PUT", path, manifest.content, manifest.media_type)
        await asyncio.get_running_loop().run_in_executor(pushers, ask, *words)
        await self.send(_told(tag, manifest.digest))


def _load(world: World, rate: int, seconds: int, tags: int) -> Iterator[str]:
    source, load = world.registries["source"].host, Load(world.port)
    latest = {f"v{number}": build_image({"n": b"0"}).digest for number in range(tags)}
    for tag in latest:
        push(f"{source}/app", build_image({"n": b"0"}), tag)
    images = [build_image({"n": os.urandom(8)}) for _ in range(rate * seconds // MOVES_EVERY)]
    for image in images:
        push(f"{source}/app", image)
    memory, cpu_s = [_rss_mib(world.serve)], _cpu_s(world.serve)
    begin = time.monotonic() + 1.0
    asyncio.run(_send(load, world, memory, latest, images, rate, begin))
    sent_s, cpu_s = time.monotonic() - begin, _cpu_s(world.serve) - cpu_s
    until(lambda: all(world.has(tag, digest) for tag, digest in latest.items()), PATIENCE_S, world.fleet.logs)
    until(lambda: all(one.ended for one in world.fleet.ledger.runs()), PATIENCE_S, world.fleet.logs)
    took = sorted(load.took_s)
    yield f"{len(took)} deliveries in {sent_s:.0f} s ({len(took) / sent_s:.0f} a second), {tags} tags"
    yield f"answers: {', '.join(f'{word} {count}' for word, count in sorted(load.answers.items()))}"
    yield f"every tag is in both targets as it was pushed last, by {_runs(world)} runs; lost: 0"
    yield "answered in: " + ", ".join(
        f"{name} {1000 * took[min(len(took) - 1, int(share * len(took)))]:.1f} ms"
        for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("longest", 1.0))
    )
    yield f"CPU of the process: {1000 * cpu_s / len(took):.1f} ms a delivery"
    yield f"memory of the process every 10 s: {', '.join(f'{one:.0f}' for one in memory)} MiB"


async def _send(
    load: Load,
    world: World,
    memory: list[float],
    latest: dict[str, str],
    images: list[Image],
    rate: int,
    begin: float,
) -> None:
    """Every delivery when it is due; ``latest`` becomes what each tag was moved to last."""
    tags, place = list(latest), f"{world.registries['source'].host}/app"

    async def look(after_s: int) -> None:
        await asyncio.sleep(after_s)
        memory.append(_rss_mib(world.serve))

    with ThreadPoolExecutor(1) as pushers:
        async with asyncio.TaskGroup() as group:
            for after_s in range(10, len(images) * MOVES_EVERY // rate + 1, 10):
                group.create_task(look(after_s))
            for number in range(len(images) * MOVES_EVERY):
                tag = tags[number % len(tags)]
                await asyncio.sleep(max(0.0, begin + number / rate - time.monotonic()))
                if number % MOVES_EVERY == 0:
                    image = images[number // MOVES_EVERY]
                    group.create_task(load.move(place, tag, image, pushers))
                    latest[tag] = image.manifest.digest
                else:
                    group.create_task(load.send(_told(tag, latest[tag])))
    for _, writer in load.idle:
        writer.close()


def _runs(world: World) -> int:
    told = world.fleet.ledger.gauges.read().told.of("runs_started")
    return sum(one.value for one in told)


def _told(tag: str, digest: str) -> bytes:
    target = {"repository": "app", "tag": tag, "digest": digest, "mediaType": "", "size": 400}
    event = {"id": str(uuid4()), "action": "push", "target": target}
    return json.dumps({"events": [event]}).encode()


def _rss_mib(process: Process) -> float:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def _cpu_s(process: Process) -> float:
    words = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.webhook", description=__doc__)
    parser.add_argument("--load", action="store_true", help="many deliveries instead of the way of a few")
    parser.add_argument("--pushes", type=int, default=20, help="images (default: 20)")
    parser.add_argument("--mib", type=int, default=8, help="of each (default: 8)")
    parser.add_argument("--rate", type=int, default=200, help="deliveries a second (default: 200)")
    parser.add_argument("--seconds", type=int, default=60, help="so long (default: 60)")
    parser.add_argument("--tags", type=int, default=100, help="that they are about (default: 100)")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
