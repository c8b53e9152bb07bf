"""Which mirrors a push is news for, and what is run of each."""

from __future__ import annotations

import pytest

from config.fleet import parse_fleet
from tasks.pushes import Push, Wanted

FLEET = """\
mirrors:
  - name: app
    source: docker.io/team/app
    targets: [eu.example/app]
    tags: {include: ["v*"], exclude: ["*-dev"]}
  - {name: again, source: docker.io/team/app, targets: [us.example/app]}
  - name: few
    source: src.example/few
    targets: [eu.example/few]
    tags: {include: [latest, "semver:*"], newest: 3}
  - name: all
    source: src.example/team/*
    targets: [eu.example/all/*]
    repositories: {exclude: ["old*"]}
  - {name: chain, source: eu.example/app, targets: [far.example/app]}
  - name: pair
    mode: two_way
    targets: [a.example/x, b.example/x]
"""


@pytest.fixture(scope="module")
def wanted() -> Wanted:
    return Wanted(parse_fleet(FLEET))


def runs(
    wanted: Wanted, repository: str, tag: str = "v1", *, has_below: bool = False
) -> dict[str, list[str]]:
    """By mirror the tags that are run; none: all that it has."""
    specs = wanted.specs(Push(repository, tag, has_below=has_below))
    return {spec.name: [tag for tag, _ in spec.refs] for spec in specs}


def test_every_mirror_that_reads_the_repository_and_takes_the_tag_runs_it_alone(wanted: Wanted) -> None:
    assert runs(wanted, "docker.io/team/app") == {"app": ["v1"], "again": ["v1"]}
    assert runs(wanted, "docker.io/team/app", "v1-dev") == {"again": ["v1-dev"]}


def test_a_target_is_known_and_no_news_unless_another_mirror_reads_it(wanted: Wanted) -> None:
    assert wanted.knows(Push("us.example/app", "v1"))
    assert runs(wanted, "us.example/app") == {}
    assert runs(wanted, "eu.example/app") == {"chain": ["v1"]}
    assert wanted.knows(Push("eu.example/all/x/y", "v1"))
    assert not wanted.knows(Push("eu.example/none", "v1"))
    assert not wanted.knows(Push("src.example/team", "v1"))


def test_both_sides_of_a_two_way_mirror_are_read(wanted: Wanted) -> None:
    assert runs(wanted, "a.example/x") == runs(wanted, "b.example/x") == {"pair": ["v1"]}


def test_a_repository_below_a_wildcard_is_a_mirror_of_its_own_even_if_it_is_new(wanted: Wanted) -> None:
    assert runs(wanted, "src.example/team/new/one") == {"all/new/one": ["v1"]}
    assert runs(wanted, "src.example/team/old-one") == {}
    (spec,) = wanted.specs(Push("src.example/team/new", "v1"))
    assert (spec.source, spec.targets[0].repository) == ("src.example/team/new", "eu.example/all/new")
    assert not spec.has_many


def test_whether_a_tag_is_one_of_the_newest_only_the_whole_list_says(wanted: Wanted) -> None:
    assert runs(wanted, "src.example/few", "1.2.3") == {"few": []}
    assert runs(wanted, "src.example/few", "latest") == {"few": ["latest"]}
    assert runs(wanted, "src.example/few", "nightly") == {}


def test_news_of_a_project_are_of_all_below_it(wanted: Wanted) -> None:
    assert runs(wanted, "docker.io/team", "", has_below=True) == {"app": [], "again": []}
    assert runs(wanted, "src.example/team", "", has_below=True) == {"all": []}
    assert runs(wanted, "src.example/team/new", "", has_below=True) == {"all": []}
    assert runs(wanted, "docker.io/tea", "", has_below=True) == {}


@pytest.mark.parametrize("tag", [f"sha256-{'0' * 64}.sig", "sealift-keep.1.v1"])
def test_what_travels_with_an_image_is_run_by_none(wanted: Wanted, tag: str) -> None:
    assert runs(wanted, "a.example/x", tag) == {}
