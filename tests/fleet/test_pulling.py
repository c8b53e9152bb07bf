"""``sealift clients``: what real clients make of its files while registries are down."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml

from registry.images import Image, build_image
from tests.support import skopeo
from tests.support.process import Process
from tests.support.pushing import push
from tests.support.registries import DockerRegistry
from tests.support.scratch import scratch_folder
from tests.support.waiting import until
from workers.clients import containers
from workers.clients.made import Making, Trust

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(480)]
ROOT = Path(__file__).parents[2]
IMAGE = build_image({"bin/app": b"one"})


@pytest.fixture(autouse=True)
def _own_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEALIFT_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("SEALIFT_WORKER_PROCESSES", "1")
    monkeypatch.delenv("SEALIFT_REDIS_URL", raising=False)
    monkeypatch.delenv("SEALIFT_FLEET_FILE", raising=False)


def sealift(*words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """The command as a process: its embedded fleet is that of this test's state folder."""
    command = [sys.executable, "-m", "workers.cli", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=200)
    assert code == done.returncode, done.stderr + done.stdout
    return done


def rows_of() -> dict[str, dict[str, Any]]:
    """By place what is said of each registry."""
    document = json.loads(sealift("clients", "app", "-f", "containers", "--json").stdout)
    return {row["place"]: row for row in document["candidates"]}


