"""What a user gets wrong, and what is in the way: one clear line, the right code, nothing half done."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from registry.descriptor import digest_of
from registry.images import LINUX_AMD64, LINUX_ARM64, build_image, build_index, random_layer
from registry.manifest import Manifest
from registry.memory import MemoryRegistry
from tests.support.fleet import made
from tests.support.process import Process, surroundings
from tests.support.registries import DockerRegistry, RegistryOptions
from tests.support.scratch import scratch_folder
from tests.support.token_server import LoopbackTokenServer, User
from tests.support.waiting import until
from workers.cli.exits import Exit

COMMAND = [sys.executable, "-P", "-m", "workers.cli"]
IMAGE = build_image({"version": b"1"}, layers=[random_layer(300_000)])
OLD = build_image({"version": b"0"})
IMPATIENT = {"SEALIFT_RETRY_BUDGET_S": "1", "SEALIFT_ATTEMPTS": "2", "SEALIFT_OUTAGE_S": "0"}


@dataclass(frozen=True, slots=True)
class Said:
    """What a command ended with."""

    code: int
    out: str
    err: str

    @property
    def all(self) -> str:
        return self.out + self.err


@dataclass(frozen=True, slots=True)
class Place:
    """A folder to type commands in, with a state and accounts of its own."""

    folder: Path
    settings: Mapping[str, str]

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def env(self) -> dict[str, str]:
        own = {"SEALIFT_STATE_DIR": str(self.state), "DOCKER_CONFIG": str(self.folder)}
        return {**surroundings(), **IMPATIENT, **own, **self.settings}

    def start(self, *words: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        return subprocess.Popen(
            [*COMMAND, *words], stdout=pipe, stderr=pipe, text=True, env=self.env, cwd=self.folder
        )

    def sealift(self, *words: str) -> Said:
        with self.start(*words) as process:
            out, err = process.communicate(timeout=60)
        assert "Traceback" not in out + err
        return Said(process.returncode, out, err)

    def with_(self, **settings: str) -> Place:
        return Place(self.folder, {**self.settings, **settings})


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path, {})


@pytest.fixture
def source() -> Iterator[MemoryRegistry]:
    with MemoryRegistry() as registry:
        registry.hold("a/app", IMAGE, "1.0")
        yield registry


# -- before anything is started --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["mirror", "A/ app", "--to", "localhost:1/x"], "repository names are lower case"),
        (["mirror", "localhost:1/a:1.0", "--to", "localhost:1/a:1.0"], "localhost:1/a:1.0 is the source"),
        (["mirror", "localhost:1/a:1.0", "--to", "E U=localhost:2/a"], "'E U' is not a region's name"),
        (["mirror", "localhost:1/a:1.0"], "Missing option '--to'"),
        (["verify", "--deep", "--bytes", "lots"], "--bytes lots: write a number and its unit"),
        (["verify", "a", "--to", "localhost:2/a", "--rate", "5MB"], "give --deep too"),
        (["verify", "app", "--tags", "v*"], "--tags goes with SOURCE and --to"),
        (["worker", "--region", "eu", "--name", "a b"], "--name 'a b' is not a worker's name"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_2_and_starts_nothing(
    words: list[str], says: str, place: Place
) -> None:
    said = place.sealift(*words)

    assert said.code == Exit.USAGE
    assert says in said.err
    assert not place.state.exists()


MIRROR = """\
  - name: {name}
    source: localhost:1/a/app
    targets: [localhost:2/b/app]
    tags: ["1.0"]
"""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (MIRROR.format(name="app").replace("tags", "tgas"), "5: mirrors[0].tgas: unknown key; did you mean"),
        (MIRROR.format(name="app").replace('["1.0"]', "1.0"), "5: mirrors[0].tags: must be a list"),
        (MIRROR.format(name="app") + "    verify: {bytes: 3}\n", "6: mirrors[0].verify.bytes"),
        (MIRROR.format(name="app").replace(":2/b", ":1/a"), "4: mirrors[0].targets[0]: localhost:1/a/app is"),
        (
            MIRROR.format(name="app") + MIRROR.format(name="twin"),
            "8: mirrors[1].targets[0]: mirror 'app'",
        ),
    ],
)
def test_a_faulty_fleet_file_is_refused_with_3_by_file_line_and_key(
    text: str, says: str, place: Place
) -> None:
    (place.folder / "sealift.yaml").write_text("mirrors:\n" + text)

    said = place.sealift("sync")

    assert said.code == Exit.CONFIGURATION
    assert f"sealift.yaml:{says}" in said.err
    assert said.out == ""
    assert not place.state.exists()


SECRETS = """\
registries:
  localhost:2: {username: ci, password: env:TOKEN_OF_TWO}
  localhost:3: {username: ci, password: env:TOKEN_OF_THREE}
