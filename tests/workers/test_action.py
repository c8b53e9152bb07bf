"""What the action is asked and how it says what it has to: no registry, no fleet."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.runner import ACTION, commands, use, written
from workers.action import told
from workers.action.inputs import Inputs
from workers.action.page import MOST_ROWS, page, plain
from workers.action.results import Fault, Result, Row, result_of

HOSTILE = "1.0\n::add-path::/evil\r\n##[error]x | [a](b) `c` <script>alert(1)</script>%0A::error::y \u202e"


@pytest.mark.parametrize(
    ("inputs", "line", "code"),
    [
        ({}, "input image is empty", 2),
        ({"image": "a.example/app"}, "input targets is empty", 2),
        ({"image": "a.example/app", "mirrors": "app"}, "inputs image and mirrors", 2),
        ({"mirrors": "app"}, "input config is empty", 2),
        ({"mirrors": "app", "config": "a.yaml", "tags": "*"}, "inputs targets and tags go with image", 2),
        ({"image": "a.example/app", "targets": "b.example/app", "mode": "remote"}, "input mode: 'remote'", 2),
        ({"image": "a.example/app", "targets": "b.example/app", "wait": "no"}, "input wait: 'no'", 2),
        ({"image": "a.example/app", "targets": "b.example/app", "wait": "false"}, "mode local cannot", 2),
        ({"image": "a.example/app", "targets": "b.example/app", "timeout": "1m"}, "input timeout: '1m'", 2),
        ({"image": "a.example/app", "targets": "b.example/app", "timeout": "9" * 5000}, "input timeout", 2),
        ({"image": "a.example/app", "targets": "b.example/app", "mode": "submit"}, "SEALIFT_REDIS_URL", 3),
        ({"mirrors": "app", "config": "nowhere.yaml"}, "nowhere.yaml", 3),
        ({"image": "--help", "targets": "b.example/app"}, "--help", 2),
        ({"image": "a.example/app\n::add-path::/evil", "targets": "b.example/app"}, "add-path", 2),
    ],
)
def test_a_wrong_input_is_one_annotation_that_names_it(
    inputs: dict[str, str], line: str, code: int, tmp_path: Path
) -> None:
    step = use(tmp_path / "step", inputs)

    assert step.code == code, step.log
    (error,) = step.annotations("error")
    assert line in error
    assert not step.others
    assert step.outputs["state"] == "error"
    assert "Traceback" not in step.log


def test_a_fleet_file_with_a_server_is_none_for_mode_local(tmp_path: Path) -> None:
    file = tmp_path / "fleet.yaml"
    file.write_text("redis_url: redis://127.0.0.1:1/0\n")

    step = use(tmp_path / "step", {"image": "a.example/app", "targets": "b.example/app", "config": str(file)})

    assert step.code == 3, step.log
    assert "use mode submit" in step.annotations("error")[0]


def test_a_fleet_that_does_not_answer_is_exit_code_6(tmp_path: Path) -> None:
    asked = {"image": "a.example/app:1", "targets": "b.example/app", "mode": "submit"}

    step = use(tmp_path / "step", asked, {"SEALIFT_REDIS_URL": "redis://:hidden@127.0.0.1:1/0"})

    assert step.code == 6, step.log
    assert "hidden" not in step.log + step.summary
    assert len(step.annotations("error")) == 1


def test_a_secret_that_a_fork_does_not_get_is_said_to_be_missing(tmp_path: Path) -> None:
    asked = {"image": "a.example/app:1", "targets": "b.example/app", "mode": "submit"}

    step = use(tmp_path / "step", asked, {"SEALIFT_REDIS_URL": ""})

    assert step.code == 3, step.log
    (error,) = step.annotations("error")
    assert "pull requests from forks have none" in error


def test_a_defect_is_told_like_the_rest_and_its_traceback_is_obeyed_by_nobody(tmp_path: Path) -> None:
    asked = {"image": "a.example/app:1", "targets": "b.example/app", "config": "~nobody::/x"}

    step = use(tmp_path / "step", asked)

    assert (step.code, step.outputs["state"], step.outputs["exit-code"]) == (1, "error", "1"), step.log
    assert len(step.annotations("error")) == 1
    assert "Traceback" in step.log
    assert not step.others


def test_nothing_is_said_on_stderr_whose_lines_the_runner_may_read_late(tmp_path: Path) -> None:
    """The command repeats what it was given, which may be a stranger's name of a branch."""
    asked = {"image": "a.example/app:##[add-path]/evil", "targets": "b.example/app"}

    step = use(tmp_path / "step", asked)

    assert step.code == 2, step.log
    assert "add-path" in step.log
    assert not step.others, step.log


