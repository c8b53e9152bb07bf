"""A workflow's step that uses our action, done as GitHub's runner does it: action.yml is read, not known.

Its rules for lines of output are those of the runner's ActionCommandManager: ``::name props::data`` at a
line's start, ``##[name props]data`` anywhere in it, and none of both while commands are stopped. It reads
stdout and stderr as two pipes: here all of stderr comes late.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.support.process import surroundings

ROOT = Path(__file__).parent.parent.parent
ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text())
INSTALL, *REST = ACTION["runs"]["steps"]
BASH = ("bash", "--noprofile", "--norc", "-eo", "pipefail")
TIMEOUT_S = 110
_EXPRESSION = re.compile(r"\$\{\{ *([\w.-]+) *\}\}")
_NEW = re.compile(r"\s*::(?P<name>[\w-]+)(?: (?P<properties>.*?))?::(?P<data>.*)", re.DOTALL)
_OLD = re.compile(r"##\[(?P<name>[\w.-]+)(?: (?P<properties>[^\]]*))?\](?P<data>.*)", re.DOTALL)
_ANNOTATIONS = ("error", "warning", "notice")


@dataclass(frozen=True, slots=True)
class Told:
    """One command that the runner obeys, decoded."""

    name: str
    properties: str
    data: str


@dataclass
class Step:
    """What is left of a step: ``outputs`` by their names in action.yml."""

    code: int = 0
    log: str = ""
    outputs: dict[str, str] = field(default_factory=dict)
    summary: str = ""

    @property
    def obeyed(self) -> list[Told]:
        return list(commands(self.log))

    def annotations(self, level: str) -> list[str]:
        return [one.data for one in self.obeyed if one.name == level]

    @property
    def others(self) -> list[Told]:
        """Commands that are no annotations: ours give none but the stop and its end."""
        return [one for one in self.obeyed if one.name not in _ANNOTATIONS]


def use(
    folder: Path, inputs: Mapping[str, str], env: Mapping[str, str] | None = None, *, installs: bool = False
) -> Step:
    """``uses:`` our action; without ``installs`` the environment of the tests is what was installed.

    The workspace is ``folder / "workspace"``, and may have been filled before.
    """
    unknown = set(inputs) - set(ACTION["inputs"])
    assert not unknown, f"the runner warns of inputs that are none: {unknown}"
    given = {name: inputs.get(name, one["default"]) for name, one in ACTION["inputs"].items()}
    folder.mkdir(exist_ok=True)
    temp, workspace = folder / "temp", folder / "workspace"
    temp.mkdir(exist_ok=True)
    workspace.mkdir(exist_ok=True)
    if not installs:
        (temp / "sealift").symlink_to(sys.prefix)
    known = {f"inputs.{name}": value for name, value in given.items()} | {"runner.temp": str(temp)}
    step = Step()
    for number, part in enumerate([INSTALL, *REST] if installs else REST):
        _do(step, part, folder / str(number), known, {"RUNNER_TEMP": str(temp), **(env or {})})
        if step.code:
            break
    step.outputs = {name: filled(one["value"], known) for name, one in ACTION["outputs"].items()}
    return step


def _do(
    step: Step, part: Mapping[str, Any], folder: Path, known: dict[str, str], env: Mapping[str, str]
) -> None:
    """One ``run:``; its outputs are known to what comes after it."""
    folder.mkdir()
    script, output, summary = (folder / name for name in ("script.sh", "output", "summary.md"))
    script.write_text(filled(part["run"], known))
    output.touch()
    summary.touch()
    own = {name: filled(value, known) for name, value in part["env"].items()}
    runners = {
        "GITHUB_OUTPUT": str(output),
        "GITHUB_STEP_SUMMARY": str(summary),
        "GITHUB_ACTION_PATH": str(ROOT),
    }
    done = subprocess.run(
        [*BASH, str(script)],
        env={**surroundings(), **env, **own, **runners},
        cwd=folder.parent / "workspace",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    step.code = done.returncode
    step.log += f"{done.stdout}\n{done.stderr}"
    step.summary += summary.read_text()
    for name, value in written(output.read_text()):
        known[f"steps.{part.get('id')}.outputs.{name}"] = value


def filled(text: str, known: Mapping[str, str]) -> str:
    """Expressions replaced; what a step did not set is empty."""
    return _EXPRESSION.sub(lambda found: known.get(found[1], ""), text)


def written(text: str) -> Iterator[tuple[str, str]]:
    """Names and values of a GITHUB_OUTPUT file."""
    lines = iter(text.splitlines())
    for line in lines:
        name, mark, end = line.partition("<<")
        if mark and "=" not in name:
            value = []
            for inner in lines:
                if inner == end:
                    break
                value.append(inner)
            else:
                raise AssertionError(f"{name}: no {end}")
            yield name, "\n".join(value)
        else:
            name, equals, value_text = line.partition("=")
            assert equals, line
            yield name, value_text


def commands(log: str) -> Iterator[Told]:
    """What the runner obeys of a step's output, stops and their ends left out."""
    token = ""
    for line in re.split(r"\r\n|\r|\n", log):
        found = _NEW.match(line) or _OLD.search(line)
        if token:
            if found and found["name"] == token:
                token = ""
        elif found and found["name"] == "stop-commands":
            token = found["data"].strip()
        elif found:
            yield Told(found["name"], _decoded(found["properties"] or ""), _decoded(found["data"]))
    assert not token, "commands are stopped and stay so"


def _decoded(text: str) -> str:
    for code, letter in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
        text = text.replace(code, letter)
    return text