mirrors:
"""


@pytest.mark.parametrize("command", ["sync", "plan"])
def test_a_missing_variable_is_refused_with_3_before_a_fleet_starts(command: str, place: Place) -> None:
    (place.folder / "sealift.yaml").write_text(SECRETS + MIRROR.format(name="app"))

    said = place.sealift(command)

    assert said.code == Exit.CONFIGURATION
    assert "sealift.yaml:2: registries.localhost:2.password" in said.err
    assert "TOKEN_OF_TWO is not set; export it" in said.err
    assert "TOKEN_OF_THREE" not in said.err  # no mirror goes there
    assert not place.state.exists()


def test_up_refuses_with_3_what_its_workers_would_lack(place: Place) -> None:
    (place.folder / "sealift.yaml").write_text(SECRETS + MIRROR.format(name="app"))

    said = place.sealift("up")

    assert said.code == Exit.CONFIGURATION
    assert len(said.err.splitlines()) == 2
    assert not (place.state / "valkey").exists()


def test_an_unknown_mirror_is_refused_with_2_and_the_nearest_name(place: Place) -> None:
    (place.folder / "sealift.yaml").write_text("mirrors:\n" + MIRROR.format(name="explorer"))

    said = place.sealift("sync", "explorr")

    assert said.code == Exit.USAGE
    assert 'did you mean "explorer"?' in said.err


def test_an_unreachable_redis_is_6_without_its_password(place: Place) -> None:
    far = place.with_(SEALIFT_REDIS_URL="redis://user:hunter2@127.0.0.1:1/0")

    said = far.sealift("mirror", "localhost:1/a:1.0", "--to", "localhost:2/a")

    assert said.code == Exit.BROKER
    assert "Redis at redis://127.0.0.1:1/0 does not answer" in said.err
    assert "hunter2" not in said.all


# -- an embedded fleet -----------------------------------------------------------------------------


@pytest.mark.fleet
def test_two_commands_on_one_folder_then_a_time_over_then_ctrl_c_then_the_end(
    place: Place, source: MemoryRegistry
) -> None:
    words = ("mirror", f"{source.host}/a/app:1.0", "--to", f"{source.host}/b/app")
    with source.pause(lambda method, path: method == "PUT" and "/blobs/" in path) as pause:
        first = place.start(*words)
        assert pause.reached.wait(30)
        second = place.sealift(*words)
        first.send_signal(signal.SIGINT)
        _, said = first.communicate(timeout=30)
        run = re.findall(r"`sealift watch (\w+)`", said)[0]
        late = place.sealift("watch", run, "--timeout", "0.5")
    assert source.tag("b/app", "1.0") is None

    resumed = place.sealift("watch", run)

    assert (second.code, first.returncode, late.code) == (3, 130, 5)
    assert f"process {first.pid} is using the state folder" in second.err
    assert "interrupted; nothing is lost" in said
    assert "not finished after 0.5 s; nothing is lost" in late.err
    assert resumed.code == Exit.DONE, resumed.all
    assert source.tag("b/app", "1.0") == IMAGE.digest


@pytest.mark.fleet
def test_a_full_disk_is_1_and_names_the_folder(place: Place, source: MemoryRegistry) -> None:
    disk = made(place.folder / "disk")
    namespace = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    if not shutil.which("unshare") or subprocess.run([*namespace, "true"], check=False).returncode:
        pytest.skip("no right to a mount namespace here")
    script = (
        'mount -t tmpfs -o size=256k tmpfs "$0" || exit 99; "$@"; code=$?; cat "$0"/*/index.json; exit $code'
    )
    words = [*COMMAND, "mirror", f"{source.host}/a/app:1.0", "--to", f"oci:{disk}/app:1.0"]

    done = subprocess.run(
        [*namespace, "sh", "-c", script, str(disk), *words],
        capture_output=True,
        text=True,
        env=place.env,
        cwd=place.folder,
        timeout=60,
        check=False,
    )

    assert done.returncode == Exit.FAILED, done.stderr
    assert f"no space left under {disk}/app" in done.stdout
    assert json.loads(done.stdout.splitlines()[-1])["manifests"] == []


# -- a fleet that is up ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class World:
    """A fleet that ``sealift up`` runs for region ``eu``, and registries with one peculiarity each."""

    place: Place
    source: MemoryRegistry
    target: MemoryRegistry
    full: MemoryRegistry
    frozen: MemoryRegistry
    strict: MemoryRegistry
    locked: DockerRegistry
    readable: DockerRegistry

    def mirror(self, source: str, target: str, *options: str) -> Said:
        words = (f"{self.source.host}/{source}", "--to", f"eu={target}", *options)
        return self.place.sealift("mirror", *words)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder())
        tokens = stack.enter_context(LoopbackTokenServer(folder, {"ci": User("right", {"*": "pull"})}))
        locked = stack.enter_context(
            DockerRegistry(made(folder / "locked"), RegistryOptions(users=(("ci", "right"),)))
        )
        readable = stack.enter_context(
            DockerRegistry(made(folder / "readable"), RegistryOptions(token=tokens.auth))
        )
        _log_in(folder, {locked.host: "ci:wrong", readable.host: "ci:right"})
        source, target, full, frozen, strict = (
            stack.enter_context(registry)
            for registry in (
                MemoryRegistry(),
                MemoryRegistry(),
                MemoryRegistry(quota_bytes=100_000),
                MemoryRegistry(immutable_tags=True),
                MemoryRegistry(sparse_index=False),
            )
        )
        _fill(source)
        frozen.hold("b/app", OLD, "1.0")
        place = Place(folder, {})
        words = ["up", "--region", "eu", "--flower-port", "0"]
        up = stack.enter_context(Process([*COMMAND, *words], folder / "up.log", place.env, folder))
        until(lambda: "The fleet is up" in up.text(), 30, up.tail)
        yield World(place, source, target, full, frozen, strict, locked, readable)


def _fill(source: MemoryRegistry) -> None:
    """What can be mirrored at ``a/app:1.0``, what cannot at ``a/old`` and ``a/rotten``."""
    children = [build_image({"at": str(p).encode()}, platform=p) for p in (LINUX_AMD64, LINUX_ARM64)]
    source.hold("a/app", IMAGE, "1.0")
    source.hold("a/index", build_index(children), "1.0")
    old = {"schemaVersion": 1, "name": "a/old", "tag": "1.0", "fsLayers": []}
    source.plant("a/old", "1.0", _unchecked(json.dumps(old).encode()))
    rotten = build_image({"version": b"rotten"}, layers=[random_layer(200_000, seed=7)])
    source.hold("a/rotten", rotten, "1.0")
    source.blobs[rotten.blobs[-1].descriptor.digest] = bytes(rotten.blobs[-1].descriptor.size)


def _unchecked(content: bytes) -> Manifest:
    """Schema 1, which our parser refuses."""
    kind = "application/vnd.docker.distribution.manifest.v1+json"
    return Manifest(kind, content, digest_of(content), (), (), None, None, ())


def _log_in(folder: Path, accounts: Mapping[str, str]) -> None:
    auths = {host: {"auth": base64.b64encode(pair.encode()).decode()} for host, pair in accounts.items()}
    (folder / "config.json").write_text(json.dumps({"auths": auths}))


@pytest.mark.fleet
@pytest.mark.parametrize(
    ("source", "target", "code", "reason", "remedy"),
    [
        ("a/app:9", "target", 1, "{source}/a/app:9: not there (404)", "check the names"),
        ("a/none:1.0", "target", 1, "{source}/a/none:1.0: not there (404)", "check the names"),
        ("a/old:1.0", "target", 1, "Docker schema 1: rebuild or re-push", "push it to the source again"),
        ("a/rotten:1.0", "target", 1, "{source}/a/rotten@sha256:", "where the source holds damaged bytes"),
        ("a/app:1.0", "full", 1, "quota exceeded: at most 100000 bytes", ""),
        ("a/app:1.0", "frozen", 1, "tag is immutable: 1.0", ""),
        ("a/app:1.0", "locked", 4, "user ci was refused: wrong password", "`docker login {target}`"),
        ("a/app:1.0", "readable", 4, "{target}/b/app: user ci", "give the account the right"),
        ("a/app:1.0", "127.0.0.1:1", 1, "cannot connect to 127.0.0.1:1: Connection refused", "check that"),
    ],
)
def test_what_a_registry_refuses_is_one_reason_a_remedy_and_no_tag_moved(
    source: str, target: str, code: int, reason: str, remedy: str, world: World
) -> None:
    host = getattr(world, target).host if target.isalpha() else target
    names = {"source": world.source.host, "target": host}

    said = world.mirror(source, f"{host}/b/app")

    assert said.code == code, said.all
    (line,) = [line for line in said.out.splitlines() if re.match(r"[\w.]+: ", line)]
    assert reason.format(**names) in line
    assert "Failed in" in said.out
    assert remedy.format(**names) in said.err
    assert "`sealift retry " in said.err
    assert world.target.tags("b/app") == {}
    assert world.full.tags("b/app") == {}
    assert world.frozen.tags("b/app") == {"1.0": OLD.digest}


@pytest.mark.fleet
def test_an_index_without_all_its_children_is_refused_by_a_strict_registry(world: World) -> None:
    said = world.mirror("a/index:1.0", f"{world.strict.host}/b/app", "--platform", "linux/arm64")

    assert said.code == Exit.FAILED, said.all
    assert f"{world.strict.host}/b/app" in said.out
    assert world.strict.tags("b/app") == {}


@pytest.mark.fleet
def test_an_unreachable_source_is_1_and_named(world: World) -> None:
    said = world.place.sealift("mirror", "127.0.0.1:1/a/app", "--tags", "*", "--to", "eu=localhost:2/b/app")

    assert said.code == Exit.FAILED, said.all
    assert "127.0.0.1:1/a/app: cannot connect to 127.0.0.1:1: Connection refused" in said.out


@pytest.mark.fleet
def test_a_region_without_workers_is_3_and_says_who_is_there(world: World) -> None:
    said = world.place.sealift(
        "mirror", f"{world.source.host}/a/app:1.0", "--to", f"mars={world.target.host}/b/app"
    )

    assert said.code == Exit.CONFIGURATION
    assert "no worker serves mars (workers serve eu)" in said.err
    assert "`sealift worker --region mars`" in said.err
    assert world.target.tags("b/app") == {}


@pytest.mark.fleet
@pytest.mark.parametrize("command", ["status", "watch", "retry", "cancel", "pause", "resume", "report"])
def test_an_unknown_run_is_2_and_says_where_to_look(command: str, world: World) -> None:
    said = world.place.sealift(command, "5b14")

    assert said.code == Exit.USAGE
    assert "no run '5b14'" in said.err
    assert "`sealift runs` lists them" in said.err


@pytest.mark.fleet
def test_a_run_without_failures_has_nothing_to_retry(world: World) -> None:
    done = world.mirror("a/app:1.0", f"{world.target.host}/c/app", "--json")
    run = json.loads(done.out)["runs"][0]["run"]

    said, as_json = world.place.sealift("retry", run), world.place.sealift("retry", run, "--json")

    assert (done.code, said.code, as_json.code) == (0, 0, 0)
    assert said.out == f"Nothing to do: no tag of run {run} failed.\n"
    assert json.loads(as_json.out)["message"] == said.out.strip()


@pytest.mark.fleet
def test_with_json_a_failed_run_is_one_object_with_its_code_and_kind(world: World) -> None:
    said = world.mirror("a/app:1.0", f"{world.locked.host}/b/app", "--json")

    document = json.loads(said.out)
    (tag,) = document["runs"][0]["tag_reports"]
    assert (said.code, document["exit_code"], document["schema"]) == (4, 4, 1)
    assert tag["targets"][0]["kind"] == "Unauthorized"
    assert "wrong" not in json.dumps(document).replace("wrong password", "")


@pytest.mark.fleet
def test_mirrors_that_write_the_same_tag_are_refused_with_3_before_a_fleet_hears_of_them(
    world: World,
) -> None:
    text = "mirrors:\n" + MIRROR.format(name="app") + MIRROR.format(name="twin")
    names = {"localhost:1": world.source.host, "localhost:2/b": f"{world.target.host}/twins"}
    for name, place in names.items():
        text = text.replace(name, place)
    (world.place.folder / "twins.yaml").write_text(text)

    said = world.place.sealift("sync", "app", "--fleet-file", "twins.yaml")

    assert said.code == Exit.CONFIGURATION
    assert "both write the tag 1.0" in said.err
    assert world.target.tags("twins/app") == {}
