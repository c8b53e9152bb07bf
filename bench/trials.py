"""The measuring itself: one contender, one job, one phase at a time, next to each other and in rounds."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from bench import machine
from bench.jobs import Command, Contender, Job
from bench.ours import WARM_UP
from bench.servers import Server, Traffic
from bench.sets import ImageSet, Tagged, blobs, one_small, parts, push_all
from registry.connections import Connections
from registry.endpoint import Endpoint
from registry.manifest import ACCEPT
from tests.support.certificates import Certificates
from tests.support.process import surroundings

Phase = Literal["full", "again", "moved"]
PATIENCE_S = 900.0
SPOT_CHECK = 100
"""Of thousands of tags that nobody has to write, one in so many is checked."""
METER = Path(__file__).with_name("meter.py")


@dataclass(frozen=True, slots=True)
class Cell:
    """A set and how many targets it goes to."""

    images: ImageSet
    targets: int


@dataclass(frozen=True, slots=True)
class Sample:
    """What one command cost; ``problem`` says why it does not count."""

    set: str
    targets: int
    phase: Phase
    contender: str
    is_peer: bool
    round: int
    wall_s: float
    cpu_s: float
    peak_bytes: int
    servers_cpu_s: float
    noise: float
    """Cores that others used meanwhile."""
    source_requests: int
    source_heads: int
    source_manifest_reads: int
    source_repeated_reads: int
    source_bytes: int
    target_requests: int
    """Of all targets together."""
    target_heads: int
    target_bytes: int
    problem: str = ""
    source_repeated_manifest_reads: int = 0

    def document(self) -> dict[str, object]:
        return asdict(self)


class Nobody:
    """No account anywhere."""

    def lookup(self, host: str) -> None:
        """No credential, whatever the host."""


class Trials:
    """Sources stay up, with their sets; targets are new for every contender's turn."""

    def __init__(
        self,
        folder: Path,
        certificates: Certificates | None,
        round_trip_ms: float,
        say: Callable[[str], None],
    ) -> None:
        self._folder, self._certificates, self._say = folder, certificates, say
        self._round_trip_ms = round_trip_ms
        self._open = ExitStack()
        self._sources: dict[str, Server] = {}
        self._mirrored: dict[str, list[Server]] = {}
        self._checked: set[tuple[str, int, str, Phase]] = set()
        self._turn = 0

    def close(self) -> None:
        self._open.close()

    def run(self, cells: Sequence[Cell], contenders: Sequence[Contender], rounds: int) -> Iterator[Sample]:
        """Contenders take turns, each round beginning with another of them."""
        for number in range(rounds):
            for cell in cells:
                if cell.images.is_mirrored and number:
                    continue  # long enough to be measured once
                source = self._source(cell.images)
                first = (number * 3) % len(contenders)
                for contender in (*contenders[first:], *contenders[:first]):
                    yield from self._turn_of(contender, cell, source, number)

    def _source(self, images: ImageSet) -> Server:
        if images.key not in self._sources:
            server = self._open.enter_context(self._server(f"source-{images.key}"))
            self._say(f"pushing set {images.key} ({images.content_bytes / 1e6:.0f} MB)")
            warm = [Tagged(WARM_UP, one.tag, one.content) for one in one_small().tagged]
            self._push(server, (*images.moved, *images.tagged, *warm))
            self._sources[images.key] = server
        return self._sources[images.key]

    def _push(self, server: Server, tagged: Sequence[Tagged]) -> None:
        authority = str(self._certificates.authority) if self._certificates else None
        endpoint = Endpoint(server.host, plain_http=authority is None, ca_file=authority)
        connections = Connections({server.host: endpoint}, Nobody())
        names = {one.repository for one in tagged}
        push_all(tagged, {name: connections.open(f"{server.host}/{name}") for name in names})
        connections.close()

    def _server(self, name: str) -> Server:
        return Server(self._folder / name, self._certificates, self._round_trip_ms)

    def _turn_of(self, contender: Contender, cell: Cell, source: Server, number: int) -> Iterator[Sample]:
        self._turn += 1
        folder = self._folder / f"turn-{self._turn}"
        folder.mkdir()
        with ExitStack() as stack:
            targets = self._targets(cell, source, stack)
            authority = self._certificates.authority if self._certificates else None
            job = Job(
                cell.images,
                source.far_host,
                tuple(target.far_host for target in targets),
                folder,
                authority,
                is_far=self._round_trip_ms > 0,
            )
            if contender.takes(job):
                stack.callback(contender.close)
                trial = _Trial(contender, job, source, targets, number, self._checked)
                yield from self._phases(trial, source)
        shutil.rmtree(folder, ignore_errors=True)

    def _targets(self, cell: Cell, source: Server, turn: ExitStack) -> list[Server]:
        """Of this turn only, unless nobody has anything to write there."""
        if not cell.images.is_mirrored:
            names = [f"target-{self._turn}-{number}" for number in range(cell.targets)]
            return [turn.enter_context(self._server(name)) for name in names]
        key = cell.images.key
        if key not in self._mirrored:
            names = [f"target-{key}-{number}" for number in range(cell.targets)]
            self._mirrored[key] = [self._open.enter_context(self._server(name)) for name in names]
            for target in self._mirrored[key]:
                target.fill_from(source, cell.images.repositories)
        return self._mirrored[key]

    def _phases(self, trial: _Trial, source: Server) -> Iterator[Sample]:
        images = trial.job.images
        if images.is_mirrored:
            yield trial.measured("again", images.tagged[::SPOT_CHECK])
            return
        yield trial.measured("full", images.tagged)
        if not trial.copies_all:
            return
        yield trial.measured("again", images.tagged)
        if images.moved:
            self._push(source, images.moved)
            try:
                yield trial.measured("moved", images.after)
            finally:
                self._push(source, images.tagged)


