"""The action, its example and our own workflow, as others judge them; and the page that tells of them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.support.chart import ROOT
from tests.support.runner import ACTION

WORKFLOWS = (".github/workflows/ci.yml", "docs/examples/publish.yml")
PINS = ROOT / ".ci" / "uv.txt"
BIN = Path(sys.executable).parent
ROW = re.compile(r"^\| `([a-z-]+)` \| (.*?) \|(?: (.*?) \|)?$", re.MULTILINE)
BAD = """\
on: push
jobs:
  a:
    runs-on: ubuntu-24.04
    steps:
      - run: echo ${{ github.event.head_commit.message }} $X
"""


def judged(*words: str | Path) -> str:
    """What a program of our environment finds fault with; skips where it is not installed."""
    binary = shutil.which(words[0], path=str(BIN))
    if binary is None:
        pytest.skip(f"{words[0]} is not installed (make deploy-check)")
    done = subprocess.run(
        [binary, *words[1:]], capture_output=True, text=True, check=False, timeout=60, cwd=ROOT
    )
    return done.stdout + done.stderr if done.returncode else ""


def zizmor(*files: str | Path) -> str:
    return judged("zizmor", "--offline", "--no-progress", "--config", ".github/zizmor.yml", *files)


def actionlint(*files: str | Path) -> str:
    return judged("actionlint", f"-shellcheck={BIN / 'shellcheck'}", *files)


def test_zizmor_likes_the_action_and_the_workflows() -> None:
    assert not zizmor("action.yml", *WORKFLOWS)


def test_actionlint_likes_the_workflows() -> None:
    assert not actionlint(*WORKFLOWS)


def test_they_are_what_githubs_schemas_allow() -> None:
    assert not judged("check-jsonschema", "--builtin-schema", "vendor.github-actions", "action.yml")
    assert not judged("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *WORKFLOWS)


def test_the_judges_find_what_is_bad(tmp_path: Path) -> None:
    folder = tmp_path / ".github" / "workflows"
    folder.mkdir(parents=True)
    bad = folder / "bad.yml"
    bad.write_text(BAD)
    assert "template-injection" in zizmor(bad)
    assert "SC2086" in actionlint(bad)


def test_an_image_is_named_in_small_letters_whoever_owns_the_repository(tmp_path: Path) -> None:
    text = (ROOT / WORKFLOWS[1]).read_text()
    (script,) = [step for step in _steps(yaml.safe_load(text)) if step.get("id") == "image"]
    output = tmp_path / "output"

    subprocess.run(
        ["bash", "-eo", "pipefail", "-c", script["run"]],
        env={"REPOSITORY": "Team/App", "GITHUB_OUTPUT": str(output)},
        check=True,
        timeout=60,
    )

    assert output.read_text() == "name=ghcr.io/team/app\n"
    assert "ghcr.io/${{" not in text


def test_uv_is_one_version_everywhere_and_known_by_its_hashes() -> None:
    """What is installed is in no lock file, where the installer is whatever is newest."""
    name, *hashes = re.findall(
        r"^(?! *#)(?:uv==(\S+)| +--hash=sha256:[0-9a-f]{64})", PINS.read_text(), re.MULTILINE
    )
    installs = [
        line
        for file in ("action.yml", "Makefile")
        for line in (ROOT / file).read_text().splitlines()
        if "pip install" in line
    ]
    assert len(installs) == 2
    assert hashes
    assert all(line.endswith(f"-r {PINS.relative_to(ROOT)}") for line in installs)
    assert f"/uv:{name} " in (ROOT / "deploy" / "Dockerfile").read_text()


@pytest.mark.parametrize("step", ACTION["runs"]["steps"], ids=lambda step: step["name"])
def test_shellcheck_likes_what_the_action_runs(step: dict[str, str], tmp_path: Path) -> None:
    script = tmp_path / "script.sh"
    script.write_text(f"#!/usr/bin/env bash\nset -eo pipefail\n{step['run']}\n")
    assert not judged("shellcheck", script)


def test_the_page_lists_every_input_and_output_and_no_others() -> None:
    text = (ROOT / "docs" / "action.md").read_text()
    inputs, outputs = text.split("## Inputs")[1].split("## Outputs")
    listed = {name: default for name, default, _ in ROW.findall(inputs)}
    assert listed == {name: _shown(one["default"]) for name, one in ACTION["inputs"].items()}
    assert [name for name, *_ in ROW.findall(outputs.split("\n## ")[0])] == list(ACTION["outputs"])


@pytest.mark.parametrize("place", [*WORKFLOWS, "docs/action.md"])
def test_what_is_shown_uses_inputs_and_outputs_that_there_are(place: str) -> None:
    text = (ROOT / place).read_text()
    documents = (
        [text]
        if place.endswith(".yml")
        else re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    )
    steps = [step for document in documents for step in _steps(yaml.safe_load(document))]
    ours = [step for step in steps if str(step.get("uses", "")).startswith("OWNER/sealift@")]
    assert ours or place == WORKFLOWS[0]
    for step in ours:
        assert set(step["with"]) <= set(ACTION["inputs"])
        assert set(re.findall(rf"steps\.{step.get('id')}\.outputs\.([a-z-]+)", text)) <= set(
            ACTION["outputs"]
        )


def _steps(document: object) -> list[dict[str, str]]:
    if isinstance(document, list):
        return document
    assert isinstance(document, dict)
    return [step for job in document.get("jobs", {}).values() for step in job.get("steps", ())]


def _shown(default: str) -> str:
    return f"`{default}`" if default else ""
