"""Two-way mirrors of the fleet file as the engine's terms."""

from __future__ import annotations

import pytest

from config.fleet import parse_fleet
from config.problems import FleetError
from mirror.spec import TARGETS, MirrorSpec
from tasks.terms import check_fleet, spec_of

TEXT = """\
mirrors:
  - name: app
    mode: two_way
    targets: [alpine, {region: eu, repository: eu.example/team/app}]
"""


def spec(more: str = "") -> MirrorSpec:
    fleet = parse_fleet(TEXT + more)
    check_fleet(fleet)
    return spec_of(fleet.mirrors[0], fleet)


def refused(text: str) -> str:
    with pytest.raises(FleetError) as error:
        check_fleet(parse_fleet(text))
    return str(error.value)


def test_all_sides_are_targets_and_there_is_no_source() -> None:
    found = spec()

    assert (found.kind, found.source, found.rule) == ("two_way", TARGETS, "hold")
    assert [one.repository for one in found.targets] == ["docker.io/library/alpine", "eu.example/team/app"]
    assert found.origin == "docker.io/library/alpine, eu.example/team/app"
    assert found.places == ("docker.io/library/alpine", "eu.example/team/app")
    assert MirrorSpec.parse(found.document()) == found


@pytest.mark.parametrize("prefer", ["eu.example", "eu.example/team/app"])
def test_a_side_is_preferred_by_its_host_or_in_full(prefer: str) -> None:
    found = spec(f"    prefer: {prefer}\n")

    assert (found.rule, found.prefer) == ("prefer", "eu.example/team/app")


def test_rules_arrive() -> None:
    found = spec("    conflicts: newest\n    immutable: ['v*', 'semver:>=1']\n")

    assert (found.rule, found.immutable) == ("newest", ("v*", "semver:>=1"))


def test_a_preferred_side_that_is_none_is_named_with_those_there_are() -> None:
    text = refused(f"{TEXT}    prefer: us.example\n")

    assert text.startswith(
        "sealift.yaml:5: mirrors[0].prefer: 'us.example' is not one of the targets; write one"
    )
    assert "eu.example/team/app" in text


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("eu.example/*", "is of one repository; name it without '*'"),
        ("oci:folder", "a folder cannot be a side"),
    ],
)
def test_what_cannot_be_a_side_is_named(target: str, said: str) -> None:
    assert said in refused(TEXT.replace("alpine", target))


def test_a_wrong_pattern_is_named_at_its_place() -> None:
    assert refused(f"{TEXT}    immutable: ['v*', 'v[']\n").startswith(
        "sealift.yaml:5: mirrors[0].immutable[1]: pattern 'v['"
    )


def test_the_same_pair_is_not_to_be_written_twice() -> None:
    again = TEXT.removeprefix("mirrors:\n").replace("name: app", "name: ppa")
    text = refused(TEXT + again)

    assert "mirrors[1].targets[0]" in text
    assert "mirror 'app' (sealift.yaml:2) writes docker.io/library/alpine too" in text
