"""What a verifying run is told as: a table by target, what is wrong, and how far a deep pass is."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from mirror.report import DeepReport, FoundReport, RunReport, TagReport, TargetReport
from workers.cli.console import Console
from workers.cli.found import pass_line, show_found

TARGET = "a.example/app"
RUN = RunReport(
    "r", "app", "release", "done", "s", 0.0, 1.0, listed=True, tags=3, states={}, regions=(), kind="verify"
)


def shown(
    capsys: pytest.CaptureFixture[str], found: FoundReport, *reasons: str, **fields: Any
) -> tuple[list[str], str]:
    tags = [
        TagReport("b", None, "failed", why, (TargetReport(TARGET, "us", "failed", why),)) for why in reasons
    ]
    ledger: Any = SimpleNamespace(tag_reports=lambda _: iter(tags))
    report = replace(RUN, found=(found,), **fields)
    show_found(Console(), ledger, report, "", is_last=True, everything=False)
    told = capsys.readouterr()
    return told.out.splitlines(), told.err


def test_what_is_behind_or_held_is_not_equal_and_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    why = "conflict: they never were the same"
    lines, hints = shown(capsys, FoundReport(TARGET, verified=1, behind=1, held=1), why)

    assert lines[0].split() == ["TARGET", "VERIFIED", "MISSING", "DIFFERENT", "DAMAGED", "BEHIND", "HELD"]
    assert lines[2] == f"b: {why}", "the letter in the reason is not the tag"
    told = "Not equal (1.0 s): 1 behind and 1 held; 3 tags in 1 target were looked at; all else is whole."
    assert lines[3] == told
    assert "copied by the mirror's next run" in hints
    assert "`sealift conflicts app`" in hints


@pytest.mark.parametrize(
    ("verified", "state", "says"),
    [
        (0, "failed", "Not all verified in 1.0 s: 3 tags in 1 target; 1 could not be checked."),
        (2, "done", "Verified in 1.0 s: 3 tags in 1 target; 1 could not be checked, the rest is whole."),
    ],
)
def test_what_could_not_be_checked_is_not_called_whole(
    capsys: pytest.CaptureFixture[str], verified: int, state: str, says: str
) -> None:
    lines, _ = shown(capsys, FoundReport(TARGET, verified=verified, unchecked=1), state=state)

    assert lines[-1] == says


def test_a_deep_pass_says_where_it_is() -> None:
    deep = DeepReport(began_s=0.0, read=4, tags=6, bytes=27_000_000, is_over=False)
    began = "Deep pass since 1970-01-01 00:00 UTC"
    read = f"{began}: all bytes of 4 of 6 tags in targets are read, 27.0 MB by this run"

    assert pass_line(RUN) == ""
    assert pass_line(replace(RUN, state="open", deep=deep)) == f"{read}."
    assert pass_line(replace(RUN, deep=deep)) == f"{read}; the next run goes on with it."
    assert pass_line(replace(RUN, deep=replace(deep, is_over=True))) == f"{read}; it is over."
