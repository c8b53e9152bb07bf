"""What goes wrong before any fleet is needed: one line on stderr, the right exit code, never a trace."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mirror.ledger import Ledger, promises
from tasks import canvas
from tests.support.valkey import ValkeyServer
from workers.cli import main
from workers.state import StateBusy, StateFolder

FLEET = """\
mirrors:
  - name: explorer
    source: ghcr.io/a/explorer
    targets: [localhost:5000/explorer]
"""


@pytest.fixture(autouse=True)
def own_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder and a state of the test's own; main() writes its options to the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEALIFT_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("SEALIFT_FLEET_FILE", "x")
    monkeypatch.delenv("SEALIFT_FLEET_FILE")
    monkeypatch.delenv("SEALIFT_REDIS_URL", raising=False)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ("bogus", 2, "No such command 'bogus'"),
        ("mirror alpine", 2, "Missing option '--to'"),
        ("mirror UPPER/x --to localhost:1/x", 2, "lower case"),
        ("mirror alpine:3 --to docker.io/library/alpine", 2, "is the source itself"),
        ("mirror alpine --to localhost:1/x --no-wait", 2, "`sealift up`"),
        ("mirror alpine --to localhost:1/x --timeout -1", 2, "--timeout"),
        ("plan alpine ubuntu --to localhost:1/x", 2, "exactly one SOURCE"),
        ("plan --tags 3.*", 2, "SOURCE and --to"),
        ("sync", 3, "there is no fleet file sealift.yaml"),
        ("sync --fleet-file other.yaml", 3, "other.yaml: there is no such file"),
        ("config check", 3, "there is no such file"),
        ("status 5b14", 2, "no run '5b14'"),
        ("watch 5b14", 2, "no run '5b14'"),
        ("worker --region eu", 3, "set SEALIFT_REDIS_URL"),
        ("beat", 3, "beat needs the Redis of its fleet: set SEALIFT_REDIS_URL"),
        ("worker --region control", 2, "Sealift's own queue"),
    ],
)
def test_an_expected_error_is_one_line_and_a_code(
    words: str, code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words.split()) == code

    printed = capsys.readouterr()
    assert says in printed.err
    assert "Traceback" not in printed.err
    assert printed.out == ""


def test_with_json_an_error_is_one_object_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "5b14", "--json"]) == 2

    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["exit_code"]) == (1, 2)
    assert "5b14" in document["error"]


def test_an_unknown_mirror_is_answered_with_the_nearest_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sealift.yaml").write_text(FLEET)

    assert main(["sync", "explorr"]) == 2

    assert 'did you mean "explorer"?' in capsys.readouterr().err


def test_the_fleet_file_s_errors_name_file_line_and_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sealift.yaml").write_text(FLEET.replace("source:", "sorce:"))

    assert main(["sync"]) == 3

    assert "sealift.yaml:3: mirrors[0].sorce" in capsys.readouterr().err


def test_a_fleet_file_without_faults_is_said_to_be_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sealift.yaml").write_text(FLEET)

    assert main(["config", "check"]) == 0

    assert "1 mirror, 1 region: local. No problems." in capsys.readouterr().out


def test_a_setting_out_of_bounds_is_named_without_its_value(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SEALIFT_COPY_THREADS", "hunter2")

    assert main(["runs"]) == 3

    printed = capsys.readouterr().err
    assert "SEALIFT_COPY_THREADS" in printed
    assert "hunter2" not in printed


def test_an_unreachable_broker_is_code_6_and_its_password_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SEALIFT_REDIS_URL", "redis://user:hunter2@127.0.0.1:1/0")

    assert main(["runs"]) == 6

    printed = capsys.readouterr().err
    assert "does not answer" in printed
    assert "hunter2" not in printed


def test_runs_that_no_replica_confirms_are_named_all_the_same(
    valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SEALIFT_REDIS_URL", valkey.url)
    monkeypatch.setenv("SEALIFT_CONFIRM_REPLICAS", "1")
    monkeypatch.setattr(promises, "CONFIRM_MS", 200)
    monkeypatch.setattr(canvas, "send_enumerate", lambda *_: None)  # Celery knows an earlier test's broker

    code = main(["mirror", "src.example/app:1.0", "--to", "eu=eu.example/app", "--no-wait"])

    said = capsys.readouterr()
    with valkey.client() as client:
        (run,) = Ledger(client, "sealift:").runs()
    assert (code, said.out.split()) == (0, [run.run]), said.err
    assert "a Redis that takes over now may not know of this" in said.err


def test_a_taken_state_folder_is_code_3(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def taken(folder: StateFolder) -> int:
        raise StateBusy(folder.path, 4711)

    monkeypatch.setattr(StateFolder, "claim", taken)

    assert main(["mirror", "localhost:1/x:1", "--to", "localhost:2/x"]) == 3

    assert "process 4711" in capsys.readouterr().err


def test_without_any_run_none_is_listed_and_no_server_started(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["runs"]) == 0

    assert capsys.readouterr().out == "No runs yet.\n"
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("verbose", [False, True])
def test_a_defect_is_a_short_line_and_its_trace_is_for_who_asks(
    verbose: bool,  # noqa: FBT001 -- a parameter of the test
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def broken(_: StateFolder) -> int:
        raise ZeroDivisionError("Authorization: Bearer abcdefghijkl")

    monkeypatch.setattr(StateFolder, "claim", broken)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    assert main(["mirror", "localhost:1/x:1", "--to", "localhost:2/x", *(["-v"] if verbose else [])]) == 1

    printed = capsys.readouterr().err
    assert "unexpected ZeroDivisionError" in printed
    assert ("Traceback" in printed) is verbose
    kept = "".join(path.read_text() for path in tmp_path.glob("sealift-*.log"))
    assert ("Traceback" in kept) is not verbose
    assert "abcdefghijkl" not in kept


@pytest.mark.parametrize("show", [["config", "show"], ["config", "show", "--json"], ["config", "schema"]])
def test_configuration_is_shown_without_secrets(
    show: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SEALIFT_REDIS_URL", "redis://user:hunter2@127.0.0.1:1/0")

    assert main(show) == 0

    assert "hunter2" not in capsys.readouterr().out


def test_a_ctrl_c_is_code_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: object) -> Callable[[], None]:
        raise KeyboardInterrupt

    monkeypatch.setattr(StateFolder, "claim", interrupted)

    assert main(["mirror", "localhost:1/x:1", "--to", "localhost:2/x"]) == 130

    assert "interrupted" in capsys.readouterr().err
