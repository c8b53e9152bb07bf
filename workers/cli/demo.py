"""``demo``: three registries, two regions, real images; what Sealift does, shown in seconds."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from threading import Event
from time import monotonic
from typing import TYPE_CHECKING, Annotated

import typer

from registry.descriptor import abridged
from workers.cli.exits import Exit, Stop
from workers.cli.fleets import Engine, engine
from workers.cli.session import Session
from workers.cli.text import listed

if TYPE_CHECKING:
    from registry.images import Index
    from workers.supervisor import Child

REPOSITORY = "demo/hello"
LAYER_BYTES = 8 * 1000 * 1000
REGISTRY_PATIENCE_S = 15.0
_NAMES = ("source", "eu", "us")
_FLEET = """\
mirrors:
  - name: hello
    source: {source}/demo/hello
    targets:
      - {{region: eu, repository: {eu}/demo/hello}}
      - {{region: us, repository: {us}/demo/hello}}
    tags: ["semver:>=1.0", latest]
"""


@dataclass(frozen=True, slots=True)
class Stage:
    """The three registries by name, as ``host:port``."""

    session: Session
    folder: Path
    hosts: dict[str, str]

    def say(self, line: str = "") -> None:
        self.session.console.say(line)

    def title(self, number: int, line: str) -> None:
        self.say()
        self.session.console.say(f"{number}. {line}", style="bold")


def demo(
    context: typer.Context,
    *,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave registries and fleet running until Ctrl-C, to look around.")
    ] = False,
) -> Exit:
    """See it work: three registries and a fleet of two regions on this machine, gone afterwards."""
    session = Session.of(context)
    with _folder(session) as folder, _registries(session, folder) as stage:
        _use_own_configuration(stage)
        with engine(session, ("eu", "us")) as fleet:
            _play(stage, fleet)
            if keep:
                _linger(stage, fleet)
    _farewell(stage)
    return Exit.DONE


def _play(stage: Stage, fleet: Engine) -> None:
    stage.title(1, "Push images for two platforms to the source registry")
    _push(stage, fleet, "1.0", "latest")
    _push(stage, fleet, "1.1", signed=True)
    stage.title(2, "Mirror them to both regions, each by a worker of its own")
    stage.say("The fleet file says what goes where:")
    for line in (stage.folder / "sealift.yaml").read_text().splitlines():
        stage.say(f"   {line}")
    _sync(stage, fleet)
    stage.title(3, "Run it again: what is there already costs nothing")
    _sync(stage, fleet)
    stage.title(4, "Move a tag: both regions follow together, once both hold every layer")
    _push(stage, fleet, "2.0", "latest")
    _sync(stage, fleet)
    stage.title(5, "Compare the digests in all three registries")
    _prove(stage, fleet)


def _push(stage: Stage, fleet: Engine, version: str, also: str = "", *, signed: bool = False) -> None:
    from registry.images import build_signature, push, signature_tag

    repository = fleet.rt.connections.open(f"{stage.hosts['source']}/{REPOSITORY}")
    index = _image(version)
    for tag in filter(None, (version, also)):
        push(repository, index, tag)
    if signed:
        push(repository, build_signature(index), signature_tag(index.digest))
    names = listed([f"hello:{tag}" for tag in (version, also) if tag])
    extra = ", with a signature" if signed else ""
    stage.say(f"   {names}  linux/amd64 and linux/arm64{extra}  {abridged(index.digest, end='')}")


def _image(version: str) -> Index:
    """The hello image of a version on top of a layer that is worth copying; the layer is new in 1.1."""
    from registry.hello import hello_index
    from registry.images import Image, build_image, build_index, random_layer

    data = random_layer(LAYER_BYTES, seed=1 if version == "1.0" else 2)
    images = [child for child in hello_index(version).children if isinstance(child, Image)]
    return build_index(
        build_image({"version": version.encode()}, platform=image.platform, base=image, layers=[data])
        for image in images
        if image.platform
    )


def _sync(stage: Stage, fleet: Engine) -> None:
    from tasks import producer
    from tasks.terms import spec_of
    from workers.cli.summary import show
    from workers.cli.waiting import wait_for

    (mirror,) = stage.session.fleet.mirrors
    run = producer.start(fleet.rt, spec_of(mirror, stage.session.fleet))
    reports = wait_for(fleet, [run], timeout_s=60.0)
    if show(stage.session.console, fleet.rt.ledger, reports, everything=True) is not Exit.DONE:
        raise Stop("the run of the demo failed", Exit.FAILED)


def _prove(stage: Stage, fleet: Engine) -> None:
    """HEAD every tag in the three registries, and ask another tool if there is one."""
    for tag in ("1.0", "1.1", "2.0", "latest"):
        found = {
            name: fleet.rt.connections.open(f"{host}/{REPOSITORY}").resolve(tag).digest
            for name, host in stage.hosts.items()
        }
        if len(set(found.values())) != 1:
            raise Stop(f"hello:{tag} differs: {found}", Exit.FAILED)
        stage.say(f"   hello:{tag:<8} {found['source'][:27]}…  the same in {listed(list(found))}")
    if shutil.which("skopeo"):
        digests = {name: _by_skopeo(host) for name, host in stage.hosts.items()}
        if len(set(digests.values())) != 1:
            raise Stop(f"skopeo sees other digests: {digests}", Exit.FAILED)
        stage.say("   skopeo inspect finds the same digest of hello:latest in all three")


def _by_skopeo(host: str) -> str:
    command = [
        "skopeo",
        "inspect",
        "--tls-verify=false",
        "--format",
        "{{.Digest}}",
        f"docker://{host}/{REPOSITORY}:latest",
    ]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout.strip()  # noqa: S603 -- ours


def _farewell(stage: Stage) -> None:
    stage.say()
    stage.say("Everything that was started is stopped, and its data removed. What to try next:")
    for line in (
        "sealift mirror alpine:3.20 --to registry.example/alpine    one image, now",
        "sealift demo --keep                                        this fleet, to look around in",
        "sealift up                                                 a fleet that stays, with Flower",
        "sealift --help",
    ):
        stage.say(f"   {line}")


def _linger(stage: Stage, fleet: Engine) -> None:
    if fleet.embedded is not None:
        fleet.embedded.announce(shared=True)
    stage.say()
    stage.say("Still running; stop it with Ctrl-C. In another shell:")
    for name, host in stage.hosts.items():
        stage.say(f"   {name:<7} curl http://{host}/v2/{REPOSITORY}/tags/list")
    stage.say(f"   runs    sealift --state-dir {stage.folder / 'state'} runs")
    try:
        while True:
            fleet.tick()
            Event().wait(1.0)
    except KeyboardInterrupt:
        stage.say("stopping")


def _use_own_configuration(stage: Stage) -> None:
    """The demo's own fleet file and state, whatever the machine has configured."""
    file = stage.folder / "sealift.yaml"
    file.write_text(_FLEET.format(**stage.hosts))
    os.environ.pop("SEALIFT_REDIS_URL", None)
    os.environ["SEALIFT_FLEET_FILE"] = str(file)
    os.environ["SEALIFT_STATE_DIR"] = str(stage.folder / "state")


