from __future__ import annotations

import pytest

from workers.cli import hoisted
from workers.cli.text import counted, duration, listed, size


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (5_240_000, "5.2 MB"),
        (99_960_000, "100 MB"),
        (999_600_000, "1.0 GB"),
        (2_500_000_000_000, "2.5 TB"),
        (7 * 10**18, "7000 PB"),
    ],
)
def test_bytes_are_counted_in_powers_of_a_thousand(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (42.4, "42 s"),
        (120, "2 min"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
        (273600, "3 d 4 h"),
    ],
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_counts_agree_with_their_nouns() -> None:
    assert [counted(1, "tag"), counted(0, "tag"), counted(1200, "batch")] == [
        "1 tag",
        "0 tags",
        "1,200 batches",
    ]
    assert [listed([]), listed(["eu"]), listed(["eu", "us", "ap"])] == ["", "eu", "eu, us and ap"]


def test_global_options_may_follow_the_command() -> None:
    words = ["mirror", "a", "--state-dir", "/s", "-v", "--to", "b", "--fleet-file=f", "--", "-v"]

    assert hoisted(words) == [
        "--state-dir",
        "/s",
        "-v",
        "--fleet-file=f",
        "mirror",
        "a",
        "--to",
        "b",
        "--",
        "-v",
    ]
