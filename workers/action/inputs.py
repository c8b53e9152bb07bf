"""What a workflow asks for: ``INPUT_*`` variables, since nothing of it may reach a shell's text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

from workers.cli.exits import Exit, Stop

Mode = Literal["local", "submit"]
MODES = ("local", "submit")
FLEET_FILE = "SEALIFT_FLEET_FILE"
_MOST_DIGITS = 9
_TRUTH = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Inputs:
    """Either ``image`` with ``targets`` or ``mirrors`` of the file ``config``, checked."""

    mode: Mode = "local"
    image: str = ""
    targets: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    mirrors: tuple[str, ...] = ()
    config: str = ""
    wait: bool = True
    timeout_s: int | None = None

    @staticmethod
    def read(environment: Mapping[str, str]) -> Inputs:
        """Raises Stop (USAGE), naming the input."""
        mode = _text(environment, "mode") or "local"
        if mode not in MODES:
            raise Stop(f"input mode: {mode!r} is neither local nor submit", Exit.USAGE)
        inputs = Inputs(
            mode=cast("Mode", mode),
            image=_text(environment, "image"),
            targets=_lines(environment, "targets"),
            tags=_lines(environment, "tags"),
            mirrors=tuple(_text(environment, "mirrors").split()),
            config=_text(environment, "config") or environment.get(FLEET_FILE, ""),
            wait=_flag(environment, "wait"),
            timeout_s=_seconds(environment, "timeout"),
        )
        if fault := inputs._fault():
            raise Stop(fault, Exit.USAGE)
        return inputs

    def command(self) -> list[str]:
        """Words of the command that starts it. What is no option stands after ``--``: it may begin with -."""
        place = [f"--fleet-file={self.config}"] if self.config else []
        options = ["--json"]
        if self.mode == "submit":
            options.append("--no-wait")
        elif self.timeout_s is not None:
            options.append(f"--timeout={self.timeout_s}")
        if self.mirrors:
            return [*place, "sync", *options, "--", *self.mirrors]
        options += [f"--to={target}" for target in self.targets]
        options += [f"--tags={tag}" for tag in self.tags]
        return [*place, "mirror", *options, "--", self.image]

    def watching(self, run: str, left_s: float | None) -> list[str]:
        """Words of the command that waits for a run which a fleet has taken, at most ``left_s`` seconds."""
        place = [f"--fleet-file={self.config}"] if self.config else []
        limit = [f"--timeout={left_s:.3f}"] if left_s is not None else []
        return [*place, "watch", "--json", *limit, "--", run]

    def _fault(self) -> str:
        faults = {
            "inputs image and mirrors: give one of them": self.image and self.mirrors,
            "input image is empty: say which image to mirror, or give mirrors of the fleet file": not (
                self.image or self.mirrors
            ),
            "input targets is empty: give one [REGION=]REPOSITORY a line": self.image and not self.targets,
            "input config is empty: name the fleet file that the mirrors are in": self.mirrors
            and not self.config,
            "inputs targets and tags go with image; those of mirrors are in the fleet file": self.mirrors
            and (self.targets or self.tags),
            "input wait: mode local cannot leave a run behind: its fleet ends with the step": not self.wait
            and self.mode == "local",
        }
        return next((text for text, is_so in faults.items() if is_so), "")


def _text(environment: Mapping[str, str], name: str) -> str:
    return environment.get(f"INPUT_{name.upper()}", "").strip()


def _lines(environment: Mapping[str, str], name: str) -> tuple[str, ...]:
    return tuple(line for text in _text(environment, name).splitlines() if (line := text.strip()))


def _flag(environment: Mapping[str, str], name: str) -> bool:
    text = _text(environment, name) or "true"
    if text not in _TRUTH:
        raise Stop(f"input {name}: {text!r} is neither true nor false", Exit.USAGE)
    return _TRUTH[text]


def _seconds(environment: Mapping[str, str], name: str) -> int | None:
    text = _text(environment, name)
    if not text:
        return None
    is_number = text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS
    if not is_number or not int(text):
        raise Stop(f"input {name}: {text!r} is no whole number of seconds above 0", Exit.USAGE)
    return int(text)
