"""deploy/compose.yaml, its services and what is in their containers, as values: read, never repeated."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "deploy" / "compose.yaml"
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
_DEFAULTED = re.compile(r"\$\{(?P<name>\w+):-(?P<default>[^}]*)\}")
_UNDERSTOOD = {
    *("image", "entrypoint", "command", "environment", "deploy", "ports", "configs", "volumes", "depends_on"),
    *("profiles", "restart", "healthcheck", "stop_grace_period"),
}
_ONLY_CONTAINERS = {"build", "read_only", "tmpfs", "cap_drop", "security_opt"}
"""A process runs without what these say, or has it anyway."""
_SPAN = re.compile(r"(?:(?P<minutes>\d+)m)?(?:(?P<seconds>\d+(?:\.\d+)?)s)?")
_LINE_END = re.compile(r"\\\n\s*")


@dataclass(frozen=True, slots=True)
class Service:
    """What one entry of ``services`` says, and for images of ours what the Dockerfile adds to it."""

    name: str
    image: str
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    environment: Mapping[str, str]
    replicas: int
    ports: Mapping[int, int]
    """Of this machine, by those of the container."""
    files: Mapping[str, Path]
    """Of the repository, by where they are in the container."""
    folders: tuple[str, ...]
    """Where volumes are in the container."""
    needs: tuple[str, ...]
    """Services that are well before this one starts."""
    is_asked_for: bool
    """Not started by ``up``: one command."""
    restarts: bool
    probe: tuple[str, ...]
    """The command that says whether it is well; empty where there is none."""
    grace_s: float
    """From SIGTERM to SIGKILL."""

    @property
    def is_ours(self) -> bool:
        return self.image == "sealift"


def read(file: Path = COMPOSE) -> dict[str, Service]:
    """By name, in the file's order."""
    document = yaml.safe_load(_interpolated(file.read_text()))
    sources = {name: file.parent / entry["file"] for name, entry in document["configs"].items()}
    return {name: _service(name, entry, sources) for name, entry in document["services"].items()}


def image() -> tuple[dict[str, str], list[str]]:
    """Environment and entry point of our own image, by the last stage of its Dockerfile."""
    stage = _LINE_END.sub(" ", DOCKERFILE.read_text()).rpartition("\nFROM ")[2].splitlines()
    settings = [word for line in stage if line.startswith("ENV ") for word in shlex.split(line[4:])]
    (entry,) = (line for line in stage if line.startswith("ENTRYPOINT "))
    return dict(setting.split("=", 1) for setting in settings), yaml.safe_load(entry[11:])


def _service(name: str, entry: Mapping[str, Any], sources: Mapping[str, Path]) -> Service:
    if strange := entry.keys() - _UNDERSTOOD - _ONLY_CONTAINERS:
        raise ValueError(f"{name}: what {', '.join(sorted(strange))} means for a process is not known here")
    environment, start = image() if entry["image"] == "sealift" else ({}, [])
    probe = entry.get("healthcheck", {}).get("test", ["CMD"])
    if probe[0] != "CMD":
        raise ValueError(f"{name}: a healthcheck by {probe[0]} is not understood here")
    return Service(
        name=name,
        image=entry["image"],
        entrypoint=tuple(entry.get("entrypoint", start)),
        command=tuple(entry.get("command", ())),
        environment={**environment, **entry.get("environment", {})},
        replicas=entry.get("deploy", {}).get("replicas", 1),
        ports=dict(_ports(entry)),
        files={one["target"]: sources[one["source"]] for one in entry.get("configs", ())},
        folders=tuple(one.split(":")[1] for one in entry.get("volumes", ())),
        needs=tuple(entry.get("depends_on", ())),
        is_asked_for="profiles" in entry,
        restarts=entry.get("restart", "no") != "no",
        probe=tuple(probe[1:]),
        grace_s=seconds(entry.get("stop_grace_period", "10s")),
    )


def seconds(span: str) -> float:
    """Of Compose's own way to write it: ``1m30s``, ``45s``, ``1m``."""
    found = _SPAN.fullmatch(span)
    if not found or not span:
        raise ValueError(f"{span!r} is no span of time that is understood here")
    return 60 * float(found["minutes"] or 0) + float(found["seconds"] or 0)


def _ports(entry: Mapping[str, Any]) -> Iterator[tuple[int, int]]:
    for one in entry.get("ports", ()):
        _, outside, inside = one.split(":")
        yield int(inside), int(outside)


def _interpolated(text: str) -> str:
    return _DEFAULTED.sub(lambda found: os.environ.get(found["name"]) or found["default"], text)
