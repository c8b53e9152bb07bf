"""Two-way mirrors of the fleet file as the engine's terms."""

from __future__ import annotations

import pytest

from config.fleet import parse_fleet
from config.problems import FleetError
from mirror.spec import ALL_TARGETS, TARGETS, MirrorSpec, one_of
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
        (
            "us.example/*",
            "beside us.example/* it is another kind of side: all sides are repositories, or all end",
        ),
        (
            "oci:folder",
            "a folder cannot be a side, since not every worker sees the same one; name a repository",
        ),
    ],
)
def test_what_cannot_be_a_side_is_named(target: str, said: str) -> None:
    assert said in refused(TEXT.replace("alpine", f'"{target}"'))


WILD = """\
mirrors:
  - name: org
    mode: two_way
    targets: ["us.example/org/*", {region: eu, repository: "eu.example/*"}]
    repositories: {include: ["app*"]}
"""


def test_sides_may_be_all_that_is_below_wildcards() -> None:
    fleet = parse_fleet(f"{WILD}    prefer: eu.example\n")
    check_fleet(fleet)
    found = spec_of(fleet.mirrors[0], fleet)

    assert (found.source, found.is_wildcard, found.prefer) == (ALL_TARGETS, True, "eu.example/*")
    assert found.places == ("us.example/org/*", "eu.example/*")
    own = one_of(found, "app/web")
    assert (own.name, own.mirror, own.source, own.rest) == ("org/app/web", "org", TARGETS, "app/web")
    assert [one.repository for one in own.targets] == ["us.example/org/app/web", "eu.example/app/web"]
    assert own.prefer == "eu.example/app/web"


def test_sides_within_each_other_are_refused() -> None:
    text = refused(WILD.replace("eu.example/*", "us.example/org/copy/*"))

    assert "us.example/org/copy/* and us.example/org/* are within each other; use another prefix" in text


def test_repositories_are_chosen_where_there_are_many() -> None:
    assert "belongs to targets that end with '/*'; leave it out" in refused(f"{TEXT}    repositories: [a]\n")


def test_a_wrong_pattern_is_named_at_its_place() -> None:
    assert refused(f"{TEXT}    immutable: ['v*', 'v[']\n").startswith(
        "sealift.yaml:5: mirrors[0].immutable[1]: pattern 'v['"
    )


def test_the_same_pair_is_not_to_be_written_twice() -> None:
    again = TEXT.removeprefix("mirrors:\n").replace("name: app", "name: ppa")
    text = refused(TEXT + again)

    assert "mirrors[1].targets[0]" in text
    assert "mirror 'app' (sealift.yaml:2) writes docker.io/library/alpine too" in text


def test_deletions_are_carried_over_only_where_that_is_asked_for() -> None:
    held = spec()
    carried = spec("    deletes: propagate\n    delete_share: 5\n    delete_after: 2d\n")

    assert (held.delete, held.carries_deletions) == ("never", False)
    assert (carried.delete_share, carried.delete_after_s, carried.carries_deletions) == (5, 2 * 86400, True)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("delete: mirror", "delete: a two-way mirror has no source; with `deletes: propagate`"),
        ("delete_after: 2d", "delete_after: belongs to `deletes: propagate`"),
        ("tags: [v1]\n    deletes: propagate", "deletes: is of no use where tags are named one by one"),
    ],
)
def test_what_does_not_go_with_deletes_is_one_line(keys: str, said: str) -> None:
    assert said in refused(f"{TEXT}    {keys}\n")
