"""``sealift probe``: measured by an embedded fleet, and what is said where there is nothing to say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from registry.memory import MemoryRegistry
from tests.support.ports import free_port
from tests.support.typed import typed
from workers.cli import main


@pytest.fixture(autouse=True)
def _own_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEALIFT_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("SEALIFT_WORKER_PROCESSES", "1")
    monkeypatch.delenv("SEALIFT_REDIS_URL", raising=False)
    monkeypatch.delenv("SEALIFT_FLEET_FILE", raising=False)


@pytest.fixture
def registries() -> Iterator[tuple[MemoryRegistry, MemoryRegistry]]:
    with ExitStack() as stack:
        source, target = (stack.enter_context(MemoryRegistry()) for _ in range(2))
        yield source, target


def write(source: str, *targets: str) -> None:
    mirror = {"name": "app", "source": f"{source}/app", "targets": [f"{one}/app" for one in targets]}
    Path("sealift.yaml").write_text(json.dumps({"mirrors": [mirror]}))


@pytest.mark.fleet
def test_a_probe_shows_what_was_measured_and_ends_with_1_where_a_registry_is_not_up(
    registries: tuple[MemoryRegistry, MemoryRegistry],
) -> None:
    source, target = registries
    dead = f"127.0.0.1:{free_port()}"
    write(source.host, target.host, dead)

    done = typed("probe")

    assert done.returncode == 1, done.stderr
    head, *rows = done.stdout.splitlines()
    assert head.split()[:4] == ["REGION", "REGISTRY", "STATE", "GREETING"]
    states = {row.split()[1]: row.split()[2] for row in rows}
    assert states == {source.host: "up", target.host: "up", dead: "failing"}
    assert rows[-1].split()[1] == dead, "the best comes first"
    assert "refused" in rows[-1].lower()
    assert f"not up: {dead} from local" in done.stderr

    document = json.loads(typed("probe", "--last", "--json").stdout)
    assert document["schema"] == 1
    assert [row["host"] for row in document["probes"]][-1] == dead
    assert source.count("ping") == 1, "nothing was measured"


def test_where_nothing_was_probed_yet_no_fleet_is_started_to_say_so(
    registries: tuple[MemoryRegistry, MemoryRegistry], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    source, target = registries
    write(source.host, target.host)

    assert main(["probe", "--last"]) == 0

    assert capsys.readouterr().out == "Nothing was probed yet.\n"
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["probe", "ap"], 2, "app"),
        (["probe", "--region", "eu"], 2, "no mirror has a target in region 'eu'; there is: local"),
    ],
)
def test_what_there_is_not_is_named_with_what_there_is(
    words: list[str], code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write("one.example", "two.example")
    assert main(words) == code
    assert text in capsys.readouterr().err


def test_without_a_fleet_file_it_says_what_to_write(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe"]) == 3
    assert "there is no fleet file" in capsys.readouterr().err
