"""The image: what deploy/Dockerfile puts into it, and that it starts as the chart starts it."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from fnmatch import fnmatch

from tests.support.chart import ROOT, SETTINGS

DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
INSTRUCTION = re.compile(r"^([A-Z]+) ((?:.*\\\n)*.*)$", re.MULTILINE)


def instructions(name: str) -> list[str]:
    found = [text.replace("\\\n", " ") for word, text in INSTRUCTION.findall(DOCKERFILE) if word == name]
    assert found, name
    return found


def copied() -> set[str]:
    """What is taken from the repository."""
    lines = [shlex.split(line) for line in instructions("COPY") if not line.startswith("--from")]
    bound = re.findall(r"type=bind,source=([^,]+),", DOCKERFILE)
    return {word for line in lines for word in line[:-1]} | set(bound)


def test_everything_that_is_installed_is_copied() -> None:
    project = PROJECT["project"]
    packages = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    wanted = {*packages, project["readme"], *project["license-files"], "pyproject.toml", "uv.lock"}
    assert copied() == wanted
    assert all((ROOT / name).exists() for name in wanted)


def test_the_build_is_sent_what_it_copies_and_little_else() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == copied()
    assert fnmatch("config/__pycache__", rules[-1])


def test_it_installs_what_its_commands_need_and_no_tools_of_ours() -> None:
    for line in instructions("RUN"):
        assert "--locked" in line
        assert "--no-default-groups" in line
        assert set(re.findall(r"--extra (\S+)", line)) == {"flower", "notify"}
    assert "flower" in PROJECT["project"]["optional-dependencies"]


def test_it_starts_without_a_shell_as_a_number_in_an_empty_folder() -> None:
    (entrypoint,) = instructions("ENTRYPOINT")
    assert json.loads(entrypoint) == list(PROJECT["project"]["scripts"])
    assert instructions("USER") == ["65532:65532"]
    last_stage = DOCKERFILE.rpartition("\nFROM ")[2]
    (folder,) = re.findall(r"^WORKDIR (\S+)", last_stage, re.MULTILINE)
    assert not re.search(rf"^COPY .* {folder}", last_stage, re.MULTILINE)


def test_every_variable_it_sets_for_us_is_a_setting() -> None:
    named = set(re.findall(r"\bSEALIFT_[A-Z_]+", DOCKERFILE))
    assert named
    assert named <= SETTINGS
