"""One step of a workflow: run the commands that were asked for, tell the runner, pass the exit code on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import IO, Any

from registry.redact import redacted
from workers.action import told
from workers.action.inputs import Inputs
from workers.action.page import page
from workers.action.results import FINE, Fault, Result, result_of, stopped
from workers.cli.exits import Exit, Stop, explained
from workers.cli.text import counted, some

SEALIFT = (sys.executable, "-P", "-m", "workers.cli")
_REDIS = "SEALIFT_REDIS_URL"


def main() -> int:
    """The exit code of the command, or of what was wrong before it could start."""
    folder = Path(tempfile.mkdtemp(prefix="sealift-", dir=os.environ.get("RUNNER_TEMP")))
    what = "mirror"
    try:
        inputs = Inputs.read(os.environ)
        what = inputs.image or " ".join(inputs.mirrors)
        _prepare(inputs, folder)
        result = _Commands(folder).run(inputs)
    except Exception as error:  # noqa: BLE001 -- whatever it is, the runner is told
        stop = explained(error) or _defect(error)
        result = stopped(stop.message, stop.code)
    report = folder / "report.json"
    told.set_outputs(result.outputs(str(report) if report.exists() else ""))
    told.summarise(page(result, what))
    _annotate(result)
    return result.code


def _defect(error: Exception) -> Stop:
    """Told like the rest; its traceback may hold foreign names, too."""
    with told.commands_stopped():
        traceback.print_exc(file=sys.stdout)
    return Stop(f"{type(error).__name__}: {redacted(str(error))}; the log has more", Exit.FAILED)


def _prepare(inputs: Inputs, folder: Path) -> None:
    """See to it that the mode is what happens; raises Stop (CONFIGURATION), FleetError."""
    from workers.cli.console import Console
    from workers.cli.session import Session, take_options

    # The workspace may hold a stranger's sealift.yaml, which could say where accounts are sent.
    take_options(None, Path(inputs.config or os.devnull))
    if not os.environ.get(_REDIS):  # a secret that is not there
        os.environ.pop(_REDIS, None)
    if inputs.mode == "local":
        os.environ.pop(_REDIS, None)  # set for a whole job, say, of which this step wants nothing
        os.environ.setdefault("SEALIFT_STATE_DIR", str(folder / "state"))
    session = Session(Console())
    if inputs.mode == "local" and session.is_external:
        raise Stop(f"mode local, but {inputs.config} names a redis_url: use mode submit", Exit.CONFIGURATION)
    if inputs.mode == "submit" and not session.is_external:
        raise Stop(
            f"mode submit needs the fleet's address: give the step {_REDIS} from a secret "
            "(workflows of pull requests from forks have none)",
            Exit.CONFIGURATION,
        )


class _Commands:
    """Runs them one after the other; a signal to this process is theirs too."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: subprocess.Popen[bytes] | None = None
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._pass_on)

    def run(self, inputs: Inputs) -> Result:
        """Start, and on a fleet of others wait in a second command: so the run's id is known in any case."""
        began = monotonic()
        code, document = self._sealift(inputs.command())
        documents = [document]
        if inputs.mode == "local" or not inputs.wait or code:
            return result_of(documents, code)
        for run in document["runs"]:
            left_s = None if inputs.timeout_s is None else max(inputs.timeout_s - (monotonic() - began), 0.0)
            one, document = self._sealift(inputs.watching(run["run"], left_s))
            documents.append(document)
            code = max(code, one)
        (self.folder / "report.json").write_text(json.dumps(_joined(documents, code)))
        return result_of(documents, code)

    def _sealift(self, words: Sequence[str]) -> tuple[int, dict[str, Any]]:
        report = self.folder / "report.json"
        with report.open("wb") as sink, told.commands_stopped():
            code = self._call(words, sink)
        try:
            return code, json.loads(report.read_text())
        except ValueError:  # it was killed before its end
            report.unlink()
            return code or Exit.FAILED, {"error": f"sealift ended with {code} before it had said how"}

    def _call(self, words: Sequence[str], sink: IO[bytes]) -> int:
        command = [*SEALIFT, *words]
        with subprocess.Popen(  # noqa: S603 -- our own
            command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sys.__stdout__
        ) as process:
            self._running = process
            code = process.wait()
            self._running = None
        return code if code >= 0 else 128 - code

    def _pass_on(self, number: int, _frame: FrameType | None) -> None:
        if self._running is None:
            raise SystemExit(Exit.INTERRUPTED)
        self._running.send_signal(number)


def _joined(documents: list[dict[str, Any]], code: int) -> dict[str, Any]:
    """One document of several: of each run what was said of it last."""
    runs = {run["run"]: run for document in documents for run in document.get("runs", ())}
    errors = [document["error"] for document in documents if "error" in document]
    return {
        "schema": 1,
        "exit_code": code,
        "runs": list(runs.values()),
        **({"error": errors[0]} if errors else {}),
    }


def _annotate(result: Result) -> None:
    """Each reason once; what the runner would not show is only counted."""
    faults = list(result.faults)
    if len(faults) > told.MOST_ANNOTATIONS:
        left = len(faults) - told.MOST_ANNOTATIONS + 1
        faults = [
            *faults[: told.MOST_ANNOTATIONS - 1],
            Fault(f"{counted(left, 'reason')} more: see the summary"),
        ]
    for fault in faults:
        tags = f" ({counted(fault.count, 'tag')}, such as {some(fault.examples)})" if fault.examples else ""
        told.annotate(
            "error", "Sealift", f"{fault.reason}{tags}{f'. To do: {fault.hint}' if fault.hint else ''}"
        )
    if result.code and not faults:
        told.annotate("error", "Sealift", f"ended with {result.code}, {result.state}: see the summary")
    for state, count in result.counts.items():
        if count and state not in FINE | {"failed"}:
            told.annotate("warning", "Sealift", f"{counted(count, 'tag')} {state}: see the summary")
