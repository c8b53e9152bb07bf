"""The end of a command that did not simply succeed: one line on stderr, with ``--json`` one object too."""

from __future__ import annotations

import tempfile
import traceback
from pathlib import Path

from workers.cli.exits import Exit, Stop, explained
from workers.cli.session import Session


def end(error: BaseException, session: Session) -> int:
    """Say what happened and return the exit code."""
    if isinstance(error, SystemExit):
        return int(error.code) if isinstance(error.code, int) else int(Exit.FAILED)
    stop = _usage(error) or explained(error) or _defect(error, session)
    if session.verbose:
        traceback.print_exception(error)
    if stop.code == Exit.DONE:
        return _nothing_to_do(stop, session)
    style = "" if stop.code == Exit.INTERRUPTED else "red"
    for line in f"sealift: {stop.message}".splitlines():
        session.console.say(line, style)
    if session.console.json:
        session.console.document({"exit_code": int(stop.code), "error": stop.message})
    return int(stop.code)


def _nothing_to_do(stop: Stop, session: Session) -> int:
    if session.console.json:
        session.console.document({"exit_code": int(stop.code), "message": stop.message})
    else:
        session.console.result(stop.message)
    return int(stop.code)


def _usage(error: BaseException) -> Stop | None:
    """What Typer's parser says. By name: which click it is built on differs between its versions."""
    names = {kind.__name__ for kind in type(error).__mro__}
    if "NoArgsIsHelpError" in names:
        return Stop(str(error), Exit.USAGE)
    if "ClickException" not in names:
        return None
    text = error.format_message()  # type: ignore[attr-defined]  # ClickException's
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "sealift"
    return Stop(f"{text}\nSee {path} --help", Exit.USAGE)


def _defect(error: BaseException, session: Session) -> Stop:
    """An error nobody expected: short, with the trace in a file for the report."""
    line = f"unexpected {type(error).__name__}: {' '.join(str(error).split())}"
    if session.verbose:
        return Stop(line, Exit.FAILED)
    from registry.redact import redacted

    with tempfile.NamedTemporaryFile(
        "w", prefix="sealift-", suffix=".log", delete=False, encoding="utf-8"
    ) as file:
        file.write(redacted("".join(traceback.format_exception(error))))
    return Stop(f"{redacted(line)}; the trace is in {Path(file.name)}", Exit.FAILED)
