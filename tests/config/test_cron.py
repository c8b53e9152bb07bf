from __future__ import annotations

from datetime import UTC, datetime

import pytest
from cronsim import CronSim

from config.cron import check_cron, last_slot, next_slot, slots_between

GOOD = [
    "*/15 * * * *",
    "0 3 * * mon-fri",
    "5,35 8-18/2 1 jan,jul *",
    "0 0 29 2 *",
    "0 0 * * 0",
    "59 23 31 12 6",
]


@pytest.mark.parametrize("text", GOOD)
def test_what_is_accepted_has_a_slot(text: str) -> None:
    now = datetime(2026, 11, 27, 12, 30, 15, tzinfo=UTC)

    assert next(CronSim(check_cron(text), now)) > now


def at(text: str) -> float:
    return datetime.fromisoformat(f"{text}+00:00").timestamp()


def test_slots_are_on_the_minute_in_utc() -> None:
    assert next_slot("*/15 * * * *", at("2026-11-27T12:14:59.5")) == at("2026-11-27T12:15")
    assert next_slot("*/15 * * * *", at("2026-11-27T12:15")) == at("2026-11-27T12:30")
    assert last_slot("*/15 * * * *", at("2026-11-27T12:15")) == at("2026-11-27T12:15")
    assert last_slot("*/15 * * * *", at("2026-11-27T12:15:00.5")) == at("2026-11-27T12:15")
    assert last_slot("*/15 * * * *", at("2026-11-27T12:14:59.9")) == at("2026-11-27T12:00")


def test_a_slot_that_is_far_away_is_found() -> None:
    assert last_slot("0 0 29 2 *", at("2026-11-27T12:00")) == at("2024-02-29T00:00")
    assert next_slot("0 0 29 2 *", at("2026-11-27T12:00")) == at("2028-02-29T00:00")


def test_a_day_of_the_month_or_of_the_week_will_do_as_in_cron() -> None:
    friday_13th, friday_20th = at("2026-11-13T00:00"), at("2026-11-20T00:00")

    assert next_slot("0 0 13 * fri", friday_13th) == friday_20th
    assert next_slot(check_cron("0 0 30 feb fri"), at("2026-02-01T00:00")) == at("2026-02-06T00:00")


def test_slots_between_two_leave_both_out_and_are_bounded() -> None:
    first = int(at("2026-11-27T12:00"))

    assert slots_between("* * * * *", first, first + 300, 100) == (first + 60, first + 240, 4)
    assert slots_between("* * * * *", first, first + 60, 100) == (0, 0, 0)
    assert slots_between("* * * * *", first, first + 120, 1) == (first + 60, first + 60, 1)


def test_of_more_slots_than_are_counted_the_last_one_is_the_last() -> None:
    first, day = int(at("2026-11-27T12:00")), 86400

    assert slots_between("* * * * *", first, first + day, 100) == (first + 60, first + day - 60, 100)


def test_spaces_and_case_do_not_matter() -> None:
    assert check_cron("  0   3  * *  Mon ") == "0 3 * * mon"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("* * * *", "has 4 fields; write five"),
        ("", "has 0 fields"),
        ("60 * * * *", "minute '60': '60' is not allowed; use 0 to 59"),
        ("* 24 * * *", "hour '24'"),
        ("* * 0 * *", "day of month '0': '0' is not allowed; use 1 to 31"),
        ("* * * 13 *", "month '13': '13' is not allowed; use 1 to 12 or jan to dec"),
        ("* * * * 7", "day of week '7': '7' is not allowed; use 0 to 6 or sun to sat"),
        ("* * * * noday", "use 0 to 6 or sun to sat"),
        ("*/0 * * * *", "is no range or step"),
        ("*/x * * * *", "is no range or step"),
        ("5/2 * * * *", "is no range or step"),
        ("9-5 * * * *", "is no range or step"),
        ("1,,2 * * * *", "'' is not allowed"),
        ("-1 * * * *", "'' is not allowed"),
        ("0 0 30 feb *", "never comes: no such month has a day 30"),
        ("@daily", "has 1 fields"),
    ],
)
def test_a_malformed_schedule_names_its_field(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_cron(text)
