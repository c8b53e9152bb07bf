"""Other people's judgement: hadolint, yamllint, shellcheck."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.chart import CHART, ROOT

YAML_RULES = """\
extends: default
rules:
  braces: {max-spaces-inside: 0}
  comments: {min-spaces-from-content: 1}
  document-start: disable
  line-length: {max: 140}
"""


def judged(program: str, *arguments: str | Path, text: str | None = None) -> str:
    """What ``program`` of our environment finds fault with; skips where it is not installed."""
    binary = shutil.which(program, path=str(Path(sys.executable).parent))
    if binary is None:
        pytest.skip(f"{program} is not installed (make deploy-check)")
    done = subprocess.run(
        [binary, *arguments], input=text, capture_output=True, text=True, check=False, timeout=60, cwd=ROOT
    )
    return done.stdout + done.stderr if done.returncode else ""


def test_hadolint_likes_the_dockerfile() -> None:
    assert not judged("hadolint", "--failure-threshold", "info", "deploy/Dockerfile")


def test_hadolint_finds_what_is_bad(tmp_path: Path) -> None:
    bad = tmp_path / "Dockerfile"
    bad.write_text("FROM python\nRUN cd /tmp\n")
    assert "DL3006" in judged("hadolint", bad)


def test_yamllint_likes_what_is_written_by_hand() -> None:
    files = [
        *(path for path in (ROOT / "deploy").rglob("*.yaml") if "templates" not in path.parts),
        *CHART.glob("*.yaml"),
    ]
    assert not judged("yamllint", "--strict", "--config-data", YAML_RULES, *files)


def test_shellcheck_likes_our_scripts() -> None:
    scripts = [path for path in (ROOT / ".ci").iterdir() if path.read_bytes().startswith(b"#!")]
    assert scripts
    assert not judged("shellcheck", *scripts)
