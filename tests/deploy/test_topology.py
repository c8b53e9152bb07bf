"""Compose's fleet as plain processes is read from its file: it cannot be another fleet."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tests.deploy.test_compose import services
from tests.support import composition, topology
from tests.support.chart import ROOT
from tests.support.composition import read
from tests.support.topology import Topology

INSIDE = ("0.0.0.0", "/etc/", "/data", "valkey:6379", "registry-source:", "registry-eu:", "registry-us:")
"""What only a container knows."""


@pytest.fixture
def fleet(tmp_path: Path) -> Topology:
    return Topology(tmp_path, scale={"worker-eu": 2, "worker-us": 2})


def test_the_file_is_understood_as_compose_understands_it() -> None:
    """Commands, environments, numbers, ports and files of every service."""
    theirs, image = services(), composition.image()[0]
    ours = read()
    assert set(ours) == set(theirs)
    for name, service in ours.items():
        other = theirs[name]
        assert list(service.command) == (other["command"] or []), name
        added = image if service.is_ours else {}
        assert service.environment == {**added, **(other.get("environment") or {})}, name
        assert service.replicas == other.get("deploy", {}).get("replicas", 1), name
        ports = {port["target"]: int(port["published"]) for port in other.get("ports", ())}
        assert service.ports == ports, name
        assert list(service.files) == [one["target"] for one in other.get("configs", ())], name
        assert list(service.folders) == [one["target"] for one in other.get("volumes", ())], name
        assert set(service.needs) == set(other.get("depends_on") or ()), name
        assert service.is_asked_for == ("profiles" in other), name
        assert service.grace_s == composition.seconds(other.get("stop_grace_period", "10s")), name


def test_every_service_that_compose_starts_is_a_process(fleet: Topology) -> None:
    started = {name for name, service in services().items() if "profiles" not in service}
    assert {one.service.name for one in fleet.instances.values()} == started
    counted = {name: len(fleet.of(name)) for name in started}
    assert counted == {**dict.fromkeys(started, 1), "beat": 2, "worker-eu": 2, "worker-us": 2}


def test_a_process_of_ours_has_the_command_and_the_settings_of_its_container(fleet: Topology) -> None:
    image = composition.image()[0]
    for one in fleet.instances.values():
        if not one.service.is_ours:
            continue
        theirs = services()[one.service.name]
        words = one.command[one.command.index("workers.cli") + 1 :]
        assert [_inside(word, fleet) for word in words] == _without_addresses(theirs["command"]), one.name
        assert set(one.environment) == (set(image) | set(theirs["environment"])) - {"PATH"}, one.name


def _inside(word: str, fleet: Topology) -> str:
    """The container's port instead of this machine's; no addresses."""
    ports = {str(outer): str(inner) for (_, inner), outer in fleet.ports.items()}
    found = (ports.get(part, "ADDRESS" if part == "127.0.0.1" else part) for part in word.split(":"))
    return ":".join(found)


def _without_addresses(words: list[str]) -> list[str]:
    return [word.replace("0.0.0.0", "ADDRESS") for word in words]


def test_nothing_is_left_that_only_a_container_knows(fleet: Topology) -> None:
    for one in fleet.instances.values():
        files = [path.read_text() for path in one.folder.iterdir() if path.name.endswith(".yaml")]
        told = "\n".join([shlex.join(one.command), *one.environment.values(), *files])
        told = told.replace(str(fleet.folder), "")
        assert not [word for word in INSIDE if word in told], one.name


def test_each_has_a_tmp_and_a_heartbeat_of_its_own(fleet: Topology) -> None:
    ours = [one for one in fleet.instances.values() if one.service.is_ours]
    for name in ("HOME", "SEALIFT_HEARTBEAT_FILE", "SEALIFT_STATE_DIR"):
        places = {one.environment[name] for one in ours}
        assert len(places) == len(ours)
        assert all(place.startswith(str(fleet.folder)) for place in places)


def test_where_hosts_cannot_be_named_workers_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topology, "can_name_hosts", lambda: False)
    fleet = Topology(tmp_path, scale={"worker-eu": 2})
    assert [one.command[-2:] for one in fleet.of("worker-eu")] == [
        ["--name", "worker-eu-1"],
        ["--name", "worker-eu-2"],
    ]


@pytest.mark.parametrize(
    ("word", "instead", "says"),
    [
        ("valkey/valkey:8.1", "example.org/other:1", "valkey: nobody knows how to run example"),
        ("command: [beat]", "command: [beat]\n    stop_signal: SIGINT", "beat: what stop_signal means"),
    ],
)
def test_what_a_process_cannot_be_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str, instead: str, says: str
) -> None:
    text = composition.COMPOSE.read_text().replace(word, instead)
    file = tmp_path / "compose.yaml"
    file.write_text(text.replace("file: ", f"file: {ROOT / 'deploy'}/"))
    monkeypatch.setattr(composition, "read", lambda: read(file))
    with pytest.raises((NotImplementedError, ValueError), match=says):
        Topology(tmp_path / "fleet")
