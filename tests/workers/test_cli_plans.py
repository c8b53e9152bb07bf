"""How a plan is shown: a table, one closing line, below it what that costs; all of it in JSON too."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import pytest

from mirror.forecast import Forecast, PlannedTag, PlannedTarget, Pulls, Rate, State, pulls_of, rate_of
from mirror.ledger.budgets import BudgetReport
from mirror.report import Deletion, Moved, RegionReport, RunReport
from mirror.tally import Tally
from workers.cli.console import Console
from workers.cli.exits import Exit
from workers.cli.plans import show_plans

SOURCE, TARGET = "docker.io/kuzudb/explorer", "ghcr.io/kuzudb/explorer"
NEW = f"sha256:{'a' * 64}"
OLD = f"sha256:{'b' * 64}"


def planned(tag: str, state: State, previous: str | None = None, reason: str = "") -> PlannedTag:
    return PlannedTag(tag, NEW, (PlannedTarget(TARGET, "us", state, previous, reason),))


def forecast(*tags: PlannedTag, **fields: object) -> Forecast:
    made = Forecast("explorer", SOURCE, **fields)  # type: ignore[arg-type]  # a test's own words
    for tag in tags:
        made.add(tag)
    return made


def costly() -> Forecast:
    made = forecast(planned("0.10", "new"), planned("0.9", "move", OLD), planned("0.8", "current", NEW))
    made.drop([("dev", "no include pattern matches"), ("edge", "no include pattern matches")])
    made.tally.asked("docker.io", *[("HEAD", "manifest")] * 3)
    made.tally.asked("ghcr.io", *[("PUT", "manifest")] * 1200)
    made.tally.reads("docker.io", 5_200_000)
    made.tally.writes(TARGET, 3_100_000)
    made.tally.mount(TARGET, 2_000_000)
    made.pulls = [Pulls("docker.io", 2, 6, left=70, per_window=90, window_s=21600, until_s=2e9)]
    made.rate = Rate(2, tags_per_s=0.5, bytes_per_s=1e6)
    return made


def shown(capsys: pytest.CaptureFixture[str], *forecasts: Forecast, everything: bool = False) -> list[str]:
    show_plans(Console(), forecasts, everything=everything)
    return capsys.readouterr().out.splitlines()


def test_a_plan_names_its_tags_by_number_and_what_they_cost(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, costly()) == [
        "TAG   TARGET                   WOULD BE  FROM                 TO",
        f"0.8   {TARGET}  current   {NEW[:19]}  {NEW[:19]}",
        f"0.9   {TARGET}  moves     {OLD[:19]}  {NEW[:19]}",
        f"0.10  {TARGET}  new       -                    {NEW[:19]}",
        "explorer: 1 new, 1 moves, 1 current (3 tags selected; 2 left out (2: no include pattern matches)).",
        "  read   5.2 MB from docker.io",
        f"  write  3.1 MB to {TARGET}",
        f"  mount  2.0 MB in {TARGET}",
        "  ask    3 to docker.io and 1,200 to ghcr.io (requests)",
        "  pulls  docker.io: 2, 70 left; 6 made by this plan, whose manifests are kept for 6 h",
        "  time   about 4.0 s at the rate of the last 2 runs",
    ]


def test_of_a_two_way_mirror_a_plan_says_who_has_what_and_why_a_tag_is_left_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    us, eu = "us.example/app", "eu.example/app"
    reason = f"conflict: {us} has {NEW[:19]}…, {eu} has {OLD[:19]}…; they never were the same"
    taken = (PlannedTarget(us, "us", "current", NEW), PlannedTarget(eu, "eu", "move", OLD))
    apart = tuple(
        PlannedTarget(name, "us", "conflict", digest, reason) for name, digest in ((us, NEW), (eu, OLD))
    )
    made = Forecast("explorer", f"{us}, {eu}")
    made.add(PlannedTag("v1", NEW, taken, taken_from=(us,), rule="newest"))
    made.add(PlannedTag("v2", None, apart))

    assert [line.rstrip() for line in shown(capsys, made)[:7]] == [
        "TAG  TARGET          WOULD BE        FROM                 TO                   TAKEN FROM",
        f"v1   {us}  current         {NEW[:19]}  {NEW[:19]}",
        f"v1   {eu}  moves (newest)  {OLD[:19]}  {NEW[:19]}  {us}",
        f"v2   {us}  in conflict     {NEW[:19]}  -",
        f"v2   {eu}  in conflict     {OLD[:19]}  -",
        f"v2: {reason}",
        "explorer: 1 moves, 1 current, 2 in conflict (2 tags selected).",
    ]


def test_a_budget_that_does_not_suffice_says_how_long_it_makes_wait(
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = costly()
    made.unread = 250
    made.pulls = [Pulls("docker.io", 250, 0, left=70, per_window=90, window_s=21600, until_s=2e9)]

    lines = shown(capsys, made)

    assert "  unread  250 manifests or more: what they hold is in no number here" in lines
    assert f"  write   at least 3.1 MB to {TARGET}" in lines
    waits = "waits for 2 windows to end, the last by 2033-05-18 09:33 UTC"
    assert f"  pulls   docker.io: at least 250, 70 left; {waits}" in lines
    assert "  time    unknown: manifests were not read" in lines


def test_nothing_to_do_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    made = forecast(planned("0.8", "current", NEW))

    assert shown(capsys, made)[-1] == "explorer: nothing to do, 1 tag current."


def test_of_a_long_plan_only_what_changes_is_shown_unless_all_is_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = forecast(*(planned(str(number), "current", NEW) for number in range(50)), planned("50", "new"))

    lines = shown(capsys, made)
    assert [line.split()[0] for line in lines[:2]] == ["TAG", "50"]
    assert "50 rows not shown; --all shows them." in lines
    assert len(shown(capsys, made, everything=True)) == 51 + 3


def test_what_cannot_be_told_ends_with_1_and_what_may_not_be_asked_with_4(
    capsys: pytest.CaptureFixture[str],
) -> None:
    away = forecast(planned("0.8", "error", reason="ghcr.io/x: connection refused"))
    denied = Forecast("explorer", SOURCE, error="docker.io/x: not yours", error_kind="Denied")

    assert show_plans(Console(), [away], everything=False) == Exit.FAILED
    assert show_plans(Console(), [denied], everything=False) == Exit.AUTHENTICATION
    assert show_plans(Console(), [costly()], everything=False) == Exit.DONE
    assert "explorer: no plan, because docker.io/x: not yours" in capsys.readouterr().out


def test_what_the_source_has_no_more_is_told_with_the_time_from_which_it_goes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = forecast(planned("1", "current", NEW))
    later, share = 4_000_000_000.0, "2 of 3 tags are gone"
    made.deletions = [
        Deletion("a", TARGET, "us", NEW, "deleting"),
        Deletion("b", TARGET, "us", NEW, "waiting", due_s=later),
        Deletion("c", TARGET, "us", NEW, "waiting", due_s=later),
        Deletion("d", TARGET, "us", NEW, "waiting", due_s=1.0),
        *(Deletion(f"k{number}", TARGET, "us", NEW, "kept", share) for number in range(12)),
    ]

    *_, now, soon, then, kept, _ = shown(capsys, made)
    assert now == f"Gone from the source, deleted by the next run: 1 tag of {TARGET} (a)"
    assert soon == f"Gone from the source, deleted by a run from now on: 1 tag of {TARGET} (d)"
    assert (
        then
        == f"Gone from the source, deleted by a run after 2096-10-02 07:06 UTC: 2 tags of {TARGET} (b and c)"
    )
    assert kept.startswith(f"Gone from the source, and kept: 12 tags of {TARGET} (k0, k1, k10,")
    assert kept.endswith(f"and 3 more): {share}")


def test_json_holds_everything_that_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    show_plans(Console(json=True), [costly()], everything=False)

    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["exit_code"]) == (1, 0)
    (mirror,) = document["mirrors"]
    assert mirror["counts"] == {"new": 1, "move": 1, "current": 1}
    assert mirror["requests"] == {"docker.io": {"HEAD manifest": 3}, "ghcr.io": {"PUT manifest": 1200}}
    assert (mirror["bytes_read"], mirror["bytes_written"]) == ({"docker.io": 5200000}, {TARGET: 3100000})
    assert (mirror["bytes_mounted"], mirror["mounts"]) == ({TARGET: 2000000}, {TARGET: 1})
    assert mirror["dropped"] == {"no include pattern matches": 2}
    assert mirror["dropped_tags"][0] == ["dev", "no include pattern matches"]
    assert (mirror["pulls"][0]["needed"], mirror["pulls"][0]["windows"]) == (2, 0)
    assert (mirror["estimate"], mirror["expected_s"], mirror["run"]) == ("read", 4.0, None)


def test_several_accounts_pull_together_and_the_reserve_is_left() -> None:
    budgets = [
        BudgetReport("docker.io", "one", 100, 50, 2, 3600, 1000.0),
        BudgetReport("docker.io", "two", 200, 10, 0, 3600, 2000.0),
        BudgetReport("docker.io", "paused", paused_until_s=5.0),
        BudgetReport("ghcr.io", "", 5, 5, 0, 60, 9.0),
    ]

    found = pulls_of("docker.io", 309, 0, budgets, 0.1)

    assert (found.left, found.per_window, found.windows) == (38, 270, 2)
    assert found.ready_s == 2000.0 + 3600
    assert replace(found, needed=308).windows == 1
    assert replace(found, needed=38).ready_s is None
    assert pulls_of("quay.io", 3, 0, budgets, 0.1).windows is None


def test_a_rate_is_measured_on_runs_of_the_same_mirror_that_moved_something() -> None:
    moved = RegionReport("us", moved=Moved(copied_bytes=3000))
    run = RunReport(
        "1", "explorer", "release", "done", SOURCE, 0.0, 10.0, listed=True, tags=9,
        states={"updated": 5, "current": 4}, regions=(moved, moved),
    )  # fmt: skip
    others = [
        replace(run, mirror="other"),
        replace(run, states={"current": 9}),
        replace(run, finished_s=None, state="open"),
    ]

    assert rate_of("explorer", others) is None
    assert rate_of("explorer", [*others, run, replace(run, finished_s=20.0)]) == Rate(2, 10 / 30, 400.0)


def test_counts_are_added_and_taken_off() -> None:
    one, two = Tally(), Tally()
    one.asked("a", ("GET", "manifest"), ("GET", "token"))
    two.asked("a", ("GET", "manifest"), ("PUT", "upload"))
    one.add(two)
    one.unasked("a", Counter({("GET", "manifest"): 1}))

    assert one.requests["a"] == {("GET", "manifest"): 1, ("PUT", "upload"): 1}
    assert (one.pulls("a"), one.total("a"), one.pulls("b")) == (1, 2, 0)
