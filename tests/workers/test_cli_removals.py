"""How deletions are told at the end of a run."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mirror.ledger import Ledger
from mirror.report import Deletion, RegionReport, RunReport
from workers.cli.console import Console
from workers.cli.exits import Exit
from workers.cli.summary import closing_line, exit_code, show

TARGET = "ghcr.io/a/hello"
DONE = RunReport(
    run="5b14",
    mirror="hello",
    lane="release",
    state="done",
    source="docker.io/a/hello",
    started_s=100.0,
    finished_s=102.0,
    listed=True,
    tags=2,
    states={"current": 2},
    regions=(RegionReport("eu"),),
)
DELETED = replace(DONE, deletions={"deleted": 2})
REFUSED = replace(DONE, state="failed", deletions={"failed": 1, "waiting": 3})


def ledger(*deletions: Deletion) -> Ledger:
    gone: Any = SimpleNamespace(deletions=lambda _: list(deletions))
    return cast("Ledger", SimpleNamespace(gone=gone, tag_reports=lambda _: iter(())))


def test_a_run_that_deleted_had_something_to_do() -> None:
    assert closing_line(DELETED) == "Done in 2.0 s: 2 tags current; 2 tags deleted."
    assert closing_line(replace(DONE, deletions={"waiting": 2})).startswith("Nothing to do")


def test_a_deletion_that_failed_is_a_failure() -> None:
    assert exit_code([REFUSED]) == Exit.FAILED
    assert exit_code([DELETED]) == Exit.DONE


def test_what_could_not_be_deleted_is_told_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    reason = "ghcr.io/a/hello:old: GHCR deletes tags on GitHub's website only"
    failed = Deletion("old", TARGET, "eu", "sha256:…", "failed", reason, "CannotDelete")
    gone = Deletion("older", TARGET, "eu", "sha256:…", "deleted")

    assert show(Console(), ledger(failed, gone), [REFUSED], everything=False) == Exit.FAILED
    out, err = capsys.readouterr()

    assert out.splitlines() == [
        f"Deleted, because the source has it no more: 1 tag of {TARGET} (older)",
        f"Gone from the source, and not deleted: 1 tag of {TARGET} (old): {reason}",
        "Failed in 2.0 s: 2 tags current; 1 tag could not be deleted.",
    ]
    assert err.strip() == "The mirror's next run tries again what could not be deleted."