HOSTILE_FILES = {
    "sealift.yaml": "redis_url: redis://evil.example/0\n",
    "config/__init__.py": "raise SystemExit('theirs')\n",
    "workers/__init__.py": "raise SystemExit('theirs')\n",
    "sitecustomize.py": "raise SystemExit('theirs')\n",
}


def test_nothing_of_the_workspace_is_read_or_imported(tmp_path: Path) -> None:
    """Also where a job has its own code on PYTHONPATH. The port is one on which nobody listens."""
    workspace = tmp_path / "step" / "workspace"
    for name, text in HOSTILE_FILES.items():
        (workspace / name).parent.mkdir(parents=True, exist_ok=True)
        (workspace / name).write_text(text)
    asked = {"image": "127.0.0.1:1/app:1", "targets": "b.example/app", "mode": "submit"}
    env = {"PYTHONPATH": str(workspace), "SEALIFT_REDIS_URL": "redis://127.0.0.1:1/0"}

    step = use(tmp_path / "step", asked, env)
    local = use(tmp_path / "local", {**asked, "mode": "local", "targets": ""}, env)

    assert step.code == 6, step.log
    assert local.code == 2, local.log
    assert "theirs" not in step.log + local.log


def test_every_input_is_handed_to_a_step_and_only_by_the_environment() -> None:
    handed = {value for step in ACTION["runs"]["steps"] for value in step["env"].values()}
    assert {f"${{{{ inputs.{name} }}}}" for name in ACTION["inputs"]} <= handed
    assert not [step for step in ACTION["runs"]["steps"] if "${{" in step["run"]]


def test_every_output_is_one_that_the_step_sets() -> None:
    declared = {one["value"] for one in ACTION["outputs"].values()}
    assert {f"${{{{ steps.mirror.outputs.{name} }}}}" for name in Result(0, "done").outputs("")} == declared


def test_words_that_look_like_options_are_none() -> None:
    words = Inputs(image="--state-dir=/", targets=("--help",), tags=("--all",)).command()
    assert words == ["mirror", "--json", "--to=--help", "--tags=--all", "--", "--state-dir=/"]


def test_an_annotation_is_one_command_whatever_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    told.annotate("error", f"a,b::{HOSTILE}", HOSTILE)

    (one,) = commands(capsys.readouterr().out)
    assert (one.name, one.data) == ("error", HOSTILE)
    assert one.properties == f"title=a,b::{HOSTILE}"


def test_half_a_letter_of_a_stranger_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """JSON can name one half of a pair, which UTF-8 cannot write."""
    monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "output"))

    told.annotate("error", "Sealift", "denied: \ud800")
    told.set_outputs({"run": "\ud800"})

    assert [one.data for one in commands(capsys.readouterr().out)] == ["denied: ?"]


def test_what_is_printed_in_between_is_obeyed_by_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    with told.commands_stopped():
        print(HOSTILE, end="")  # noqa: T201 -- as a command does, with no end of its last line
    told.annotate("notice", "after", "heard")

    assert [one.name for one in commands(capsys.readouterr().out)] == ["notice"]


def test_an_outputs_value_cannot_begin_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "output"
    monkeypatch.setenv("GITHUB_OUTPUT", str(file))

    told.set_outputs({"state": "failed\nEOF\nstate=done\nend-\nstate<<x\ndone\nx", "run": "r"})

    assert [name for name, _ in written(file.read_text())] == ["state", "run"]


def test_a_page_says_names_and_does_nothing_they_say() -> None:
    rows = (Row(HOSTILE, "sha256:ab", "b.example/app", "failed"),)

    text = page(Result(1, "failed", ("r1",), rows, (Fault(HOSTILE),), {"failed": 1}), HOSTILE)

    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 3
    assert table[2].count("|") == 5
    assert not [sign for sign in ("<script", "`", "](", "##[", "\u202e") if sign in text]


