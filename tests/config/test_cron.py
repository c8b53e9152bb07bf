from __future__ import annotations

import pytest
from celery.schedules import crontab

from config.cron import check_cron

GOOD = [
    "*/15 * * * *",
    "0 3 * * mon-fri",
    "5,35 8-18/2 1 jan,jul *",
    "0 0 29 2 *",
    "0 0 * * 0",
    "59 23 31 12 6",
]


@pytest.mark.parametrize("text", GOOD)
def test_what_we_accept_celery_accepts(text: str) -> None:
    minute, hour, day, month, weekday = check_cron(text).split(" ")

    crontab(minute=minute, hour=hour, day_of_month=day, month_of_year=month, day_of_week=weekday)


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