class Three:
    """A source, and two targets that a run has filled: one of the same name, one of another."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        names = ("source", "same", "renamed")
        for name in names:
            (folder / name).mkdir()
        self.source, self.same, self.renamed = (
            stack.enter_context(DockerRegistry(folder / name)) for name in names
        )
        self.targets = [f"{self.same.host}/org/app", f"{self.renamed.host}/elsewhere"]
        push(f"{self.source.host}/org/app", IMAGE, "1")
        self.write()
        sealift("sync", "app")

    @property
    def image(self) -> str:
        """As users name it."""
        return f"{self.source.host}/org/app:1"

    def write(self, **more: Any) -> None:
        mirror = {"name": "app", "source": f"{self.source.host}/org/app", "targets": self.targets, **more}
        Path("sealift.yaml").write_text(json.dumps({"mirrors": [mirror]}))


@pytest.fixture
def three() -> Iterator[Three]:
    with ExitStack() as stack:
        yield Three(stack.enter_context(scratch_folder()), stack)


def pulled(conf: Path, image: str) -> str:
    """The digest of what skopeo pulls in full by that ``registries.conf``, and no other."""
    words = [shutil.which("skopeo") or "skopeo", "--insecure-policy", f"--registries-conf={conf}"]
    with scratch_folder() as folder:
        words += ["copy", "--quiet", "--preserve-digests", f"docker://{image}", f"dir:{folder}/image"]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        return f"sha256:{sha256((folder / 'image' / 'manifest.json').read_bytes()).hexdigest()}"


@skopeo.needs_skopeo
def test_skopeo_gets_the_right_digest_from_the_next_registry_while_others_are_stopped(
    three: Three, tmp_path: Path
) -> None:
    conf = tmp_path / "app.conf"
    done = sealift("clients", "app", "--format", "containers", "--out", str(conf))
    (registry,) = tomllib.loads(conf.read_text())["registry"]
    assert [one["location"] for one in registry["mirror"]] == three.targets
    assert "sealift probe" in done.stderr, "nothing was measured yet"

    three.same.forget_requests()
    assert pulled(conf, three.image) == IMAGE.digest
    assert any("/manifests/" in one.path for one in three.same.requests()), "the first was asked"
    three.same.stop()
    assert pulled(conf, three.image) == IMAGE.digest
    three.source.stop()
    assert pulled(conf, three.image) == IMAGE.digest, "nobody but the last, by another name"

    sealift("probe", code=1)
    sealift("probe", code=1)  # twice is down
    sealift("clients", "app", "--format", "containers", "--out", str(conf))
    (registry,) = tomllib.loads(conf.read_text())["registry"]
    assert [one["location"] for one in registry["mirror"]] == [three.targets[1]]
    assert f"# Left out: {three.targets[0]}: down as seen from there: " in conf.read_text()
    assert f"# Asked last all the same: {three.source.host}/org/app: down" in conf.read_text()


@skopeo.needs_skopeo
def test_an_image_of_docker_hub_is_pulled_from_its_mirrors_without_a_way_to_docker_hub(
    three: Three, tmp_path: Path
) -> None:
    from mirror.clients import Candidate, Choice
    from mirror.ledger.measured import Reach

    places = [("docker.io/org/app", True), *((one, False) for one in three.targets)]
    found = [
        Candidate(place, Reach("eu", place.partition("/")[0]), is_upstream=is_up) for place, is_up in places
    ]
    choice = Choice("app", "eu", is_wildcard=False, candidates=(*found[1:], found[0]))
    trust = {one.host: Trust(is_plain=True) for one in found[1:]}
    conf = tmp_path / "app.conf"
    conf.write_text(next(iter(containers.make(Making(choice, trust, "1", ("x",))).texts.values())))
    three.same.stop()
    assert pulled(conf, "docker.io/org/app:1") == IMAGE.digest


def containerd_of(folder: Path) -> Process:
    """A containerd of its own; skipped where there can be none."""
    binary = shutil.which("containerd")
    if binary is None or shutil.which("ctr") is None:
        pytest.skip("containerd is not installed (make test-deps)")
    if os.geteuid() != 0:
        pytest.skip("containerd starts as root only")
    words = [
        binary,
        "--root",
        f"{folder}/root",
        "--state",
        f"{folder}/state",
        "--address",
        f"{folder}/c.sock",
    ]
    return Process(words, folder / "containerd.log")


def ctr(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [shutil.which("ctr") or "ctr", "-a", f"{folder}/c.sock", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def fetched(folder: Path, certs: Path, image: str) -> subprocess.CompletedProcess[str]:
    """All content of the image, by what hosts.toml says, into an empty store."""
    ctr(folder, "images", "rm", "--sync", image)
    return ctr(folder, "content", "fetch", "--hosts-dir", str(certs), image)


def test_containerd_pulls_by_hosts_toml_with_the_upstream_stopped_and_renames_only_a_prefix(
    three: Three, tmp_path: Path
) -> None:
    three.targets = [f"{three.same.host}/org/app", f"{three.renamed.host}/hub/org/app"]
    three.write()
    sealift("sync", "app")
    with scratch_folder() as folder:
        process = containerd_of(folder)
        try:
            until(lambda: ctr(folder, "version").returncode == 0, 30.0, process.tail)
            certs = tmp_path / "certs.d"
            sealift("clients", "app", "--format", "containerd", "--out", str(certs))
            three.source.stop()
            for stopped, asked in ((None, three.same), (three.same, three.renamed)):
                if stopped:
                    stopped.stop()
                asked.forget_requests()
                done = fetched(folder, certs, three.image)
                assert done.returncode == 0, f"{done.stderr}{done.stdout}{process.tail()}"
                shown = ctr(folder, "images", "ls").stdout
                assert IMAGE.digest in shown
                assert any("/manifests/" in one.path for one in asked.requests())
        finally:
            process.stop()


@pytest.mark.skipif(shutil.which("podman") is None, reason="podman is not installed (make test-deps)")
def test_the_step_of_a_workflow_pulls_from_the_next_registry(three: Three, tmp_path: Path) -> None:
    sealift("clients", "app", "--format", "github", "--out", f"{tmp_path}/")
    (step,) = yaml.safe_load((tmp_path / "app-step.yaml").read_text())
    conf, bin_dir, output = tmp_path / "plain.conf", tmp_path / "bin", tmp_path / "output"
    conf.write_text(
        "".join(
            f'[[registry]]\nlocation = "{one.host}"\ninsecure = true\n'
            for one in (three.source, three.same, three.renamed)
        )
    )
    bin_dir.mkdir()
    (bin_dir / "docker").symlink_to(shutil.which("podman") or "podman")
    storage = tmp_path / "storage.conf"
    storage.write_text(
        f'[storage]\ndriver = "vfs"\ngraphroot = "{tmp_path}/graph"\nrunroot = "{tmp_path}/run"\n'
    )
    three.same.stop()
    environment = {
        **os.environ,
        **step["env"],
        "PATH": f"{bin_dir}:{os.environ['PATH']}",
        "GITHUB_OUTPUT": str(output),
        "CONTAINERS_REGISTRIES_CONF": str(conf),
        "CONTAINERS_STORAGE_CONF": str(storage),
    }
    words = ["bash", "-e", "-c", step["run"]]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    assert output.read_text() == f"image={three.targets[1]}:1\n"


def test_a_run_that_left_tags_behind_leaves_the_target_out_until_one_brings_them(three: Three) -> None:
    newer: Image = build_image({"bin/app": b"two"})
    push(f"{three.source.host}/org/app", newer, "2")
    three.write(finalize="each")
    three.renamed.stop()
    sealift("sync", "app", "--timeout", "10", code=5)
    rows = rows_of()
    assert rows[three.targets[1]]["left_out"] == "behind: 1, 2 not current there"
    assert rows[three.targets[0]]["left_out"] is None
    assert rows[three.targets[0]]["resolves"] is False

    three.renamed.restart()
    sealift("sync", "app")
    rows = rows_of()
    assert {row["left_out"] for row in rows.values()} == {None}


def test_what_verifying_found_missing_leaves_the_target_out_until_it_is_mended(three: Three) -> None:
    manifest = three.renamed.storage / "docker/registry/v2/repositories/elsewhere/_manifests/tags/1"
    shutil.rmtree(manifest)
    sealift("verify", "app", code=1)
    done = sealift("clients", "app", "-f", "kubernetes")
    assert (
        f"left out: {three.targets[1]}: not whole: tags found 1 missing when it was verified" in done.stderr
    )
    assert yaml.safe_load(done.stdout)["spec"]["containers"][0]["image"] == f"{three.targets[0]}:1"

    sealift("verify", "app", "--repair")
    assert "left out" not in sealift("clients", "app", "-f", "kubernetes").stderr


def test_a_file_of_somebody_elses_stays_and_our_own_is_replaced(three: Three, tmp_path: Path) -> None:
    del three
    foreign = tmp_path / "registries.conf"
    foreign.write_text("[[registry]]\n")
    words = ["clients", "app", "-f", "containers", "--out"]
    assert "was not made for app" in sealift(*words, str(foreign), code=2).stderr
    assert foreign.read_text() == "[[registry]]\n"
    for _ in range(2):
        sealift(*words, str(tmp_path / "own.conf"))
