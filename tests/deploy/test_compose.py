"""deploy/compose.yaml, as Compose itself understands it."""

from __future__ import annotations

import json
import os
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from config.fleet import load_fleet
from tasks.terms import check_fleet
from tests.conftest import RegistryFactory
from tests.support.chart import ROOT, SETTINGS, check_command
from tests.support.composition import seconds
from tests.support.process import surroundings
from tests.support.skopeo import needs_skopeo, skopeo
from workers import leaving, processes

FILE = ROOT / "deploy" / "compose.yaml"
FLEET_FILE = ROOT / "deploy" / "compose" / "sealift.yaml"


def compose(*arguments: str, file: Path = FILE) -> subprocess.CompletedProcess[str]:
    # The package's own console script says 0 whatever Compose says.
    package = pytest.importorskip("compose", reason="Compose is not installed (make deploy-check)")
    binary = Path(package.__file__).with_name("docker-compose")
    environment = {name: value for name, value in os.environ.items() if name != "FLOWER_BASIC_AUTH"}
    return subprocess.run(
        [binary, "-f", file, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=environment,
    )


@cache
def services() -> dict[str, dict[str, Any]]:
    done = compose("--profile", "*", "config", "--format", "json")
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, Any]] = json.loads(done.stdout)["services"]
    return found


def ours() -> dict[str, dict[str, Any]]:
    return {name: service for name, service in services().items() if service["image"] == "sealift"}


def test_compose_has_nothing_to_say_about_it(tmp_path: Path) -> None:
    done = compose("config", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    wrong = tmp_path / "compose.yaml"
    wrong.write_text("services: {a: {image: b, replica: 2}}\n")
    assert compose("config", "--quiet", file=wrong).returncode != 0


def test_it_is_the_whole_fleet() -> None:
    fleet = load_fleet(FLEET_FILE)
    check_fleet(fleet)
    regions = {target.region for mirror in fleet.mirrors for target in mirror.targets}
    told = {name: service["command"] for name, service in ours().items()}
    assert {words[-1] for name, words in told.items() if name.startswith("worker-")} == regions
    assert {"beat", "exporter", "flower", "serve"} <= set(told)
    assert services()["beat"]["deploy"]["replicas"] == 2
    hosts = {name for name in services() if name.startswith("registry-")}
    assert {host.partition(":")[0] for host in fleet.registries} == hosts


@pytest.mark.parametrize("name", ["worker-eu", "worker-us", "beat", "exporter", "flower", "serve", "sealift"])
def test_every_command_is_one_with_these_options(name: str) -> None:
    check_command(ours()[name]["command"])


def test_every_variable_is_a_setting() -> None:
    named = {name for service in ours().values() for name in service["environment"]}
    assert named <= SETTINGS | {"FLOWER_BASIC_AUTH", "SOURCE_HOOK_SECRET"}


def test_a_worker_has_more_time_to_leave_than_it_takes() -> None:
    for name, service in ours().items():
        if name.startswith("worker-"):
            soft_s = float(service["environment"]["SEALIFT_SOFT_SHUTDOWN_S"])
            longest_s = soft_s + leaving.LET_GO_S + leaving.GOODBYE_S
            assert seconds(service["stop_grace_period"]) > longest_s


@pytest.mark.parametrize(("span", "meant"), [("1m", 60), ("1m0s", 60), ("45s", 45), ("2m3.5s", 123.5)])
def test_spans_are_read_as_compose_writes_them(span: str, meant: float) -> None:
    assert seconds(span) == meant


def test_nothing_is_open_to_other_machines() -> None:
    ports = [port for service in services().values() for port in service.get("ports", ())]
    assert ports
    assert {port["host_ip"] for port in ports} == {"127.0.0.1"}


def test_our_containers_have_no_rights_and_write_to_tmp_only() -> None:
    for name, service in ours().items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["tmpfs"] == ["/tmp:mode=1777"], name


def test_the_server_reads_the_fleets_own_configuration() -> None:
    valkey = services()["valkey"]
    assert valkey["command"][1] == valkey["configs"][0]["target"]
    assert "file: valkey.conf" in FILE.read_text()


@needs_skopeo
def test_its_seed_is_an_image_that_other_tools_read(registry_factory: RegistryFactory) -> None:
    source = registry_factory().host
    words = [*services()["seed"]["entrypoint"][1:2], str(ROOT / "deploy" / "compose" / "seed.py")]
    tags = services()["seed"]["command"][1:]
    subprocess.run(
        [processes.python("")[0], *words, f"{source}/demo/hello", *tags],
        check=True,
        timeout=60,
        env=surroundings(),
        cwd=ROOT.parent,
        stdout=subprocess.DEVNULL,
    )
    listed = json.loads(skopeo("list-tags", "--tls-verify=false", f"docker://{source}/demo/hello"))
    assert set(listed["Tags"]) == set(tags) == {"1.0", "1.1", "latest"}
    raw = [
        skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{source}/demo/hello:{tag}")
        for tag in ("1.0", "1.1", "latest")
    ]
    assert raw[0] != raw[1] == raw[2]
