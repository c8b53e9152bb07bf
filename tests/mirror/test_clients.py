"""Which registries clients should pull from: by what was measured and what runs left in the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from mirror.clients import Choice, choose, plain
from mirror.current import Currency
from mirror.ledger.measured import Measurement, Reach
from mirror.spec import MirrorSpec, Target

SPEC = MirrorSpec(
    "app",
    "docker.io/org/app",
    (Target("eu.example/org/app", "eu"), Target("us.example/org/app", "us"), Target("oci:/tmp/x", "eu")),
)
KNOWN = {target.repository: Currency(is_known=True) for target in SPEC.targets}


def up(host: str, latency_s: float) -> Reach:
    last = Measurement("eu", host, 1.0, up=True)
    return Reach("eu", host, last, latency_s=latency_s, bytes_per_second=1e7, fresh=True, was_up=True)


def down(host: str, reason: str = "connection refused") -> Reach:
    last = Measurement("eu", host, 1.0, up=False, error=reason)
    return Reach("eu", host, last, down_since=1.0, reason=reason, fresh=True, was_up=True)


def chosen(
    *reaches: Reach,
    spec: MirrorSpec = SPEC,
    known: Mapping[str, Currency] = KNOWN,
    platforms: Sequence[str] = (),
    region: str = "eu",
) -> Choice:
    return choose(spec, region, {one.host: one for one in reaches}, known, platforms)


def hosts(choice: Choice) -> list[str]:
    return [one.host for one in choice.chosen]


def test_the_fastest_comes_first_be_it_the_source() -> None:
    three = up("docker.io", 0.02), up("eu.example", 0.03), up("us.example", 0.01)
    assert hosts(chosen(*three)) == ["us.example", "docker.io", "eu.example"]


def test_where_nothing_was_measured_the_regions_own_come_first_and_the_source_last() -> None:
    assert hosts(chosen()) == ["eu.example", "us.example", "docker.io"]
    assert hosts(chosen(region="us")) == ["us.example", "eu.example", "docker.io"]


def test_a_registry_that_is_down_is_left_out_with_the_reason_in_one_safe_line() -> None:
    choice = chosen(down("eu.example", 'no\n[[registry]]\nx = "\x1b[0m\u202e"'), up("us.example", 1.0))
    assert hosts(choice) == ["us.example", "docker.io"]
    (one,) = choice.left_out
    assert one.left_out == 'down as seen from there: no [[registry]] x = " [0m "'


@pytest.mark.parametrize(
    ("known", "why"),
    [
        (Currency(), "no run has brought the mirror's tags there yet"),
        (Currency(is_known=True, behind={"1": 1.0, "2": 1.0}), "behind: 1, 2 not current there"),
        (
            Currency(is_known=True, behind=dict.fromkeys("abcde", 1.0)),
            "behind: a, b, c and 2 more not current there",
        ),
        (Currency(is_known=True, more_behind=7), "behind: 7 tags not current there"),
        (
            Currency(is_known=True, behind=dict.fromkeys("abcde", 1.0), more_behind=7),
            "behind: a, b, c and 9 more not current there",
        ),
        (
            Currency(is_known=True, wrong={"missing": 2}),
            "not whole: tags found 2 missing when it was verified",
        ),
    ],
)
def test_a_registry_that_does_not_hold_all_tags_is_left_out_and_said_why(known: Currency, why: str) -> None:
    choice = chosen(known={**KNOWN, "eu.example/org/app": known})
    assert [(one.host, one.left_out) for one in choice.left_out] == [("eu.example", why)]


@pytest.mark.parametrize(
    ("platforms", "why"),
    [
        (
            (),
            "partial: it holds only linux/amd64, linux/arm/v7; give --platform if that is what clients run",
        ),
        (("linux/s390x",), "partial: it holds linux/amd64, linux/arm/v7, and not linux/s390x"),
        (("linux/amd64", "linux/arm"), "partial: it holds linux/amd64, linux/arm/v7, and not linux/arm"),
        (("linux/amd64",), ""),
        (("linux/arm/v7",), ""),
    ],
)
def test_a_subset_of_platforms_is_enough_for_clients_that_run_one_of_it(
    platforms: Sequence[str], why: str
) -> None:
    spec = replace(SPEC, platforms=("linux/amd64", "linux/arm/v7"))
    choice = chosen(spec=spec, platforms=platforms)
    assert {one.left_out for one in choice.candidates if not one.is_upstream} == {why}
    assert "docker.io" in hosts(choice)


@pytest.mark.parametrize(
    ("more", "known", "why"),
    [
        ({}, Currency(is_known=True), ""),
        ({"finalize": "each"}, Currency(is_known=True), "its tags move on their own (finalize: each)"),
        (
            {},
            Currency(is_known=True, is_unsure=True),
            "the last run was not through with all tags",
        ),
        ({}, Currency(is_known=True, apart={"1": 1.0}), "tags moved apart, and nobody has decided: 1"),
    ],
)
def test_only_who_is_flipped_together_and_current_may_say_what_tags_are(
    more: dict[str, Any], known: Currency, why: str
) -> None:
    choice = chosen(spec=replace(SPEC, **more), known={**KNOWN, "eu.example/org/app": known})
    one = next(one for one in choice.chosen if one.host == "eu.example")
    assert one.unresolved == why
    assert one.document()["resolves"] is (not why)


def test_of_a_two_way_mirror_each_side_is_what_references_may_name() -> None:
    spec = replace(SPEC, source="=", two_way=True)
    choice = chosen(spec=spec)
    assert {one.host for one in choice.upstreams} == {"eu.example", "us.example"}


def test_a_wildcard_is_what_stands_before_its_repositories() -> None:
    spec = MirrorSpec("all", "docker.io/org/*", (Target("eu.example/mirrors/org/*", "eu"),))
    choice = chosen(spec=spec, known={"eu.example/mirrors/org/*": Currency(is_known=True)})
    assert [one.place for one in choice.chosen] == ["eu.example/mirrors/org", "docker.io/org"]
    assert choice.is_wildcard


def test_a_long_text_is_cut() -> None:
    assert len(plain("word " * 100)) == 161