def test_of_many_rows_what_went_wrong_comes_first() -> None:
    rows = tuple(Row(f"t{number}", "", "b", "updated") for number in range(5000))

    text = page(Result(1, "failed", (), (*rows, Row("bad", "", "b", "failed"))), "app")

    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert lines[2].startswith("| bad |")
    assert len(lines) == MOST_ROWS + 2
    assert f"{5001 - MOST_ROWS:,} rows more" in text
    assert len(text) < 1_000_000


def test_a_long_reason_is_cut() -> None:
    assert len(plain("#" * 100_000)) < 5_000


@pytest.mark.parametrize(
    ("reason", "kind", "hint"),
    [
        ("ghcr.io/other/app: denied", "Denied", "packages: write"),
        ("ghcr.io/other/app: login needed", "Unauthorized", "docker/login-action"),
        ("eu.example/app: denied", "Denied", ""),
        ("ghcr.io/other/app: not found", "NotFound", ""),
    ],
)
def test_what_lacks_in_a_workflow_is_said(reason: str, kind: str, hint: str) -> None:
    found = Fault(reason, (kind,)).hint
    assert hint in found
    assert bool(hint) == bool(found)


Reports = dict[str, dict[str, str]]


def run(name: str, reports: Reports | None, state: str = "done") -> dict[str, object]:
    """As a document has it; ``reports`` has by target each tag's digest, which is empty where it failed."""
    tags = [
        {"tag": tag, "digest": digest, "targets": [{"repository": target, "state": outcome(digest)}]}
        for target, tags in (reports or {}).items()
        for tag, digest in tags.items()
    ]
    rows = None if reports is None else tags
    return {"run": name, "state": state, "states": {}, "tag_reports": rows, "failures": [], "error": ""}


def outcome(digest: str) -> str:
    return "updated" if digest else "failed"


def test_the_worst_of_several_runs_is_the_state() -> None:
    result = result_of([{"runs": [run("a", {}), run("b", {}, "failed")]}], 1)

    assert (result.state, result.runs) == ("failed", ("a", "b"))


def test_of_several_runs_what_has_ended_is_told_beside_what_has_not() -> None:
    failed = {
        **run("b", {"b/y": {"1": ""}}, "failed"),
        "error": "no such repository",
        "error_kind": "NotFound",
    }
    late = {"error": "run c is not finished after 3 s"}
    submitted = {"runs": [{"run": name} for name in "abc"]}

    result = result_of([submitted, {"runs": [run("a", {"b/x": {"1": ONE}})]}, {"runs": [failed]}, late], 5)

    assert (result.state, result.runs) == ("unfinished", ("a", "b", "c"))
    assert [fault.reason for fault in result.faults] == [late["error"], "no such repository"]
    assert json.loads(result.outputs("")["digests"]) == {"b/x:1": ONE}
    assert result.outputs("")["digest"] == ""


ONE, OTHER = f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"


@pytest.mark.parametrize(
    ("reports", "digests", "digest"),
    [
        ([{"b/x": {"1": ONE}}], {"b/x:1": ONE}, ONE),
        ([{"b/x": {"1": ONE}, "c/x": {"1": ONE}}], {"b/x:1": ONE, "c/x:1": ONE}, ONE),
        ([{"b/x": {"1": ONE}}, {"b/y": {"1": OTHER}}], {"b/x:1": ONE, "b/y:1": OTHER}, ""),
        ([{"b/x": {"1": ONE}, "b/y": {"1": OTHER}}], {"b/x:1": ONE, "b/y:1": OTHER}, ""),
        ([{"b/x": {"1": ONE}, "b/y": {"1": ""}}], {"b/x:1": ONE}, ""),
        ([{"b/x": {"1": ONE}}, None], {}, ""),
        ([{}], {}, ""),
    ],
    ids=["one", "alike", "mirrors-share-a-tag", "repositories-share-a-tag", "failed", "too-many", "nothing"],
)
def test_a_digest_is_told_of_which_reference_it_is(
    reports: list[Reports | None], digests: dict[str, str], digest: str
) -> None:
    """None: a run of so many tags that its document has none of them."""
    has_failed = any("" in tags.values() for one in reports if one for tags in one.values())
    runs = [run(str(number), one) for number, one in enumerate(reports)]

    outputs = result_of([{"runs": runs}], int(has_failed)).outputs("")

    assert (json.loads(outputs["digests"]), outputs["digest"]) == (digests, digest)
