from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import cast

import pytest
from rich.console import Console as RichConsole

from mirror.ledger import Ledger
from mirror.ledger.failures import failures_of, grouped
from mirror.report import Moved, RegionReport, RunReport, TagReport, TargetReport
from workers.cli import progress, waiting
from workers.cli.console import Console
from workers.cli.exits import Exit
from workers.cli.fleets import Engine
from workers.cli.progress import Bars, Lines
from workers.cli.summary import MOST_ROWS, closing_line, exit_code, show

OPEN = RunReport(
    run="5b14",
    mirror="hello",
    lane="release",
    state="open",
    source="ghcr.io/a/hello",
    started_s=100.0,
    finished_s=None,
    listed=True,
    tags=2,
    states={"pending": 2},
    regions=(RegionReport("eu"),),
)
DONE = replace(OPEN, state="done", finished_s=102.0, states={"updated": 2})
FAILED = replace(OPEN, state="failed", finished_s=102.0, states={"failed": 1, "updated": 1})


@dataclass
class StandIn:
    """A ledger that has these tags."""

    tags: tuple[TagReport, ...]

    def tag_reports(self, run: str) -> Iterator[TagReport]:
        assert run == OPEN.run
        return iter(self.tags)


def ledger(*tags: TagReport) -> Ledger:
    return cast("Ledger", StandIn(tags))


def tag(name: str, *targets: TargetReport) -> TagReport:
    return TagReport(name, None, targets[0].state, "", targets)


def failure(kind: str, reason: str = "no") -> TargetReport:
    return TargetReport("localhost:1/x", "eu", "failed", reason, kind)


UPDATED = TargetReport("localhost:1/x", "eu", "updated", moved=Moved(copied_bytes=5_000_000))


def test_a_log_gets_a_line_for_each_change_and_none_for_each_look(capsys: pytest.CaptureFixture[str]) -> None:
    landed = replace(OPEN, regions=(RegionReport("eu", tags_landed=2, moved=Moved(copied_bytes=7_000_000)),))

    with Lines(Console()) as shown:
        for report in (OPEN, OPEN, landed, landed, DONE, DONE):
            shown.update([report])

    printed = capsys.readouterr()
    assert printed.err.splitlines() == [
        "hello: 2 tags to look at",
        "hello: eu: 2 of 2 tags landed, 7.0 MB copied",
        "hello: 2 of 2 tags done (2 updated)",
    ]
    assert printed.out == ""


