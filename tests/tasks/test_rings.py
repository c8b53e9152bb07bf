"""Mirrors of one source that lead in a ring are refused in the fleet file: pushes would chase each other."""

from __future__ import annotations

import pytest

from config.fleet import parse_fleet
from config.problems import FleetError
from tasks.terms import check_fleet


def entry(name: str, source: str, target: str, more: str = "") -> str:
    return f"  - {{name: {name}, source: {source}, targets: [{target}]{more}}}\n"


def check(*entries: str) -> str:
    """What is wrong with the file; empty if nothing is."""
    try:
        check_fleet(parse_fleet("mirrors:\n" + "".join(entries)))
    except FleetError as error:
        return str(error)
    return ""


A, B, C = "a.example/app", "b.example/app", "c.example/app"


def test_two_mirrors_that_push_at_each_other_are_refused_in_one_line() -> None:
    assert check(entry("there", A, B), entry("back", B, A)) == (
        "sealift.yaml:3: mirrors[1].targets[0]: mirror 'there' (sealift.yaml:2) brings what is written here "
        "back to b.example/app; a push at one end would undo one at the other: make them one mirror with "
        "mode: two_way, or list different tags one by one in each"
    )


def test_a_longer_ring_is_named_with_every_mirror_on_the_way() -> None:
    text = check(entry("one", A, B), entry("two", B, C), entry("three", C, A))

    assert text.startswith("sealift.yaml:4: mirrors[2].targets[0]: mirror 'one' (sealift.yaml:2) and 'two' (")
    assert "\n" not in text


@pytest.mark.parametrize(
    ("there", "back"),
    [
        (("a.example/*", "b.example/*"), ("b.example/*", "a.example/*")),
        (("a.example/*", "b.example/*"), (B, A)),
        ((A, B), ("b.example/*", "a.example/*")),
        (("a.example/*", "b.example/team/*"), ("b.example/team/app", A)),
    ],
)
def test_wildcards_are_looked_into(there: tuple[str, str], back: tuple[str, str]) -> None:
    assert "what is written here back to" in check(entry("there", *there), entry("back", *back))


@pytest.mark.parametrize(
    "mirrors",
    [
        (entry("one", A, B), entry("two", B, C)),
        (entry("one", A, B), entry("two", A, C)),
        (entry("one", A, B, ", tags: [v1]"), entry("two", B, A, ", tags: [v2]")),
        (entry("one", "a.example/*", "b.example/*"), entry("two", "b.example/app", "a.example/other/app")),
        (
            entry("one", "a.example/*", "b.example/*", ", repositories: [x]"),
            entry("two", "b.example/*", "a.example/*", ", repositories: [y]"),
        ),
        (entry("one", A, "b.example/x"), entry("two", "b.example/*", "c.example/*")),
    ],
)
def test_what_leads_nowhere_is_none(mirrors: tuple[str, ...]) -> None:
    assert "back to" not in check(*mirrors)


def test_tags_that_one_of_them_leaves_out_do_not_go_round() -> None:
    ring = (entry("one", A, B), entry("two", B, C, ", tags: [v1]"))

    assert not check(*ring, entry("three", C, A, ", tags: [v2]"))
    assert "back to" in check(*ring, entry("three", C, A, ", tags: [v1]"))


def test_names_that_grow_at_each_turn_are_not_followed_for_ever() -> None:
    found = check(
        entry("one", "b.example/*", "c.example/x/*"),
        entry("two", "c.example/*", "b.example/y/*"),
        entry("three", "a.example/app", "b.example/app"),
    )

    assert "mirror 'one'" in "".join(map(str, found))