class _Trial:
    """One contender on one job."""

    def __init__(
        self,
        contender: Contender,
        job: Job,
        source: Server,
        targets: Sequence[Server],
        number: int,
        checked: set[tuple[str, int, str, Phase]],
    ) -> None:
        self._contender, self.job, self._number, self._checked = contender, job, number, checked
        self._source, self._targets = source, targets
        self.copies_all = contender.copies_all
        self._command = contender.prepare(job)

    def measured(self, phase: Phase, wanted: Sequence[Tagged]) -> Sample:
        servers = (self._source, *self._targets)
        for server in servers:
            server.traffic()
        resident = self._contender.resident()
        if resident:
            machine.forget_peaks(resident)
        before = self._clocks(resident)
        cost = run(self._command, self.job.folder)
        after = self._clocks(resident)
        own, serving, busy = (new - old for new, old in zip(after, before, strict=True))
        peak = max(cost["peak_bytes"], machine.tree_peak_bytes(resident) if resident else 0)
        read, written = self._source.traffic(), sum((t.traffic() for t in self._targets), Traffic(()))
        problem = f"exit {cost['status']:.0f}" if cost["status"] else self._missing(phase, wanted)
        return Sample(
            set=self.job.images.key,
            targets=len(self._targets),
            phase=phase,
            contender=self._contender.name,
            is_peer=self._contender.is_peer,
            round=self._number,
            wall_s=cost["wall_s"],
            cpu_s=cost["cpu_s"] + own,
            peak_bytes=int(peak),
            servers_cpu_s=serving,
            noise=max(0.0, (busy - own - cost["cpu_s"] - serving) / max(cost["wall_s"], 0.01)),
            source_requests=len(read.requests),
            source_heads=read.methods["HEAD"],
            source_manifest_reads=read.manifest_reads,
            source_repeated_reads=read.repeated_reads,
            source_bytes=read.read_bytes,
            target_requests=len(written.requests),
            target_heads=written.methods["HEAD"],
            target_bytes=written.written_bytes(self.job.images.sizes),
            problem=problem,
            source_repeated_manifest_reads=read.repeated_manifest_reads,
        )

    def _clocks(self, resident: int | None) -> tuple[float, float, float]:
        own = machine.tree_cpu_s(resident) if resident else 0.0
        return own, sum(s.cpu_s() for s in (self._source, *self._targets)), machine.busy_s()

    def _missing(self, phase: Phase, wanted: Sequence[Tagged]) -> str:
        """What is not as it should be in a target, looked at once for each contender, cell and phase."""
        key = (self.job.images.key, len(self._targets), self._contender.name, phase)
        if key in self._checked or not self._contender.checked:
            return ""
        self._checked.add(key)
        found = (gap for target in self._targets for gap in gaps(target, wanted))
        return next(found, "")


def gaps(target: Server, wanted: Sequence[Tagged]) -> Iterator[str]:
    """Tags at another digest; manifests and blobs that are not there. Referrers are not asked for."""
    connection = target.connection()
    seen: set[tuple[str, str]] = set()
    for one in wanted:
        paths = {f"manifests/{one.tag}": one.digest}
        paths |= {f"manifests/{part.digest}": part.digest for part in parts(one.content)}
        paths |= {f"blobs/{b.descriptor.digest}": b.descriptor.digest for b in blobs(one.content)}
        for path, digest in paths.items():
            if (one.repository, path) in seen:
                continue
            seen.add((one.repository, path))
            connection.request("HEAD", f"/v2/{one.repository}/{path}", headers={"Accept": ACCEPT})
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200 or answer.headers["Docker-Content-Digest"] != digest:
                yield f"{target.host}/{one.repository}/{path}: {answer.status}"
    connection.close()


def run(command: Command, folder: Path) -> dict[str, float]:
    """The meter's report; status 124 where the command took too long."""
    report = folder / "cost.json"
    report.unlink(missing_ok=True)
    with (folder / "output.log").open("ab") as log:
        metered = subprocess.Popen(
            [sys.executable, "-I", "-S", str(METER), str(report), *command.argv],
            env={**surroundings(), **command.env},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        metered.wait(PATIENCE_S)
    except BaseException as error:
        with suppress(ProcessLookupError):
            os.killpg(metered.pid, signal.SIGTERM)
        metered.wait()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
    if not report.exists():
        return {"wall_s": PATIENCE_S, "cpu_s": 0.0, "peak_bytes": 0, "status": 124}
    cost: dict[str, float] = json.loads(report.read_text())
    return cost