def test_a_long_run_is_told_calmly(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_INTERVAL_S", 3600.0)
    long = replace(OPEN, tags=500)

    with Lines(Console()) as shown:
        for done in range(501):
            shown.update([replace(long, states={"updated": done, "pending": 500 - done})])

    said = [line for line in capsys.readouterr().err.splitlines() if "done" in line]
    assert [line.split(" of ")[0] for line in said] == ["hello: 1", "hello: 500"]


def test_a_run_of_many_repositories_says_how_far_their_list_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_INTERVAL_S", 0.0)
    many = replace(OPEN, listed=False, repositories=0, tags=0, states={})

    with Lines(Console()) as shown:
        shown.update([many])
        shown.update([replace(many, repositories=3, tags=40, states={"updated": 8, "pending": 32})])

    assert capsys.readouterr().err == "hello: 3 repositories with 40 tags listed so far, 8 done\n"


def test_in_a_run_of_many_repositories_each_row_says_which_it_is_of(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = tag("1.0", UPDATED), tag("", failure("NotFound", "it is gone"))
    tags = [replace(one, repository="ghcr.io/a/team/app", rest="team/app") for one in found]
    report = replace(FAILED, repositories=2)

    show(Console(), ledger(*tags), [report], everything=False)

    out = capsys.readouterr().out
    assert "team/app:1.0" in out
    assert "\nteam/app: it is gone\n" in out
    assert "1 updated and 1 failed of 2 tags in 2 repositories" in out


def test_a_terminal_gets_a_bar_for_the_mirror_and_for_each_region(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    console = Console()
    drawn = RichConsole(file=terminal, force_terminal=True, width=100)
    monkeypatch.setattr(console, "_on", lambda _: drawn)
    region = RegionReport("eu", planned_bytes=10_000_000, moved=Moved(copied_bytes=4_000_000))

    with Bars(console) as shown:
        shown.update([replace(OPEN, regions=(region,))])

    assert "0 of 2 tags" in terminal.getvalue()
    assert "4.0 MB of 10.0 MB" in terminal.getvalue()


@pytest.mark.parametrize("width", [60, 80, 100])
def test_bars_stand_still_while_their_texts_change(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    console = Console()
    drawn = RichConsole(file=terminal, force_terminal=True, width=width, color_system=None)
    monkeypatch.setattr(console, "_on", lambda _: drawn)

    with Bars(console) as shown:
        for copied in (0, 4_000_000, 10_000_000):
            region = RegionReport("eu", planned_bytes=10_000_000, moved=Moved(copied_bytes=copied))
            shown.update([replace(OPEN, regions=(region,))])
            shown._progress.refresh()

    lines = [line for line in terminal.getvalue().splitlines() if " of 10.0 MB" in line]
    assert len({line.index(" of 10.0 MB") for line in lines}) == 1
    assert all(len(line) <= width for line in lines)


def test_a_growing_rate_is_no_news(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_INTERVAL_S", 0.0)
    ended = replace(DONE, regions=(RegionReport("eu", tags_landed=2),))

    with Lines(Console()) as shown:
        for copied in (1, 2, 3):
            other = replace(OPEN, run="5b15", regions=(RegionReport("us", moved=Moved(copied_bytes=copied)),))
            shown.update([ended, other])

    lines = capsys.readouterr().err.splitlines()
    assert lines.count("hello: 2 of 2 tags done (2 updated)") == 1


def test_what_a_run_waits_out_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    engine = cast("Engine", SimpleNamespace(session=SimpleNamespace(console=Console())))
    away = replace(OPEN, waits="localhost:1/x: cannot connect")
    told: set[str] = set()

    for report in (OPEN, away, away):
        waiting._tell_waits(engine, [report], told)

    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("hello: waiting, because localhost:1/x: cannot connect; ")
    assert "Waiting, because localhost:1/x: cannot connect." in closing_line(away)


def test_a_long_wait_says_until_when() -> None:
    at = datetime.now(UTC) + timedelta(days=2)
    away = replace(OPEN, waits="docker.io/x: no more pulls", waits_until_s=at.timestamp())
    soon = replace(away, waits_until_s=time.time() + 5)

    said = f"Waiting until {at:%Y-%m-%d %H:%M} UTC, because docker.io/x: no more pulls."
    assert said in closing_line(away)
    assert "Waiting, because docker.io/x: no more pulls." in closing_line(soon)


@pytest.mark.parametrize(
    ("report", "line"),
    [
        (DONE, "Done in 2.0 s: 2 tags updated."),
        (FAILED, "Failed in 2.0 s: 1 updated and 1 failed of 2 tags."),
        (replace(DONE, states={"current": 2}), "Nothing to do: 2 tags current everywhere (2.0 s)."),
        (replace(DONE, tags=0, states={}), "Nothing to do: no tag of ghcr.io/a/hello was selected."),
        (replace(FAILED, error="no such repository"), "Failed after 2.0 s: no such repository"),
        (replace(FAILED, state="cancelled", states={}), "Cancelled after 2.0 s: no tag was moved."),
        (OPEN, "Under way: 0 of 2 tags done."),
    ],
)
def test_a_run_ends_in_one_sentence(report: RunReport, line: str) -> None:
    assert closing_line(report) == line


@pytest.mark.parametrize(
    ("tags", "code"),
    [
        ([tag("1", failure("Unauthorized")), tag("2", failure("Denied"))], Exit.AUTHENTICATION),
        ([tag("1", failure("Unauthorized")), tag("2", failure("NotFound"))], Exit.FAILED),
        ([tag("1", failure(""))], Exit.FAILED),
        ([tag("1", failure("Denied"), TargetReport("localhost:2/x", "us", "pending"))], Exit.AUTHENTICATION),
    ],
)
def test_only_failures_that_are_all_about_rights_are_code_4(tags: list[TagReport], code: Exit) -> None:
    rows = {name: f"{count}\n{examples}" for name, count, examples in grouped(tags)}
    failures = failures_of({name.encode(): row.encode() for name, row in rows.items()})

    assert exit_code([replace(FAILED, failures=failures)]) is code


def test_a_run_that_could_not_be_listed_for_want_of_rights_is_code_4() -> None:
    whole = replace(FAILED, error="no", error_kind="Unauthorized", states={})

    assert exit_code([whole]) is Exit.AUTHENTICATION
    assert exit_code([DONE]) is Exit.DONE


def test_a_short_run_s_table_has_every_tag_and_why_one_failed(capsys: pytest.CaptureFixture[str]) -> None:
    show(
        Console(),
        ledger(tag("1.0", UPDATED), tag("1.1", failure("Denied", "may not"))),
        [FAILED],
        everything=False,
    )

    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert [line.split()[0] for line in lines] == ["TAG", "1.0", "1.1", "1.1:", "Failed"]
    assert "5.0 MB" in lines[1]
    assert lines[3] == "1.1: may not"
    assert "give the account the right" in printed.err
    assert f"`sealift retry {OPEN.run}`" in printed.err


def test_a_reason_that_tags_share_is_said_once_and_versions_come_in_their_order(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tags = [tag(name, failure("", "no space left")) for name in ("1.10", "1.9", "latest")]

    show(Console(), ledger(*tags), [FAILED], everything=False)

    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["1.9", "1.10", "latest"]
    assert lines[4] == "1.9, 1.10 and latest: no space left"


def test_a_target_that_another_one_held_back_does_not_repeat_its_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    held = failure("Denied", "not moved, because of localhost:2/x: may not")
    tags = [tag("1.0", held, failure("Denied", "localhost:2/x: may not"))]

    show(Console(), ledger(*tags), [FAILED], everything=False)

    assert capsys.readouterr().out.count("may not") == 1


def test_of_many_tags_that_share_a_reason_the_first_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    tags = [tag(f"1.{number}", failure("", "no space left")) for number in range(9)]

    show(Console(), ledger(*tags), [FAILED], everything=False)

    assert "1.0, 1.1, 1.2, 1.3, 1.4 and 4 more: no space left\n" in capsys.readouterr().out


def test_several_runs_are_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    show(Console(), ledger(tag("1.0", UPDATED)), [DONE, DONE], everything=False)

    assert capsys.readouterr().out.splitlines()[-1] == "hello: Done in 2.0 s: 2 tags updated."


def test_only_columns_with_bytes_in_them_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    show(Console(), ledger(tag("1.0", UPDATED)), [DONE], everything=False)

    assert capsys.readouterr().out.splitlines()[0].split() == ["TAG", "TARGET", "RESULT", "COPIED"]


@pytest.mark.parametrize("everything", [False, True])
def test_a_long_run_s_table_has_only_trouble_unless_all_is_asked_for(
    everything: bool,  # noqa: FBT001 -- a parameter of the test
    capsys: pytest.CaptureFixture[str],
) -> None:
    tags = [tag(f"1.{number}", UPDATED) for number in range(MOST_ROWS)] + [tag("2.0", failure("Denied"))]

    show(Console(), ledger(*tags), [FAILED], everything=everything)

    printed = capsys.readouterr().out
    assert "2.0" in printed
    assert ("1.7 " in printed) is everything
    assert ("40 rows without trouble not shown; --all" in printed) is not everything


def test_json_is_one_object_with_schema_code_runs_and_tags(capsys: pytest.CaptureFixture[str]) -> None:
    show(Console(json=True), ledger(tag("1.0", UPDATED)), [DONE], everything=False)

    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["exit_code"]) == (1, 0)
    (run,) = document["runs"]
    assert run["run"] == "5b14"
    assert run["tag_reports"][0]["targets"][0]["moved"]["copied_bytes"] == 5_000_000


def test_what_a_registry_says_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    show(Console(), ledger(tag("1", failure("Refused", "[red]quota[/red]"))), [FAILED], everything=False)

    assert "[red]quota[/red]" in capsys.readouterr().out
