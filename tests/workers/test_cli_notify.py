"""``sealift notify`` and ``sealift events``: what they send, show and refuse, without a fleet that runs."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from config.fleet import parse_fleet
from config.notification import EventName
from mirror.ledger.events import Name
from tasks.terms import check_fleet
from tests.support.listening import Listener
from tests.support.typed import typed
from workers.cli import main

SECRET = "s3cr3t-t0ken-4711"


@pytest.fixture(autouse=True)
def own_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEALIFT_STATE_DIR", str(tmp_path / "state"))
    for name in ("SEALIFT_REDIS_URL", "SEALIFT_FLEET_FILE", "TEAM_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def listener() -> Iterator[Listener]:
    with Listener() as listener:
        yield listener


def write(*receivers: str) -> None:
    Path("sealift.yaml").write_text("".join(["notify:\n", *(f"  - {{{one}}}\n" for one in receivers)]))


def test_a_trial_is_sent_to_each_and_what_came_of_it_said(
    listener: Listener, capsys: pytest.CaptureFixture[str]
) -> None:
    write(f"name: team, to: '{listener.url}'", "name: away, to: 'json://127.0.0.1:1/'")

    assert main(["notify", "test"]) == 1

    out = capsys.readouterr().out.splitlines()
    assert out[0] == "team: sent"
    assert out[1].startswith("away: not reached: ")
    assert listener.titles == ["Sealift · a trial"]
    assert "receiver team is told" in listener.messages[0]["message"]


def test_a_trial_of_one_receiver(listener: Listener, capsys: pytest.CaptureFixture[str]) -> None:
    write(f"name: team, to: '{listener.url}'", "name: away, to: 'json://127.0.0.1:1/'")

    assert main(["notify", "test", "team", "--json"]) == 0

    document = json.loads(capsys.readouterr().out)
    assert document["receivers"] == [{"receiver": "team", "sent": True, "error": None}]


def test_an_unknown_receiver_is_a_mistake_of_usage(capsys: pytest.CaptureFixture[str]) -> None:
    write("name: team, to: 'json://127.0.0.1:1/'")
    assert main(["notify", "test", "temas"]) == 2
    assert capsys.readouterr().err == "sealift: there is no receiver 'temas'; there is: team\n"


def test_without_receivers_it_says_where_one_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["notify", "test"]) == 3
    assert "docs/notifications.md shows one" in capsys.readouterr().err
    assert main(["notify"]) == 0
    assert capsys.readouterr().out == "Nobody is told: the fleet file has no `notify`.\n"


@pytest.mark.parametrize(
    ("to", "told"),
    [
        (
            f"slack://{SECRET}/b/c",
            "an address that may hold a secret must not stand in this file; write env:",
        ),
        (f"json://u:{SECRET}@host/", "an address that may hold a secret must not stand in this file"),
        (f"json://host/?+X={SECRET}", "an address that may hold a secret must not stand in this file"),
        (f"json://host/{SECRET}", "an address that may hold a secret must not stand in this file"),
        (f"jsons://host#{SECRET}", "an address that may hold a secret must not stand in this file"),
        ("json://", "an address that may hold a secret must not stand in this file"),
        ("json://host:0", "a port is a number from 1 to 65535; without one it is the scheme's own"),
        ("json://host:65536/", "a port is a number from 1 to 65535; without one it is the scheme's own"),
        ("env:NOT-A-NAME", "env: must be followed by the name of an environment variable"),
        ("env:TEAM_URL", "the environment variable TEAM_URL is not set; export it"),
    ],
)
def test_an_address_that_cannot_be_used_is_one_line_and_exit_3(
    to: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write(f"name: team, to: '{to}'")
    assert main(["notify", "test"]) == 3
    err = capsys.readouterr().err
    assert told in err
    assert "sealift.yaml:2: notify[0].to: " in err
    assert len(err.splitlines()) == 1
    assert SECRET not in err


def test_a_variable_that_holds_no_address_is_one_line_and_exit_3_before_anybody_is_told(
    listener: Listener, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(f"name: first, to: '{listener.url}'", "name: team, to: 'env:TEAM_URL'")
    monkeypatch.setenv("TEAM_URL", f"slack://{SECRET}")
    assert main(["notify", "test"]) == 3
    out, err = capsys.readouterr()
    assert "sealift.yaml:3: notify[1].to: what env:TEAM_URL holds is no address that Apprise can use" in err
    assert SECRET not in out + err
    assert listener.messages == []


def test_receivers_are_listed_without_what_their_addresses_hold(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEAM_URL", f"slack://{SECRET}/{SECRET}/{SECRET}")
    write("name: team, to: 'env:TEAM_URL', on: [conflict, failed]", "name: hook, to: 'json://h.example'")

    assert main(["notify"]) == 0
    out = capsys.readouterr().out
    assert "env:TEAM_URL" in out
    assert "conflict, failed" in out
    assert "json://h.example " in out
    assert SECRET not in out
    assert main(["notify", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["receivers"]
    assert [(one["receiver"], one["to"], one["standing"]) for one in rows] == [
        ("team", "env:TEAM_URL", None),
        ("hook", "json://h.example", None),
    ]


def test_where_nothing_has_run_there_are_no_events(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["events"]) == 0
    assert capsys.readouterr().out == "Nothing has happened that is worth telling.\n"
    assert main(["events", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["events"] == []


@pytest.mark.parametrize("words", [["events", "--limit", "0"], ["events", "--limit", "2001"]])
def test_so_many_events_are_no_number(words: list[str]) -> None:
    assert main(words) == 2


@pytest.mark.fleet
def test_a_fleet_of_the_commands_own_tells_before_it_ends(listener: Listener) -> None:
    write(f"name: team, to: '{listener.url}'")
    with Path("sealift.yaml").open("a") as file:
        file.write("mirrors:\n  - {name: app, source: 'oci:nowhere', targets: ['127.0.0.1:1/app']}\n")

    done = typed("sync")
    assert done.returncode == 1, done.stderr
    assert "receiver team was told of 1 event" in done.stderr
    assert listener.titles == ["Sealift · app: run failed"]

    listener.stop()
    assert "receiver" not in typed("sync").stderr, "the same failure: nothing to tell"
    events = typed("events")
    assert events.returncode == 0
    assert events.stdout.count("app: run failed. ") == 1
    assert "`sealift status " in events.stdout


PAGE = (Path(__file__).parents[2] / "docs" / "notifications.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
LINES = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]


def test_what_the_page_shows_is_a_fleet_file() -> None:
    (example,) = EXAMPLES
    fleet = parse_fleet(example)
    check_fleet(fleet)
    assert [one.name for one in fleet.notify] == ["team", "board"]


@pytest.mark.parametrize("line", LINES)
def test_every_command_of_the_page_does_what_is_said_there(
    line: str, listener: Listener, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("sealift.yaml").write_text(EXAMPLES[0].replace("json://board.internal:8080", listener.url))
    monkeypatch.setenv("TEAM_URL", listener.url)
    program, *words = shlex.split(line, comments=True)

    assert program == "sealift"
    assert main(words) == 0
    assert capsys.readouterr().out
    told = {"notify test": 2, "notify test board": 1}
    assert len(listener.messages) == told.get(" ".join(words), 0)


def test_the_page_has_a_row_for_each_event() -> None:
    table = PAGE.partition("## What is told")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE)
    assert [name for row in rows for name in re.findall(r"`(\w+)`", row)] == list(get_args(EventName))
    assert get_args(EventName) == get_args(Name), "config/ knows nothing of ours, and says them itself"