@contextmanager
def _folder(session: Session) -> Iterator[Path]:
    """A temporary folder; kept, with the logs in it, where something went wrong."""
    folder = Path(mkdtemp(prefix="sealift-demo-"))
    try:
        yield folder
    except Exception:
        session.console.say(f"The logs are kept in {folder}")
        raise
    except BaseException:  # Ctrl-C is no fault
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder)


@contextmanager
def _registries(session: Session, folder: Path) -> Iterator[Stage]:
    from workers.supervisor import Supervisor

    supervisor = Supervisor()
    hosts: dict[str, str] = {}
    try:
        has_program = shutil.which("docker-registry") is not None
        for name in _NAMES:
            port = _free_port()
            hosts[name] = f"127.0.0.1:{port}"
            supervisor.start(_registry(folder, name, port, has_program=has_program))
        for host in hosts.values():
            _await_port(host)
        kind = "docker-registry, storage in a temporary folder" if has_program else "in memory"
        session.console.say(f"Three registries ({kind}):")
        for name, host in hosts.items():
            session.console.say(f"   {name:<7} {host}")
        yield Stage(session, folder, hosts)
    finally:
        supervisor.close()


def _registry(folder: Path, name: str, port: int, *, has_program: bool) -> Child:
    from workers import processes
    from workers.supervisor import Child

    log = folder / f"{name}.log"
    if not has_program:
        return Child(name, tuple(processes.memory_registry(port)), log)
    file = folder / f"{name}.yml"
    file.write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {folder / name}}}, "
        f"delete: {{enabled: true}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n"
    )
    return Child(name, tuple(processes.docker_registry(file)), log, {"OTEL_TRACES_EXPORTER": "none"})


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await_port(host: str) -> None:
    name, _, port = host.rpartition(":")
    deadline = monotonic() + REGISTRY_PATIENCE_S
    while True:
        try:
            socket.create_connection((name, int(port)), timeout=1.0).close()
        except OSError as error:
            if monotonic() > deadline:
                raise Stop(f"the demo's registry at {host} does not start", Exit.FAILED) from error
            Event().wait(0.02)
        else:
            return
