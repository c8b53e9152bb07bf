"""How long the status page of a large fleet takes, and how large it is: ``python -m bench.page [MIRRORS]``.

The ledger is a real server's, and holds what runs and probes would have left: each mirror has a source and
two targets in three registries and ten tags; every registry was probed from two regions for 30 days.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

from mirror.ledger import Ledger
from mirror.ledger.batches import Outcome, Resolved
from mirror.ledger.probes import Measurement
from mirror.spec import MirrorSpec, Target, Verification
from mirror.status.compose import Shown, compose
from registry.descriptor import Descriptor
from tests.support.valkey import ValkeyServer
from workers.page.files import write
from workers.page.render import files, page

HOSTS = ("docker.io", "ghcr.io", "registry.eu.example")
REGIONS = ("us", "eu")
TAGS = tuple(f"1.{number}.0" for number in range(10))
ROUNDS = 5
MIRRORS = 500
_INDEX = "application/vnd.oci.image.index.v1+json"
DAY_S = 86400


def specs_of(mirrors: int) -> list[MirrorSpec]:
    """So many mirrors of three registries."""
    return [
        MirrorSpec(
            f"service-{number:03}",
            f"{HOSTS[0]}/acme/service-{number:03}",
            tuple(
                Target(f"{host}/acme/service-{number:03}", region)
                for host, region in zip(HOSTS[1:], REGIONS, strict=True)
            ),
        )
        for number in range(mirrors)
    ]


def fill(ledger: Ledger, specs: list[MirrorSpec]) -> None:
    """A run and a verification of every mirror, and the probes."""
    for spec in specs:
        _ran(ledger, spec)
        verifying = {"kind": "verify", "verification": Verification()}
        _ran(ledger, MirrorSpec(spec.name, spec.source, spec.targets, **verifying))  # type: ignore[arg-type]  # two fields
    now = ledger.now()
    for region in REGIONS:
        for host in HOSTS:
            for ago in range(29, -1, -1):
                at = now - ago * DAY_S
                one = Measurement(region, host, at, up=ago != 7, hello_s=0.02, bytes_per_second=5e7)
                ledger.probes.record(one, f"{region}{host}{ago}")


def _ran(ledger: Ledger, spec: MirrorSpec) -> None:
    run = ledger.create_run(spec, "release")
    ledger.add_batches(run, "", TAGS[-1], [[(tag, tag) for tag in TAGS]], listed=True)
    for batch in ledger.open_window(run, 4):
        resolved = [
            Resolved(
                tag,
                tag,
                Descriptor(_INDEX, f"sha256:{sha256(f'{spec.name}{tag}'.encode()).hexdigest()}", 1000),
            )
            for tag in TAGS
        ]
        ledger.batches.end_resolving(batch, resolved, ledger.together())
        state = Outcome("current" if spec.verifies else "updated", signed=True)
        outcomes = {(tag, target.repository): state for tag in TAGS for target in spec.targets}
        ledger.batches.record(batch, outcomes)
        assert ledger.batches.conclude(batch, "landing", spec) is not None


def _image(mirror: str, tag: str) -> Descriptor:
    return Descriptor(_INDEX, f"sha256:{sha256(f'{mirror}:{tag}'.encode()).hexdigest()}", 1000)


def probed() -> list[tuple[str, str]]:
    """Every registry from every region."""
    return [(region, host) for region in REGIONS for host in HOSTS]


@contextmanager
def filled(folder: Path, specs: list[MirrorSpec]) -> Iterator[Ledger]:
    """A ledger on a server of its own."""
    with ValkeyServer(folder) as server, server.client() as client:
        ledger = Ledger(client, "bench:")
        fill(ledger, specs)
        yield ledger


@dataclass
class Took:
    """Seconds, round by round."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    """This process's own: what a machine that is busy with other things does not change much."""

    @contextmanager
    def one(self) -> Iterator[None]:
        began, used = perf_counter(), process_time()
        yield
        self.wall.append(perf_counter() - began)
        self.cpu.append(process_time() - used)

    def __str__(self) -> str:
        return f"median {median(self.wall):.2f} s, of CPU {median(self.cpu):.2f} s"


def main(mirrors: int) -> None:
    """Measure and print."""
    specs = specs_of(mirrors)
    names = ("read from the ledger", "made the HTML", "made and wrote all files")
    read, rendered, written = took = [Took() for _ in names]
    with tempfile.TemporaryDirectory() as name, filled(Path(name), specs) as ledger:
        status = compose(ledger, specs, Shown(), probed())  # once before it counts: templates are compiled
        html = page(status)
        for _ in range(ROUNDS):
            with read.one():
                status = compose(ledger, specs, Shown(), probed())
            with rendered.one():
                html = page(status)
            with written.one():
                write(Path(name) / "page", files(status))
    states = {mirror.state for mirror in status.mirrors}
    assert states == {"in step"}, states
    print(f"{len(status.mirrors)} mirrors, {len(TAGS)} tags in {len(HOSTS)} registries each; {ROUNDS} rounds")
    print(f"index.html: {len(html.encode()) / 1e6:.2f} MB")
    for what, one in zip(names, took, strict=True):
        print(f"{what}: {one}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else MIRRORS)
