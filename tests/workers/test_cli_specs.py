from __future__ import annotations

from pathlib import Path

import pytest

from mirror.spec import Target
from registry.reference import MalformedReference
from workers.cli.specs import Terms, spec_from, spec_of_list

DIGEST = f"sha256:{'a' * 64}"


def test_without_a_tag_latest_is_taken_and_said() -> None:
    spec, note = spec_from("alpine", ["eu=registry.eu.example/alpine"], Terms())

    assert spec.refs == (("latest", "latest"),)
    assert spec.source == "docker.io/library/alpine"
    assert spec.name == "library/alpine"
    assert spec.targets == (Target("registry.eu.example/alpine", "eu"),)
    assert '"latest"' in note


def test_what_is_said_on_a_command_line_is_no_mirror_that_anybody_follows() -> None:
    assert spec_from("alpine", ["ghcr.io/me/alpine"], Terms())[0].ad_hoc
    assert spec_from("alpine", ["ghcr.io/me/alpine"], Terms(tags=("3.*",)))[0].ad_hoc
    assert spec_from("ghcr.io/org/*", ["ghcr.io/me/*"], Terms(tags=("3.*",)))[0].ad_hoc
    assert spec_of_list("images", ["ghcr.io/me/*"], Terms()).ad_hoc


def test_one_tag_keeps_its_name_unless_the_targets_give_another() -> None:
    kept, note = spec_from("ghcr.io/a/b:1.0", ["localhost:5000/b"], Terms())
    renamed, _ = spec_from("ghcr.io/a/b:1.0", ["localhost:5000/b:prod", "ghcr.io/c/b:prod"], Terms())

    assert kept.refs == (("1.0", "1.0"),)
    assert not note
    assert renamed.refs == (("prod", "1.0"),)


def test_a_digest_is_mirrored_under_the_tag_that_the_target_gives() -> None:
    spec, _ = spec_from(f"ghcr.io/a/b@{DIGEST}", ["localhost:5000/b:1.0"], Terms())

    assert spec.refs == (("1.0", DIGEST),)


def test_patterns_select_the_source_s_tags_by_their_own_names() -> None:
    spec, note = spec_from("ghcr.io/a/b", ["localhost:5000/b"], Terms(tags=("semver:>=1",), newest=5))

    assert (spec.refs, spec.include, spec.newest, note) == ((), ("semver:>=1",), 5, "")


def test_a_layout_folder_is_named_from_the_root_and_may_hold_an_equals_sign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    spec, _ = spec_from("oci:in:1.0", ["oci:a=b"], Terms())

    assert spec.source == f"oci:{tmp_path / 'in'}"
    assert spec.targets == (Target(f"oci:{tmp_path / 'a=b'}", "local"),)
    assert spec.name == "in"


@pytest.mark.parametrize(
    ("source", "to", "terms", "says"),
    [
        ("UPPER/case", ["localhost:5000/b"], Terms(), "lower case"),
        ("https://ghcr.io/a/b", ["localhost:5000/b"], Terms(), "without the scheme"),
        ("alpine:3", ["docker.io/library/alpine"], Terms(), "the source itself"),
        ("alpine", ["library/alpine"], Terms(tags=("*",)), "the source itself"),
        ("alpine:3", ["localhost:5000/b"], Terms(tags=("*",)), "names one image already"),
        ("alpine", ["localhost:5000/b:1"], Terms(tags=("*",)), "tags keep their names"),
        ("alpine:3", ["localhost:5000/b:1", "localhost:5001/b:2"], Terms(), "different tags (1, 2)"),
        (f"alpine@{DIGEST}", ["localhost:5000/b"], Terms(), "give each target one"),
        ("alpine", [f"localhost:5000/b@{DIGEST}"], Terms(), "its digest follows from the source"),
        ("alpine", ["Eu=localhost:5000/b"], Terms(), "not a region's name"),
        ("alpine", ["control=localhost:5000/b"], Terms(), "Sealift's own queue"),
        ("alpine", ["localhost:5000/b"], Terms(tags=("semver:>=abc",)), "semver:>=abc"),
        ("alpine", ["localhost:5000/b"], Terms(platforms=("amd64",)), "not a platform"),
    ],
)
def test_bad_input_is_refused_with_a_text_that_names_it(
    source: str, to: list[str], terms: Terms, says: str
) -> None:
    with pytest.raises(MalformedReference) as caught:
        spec_from(source, to, terms)

    assert says in str(caught.value)


def test_a_tag_may_be_mirrored_to_another_tag_of_its_own_repository() -> None:
    spec, _ = spec_from("localhost:5000/a:1", ["localhost:5000/a:stable"], Terms())

    assert spec.refs == (("stable", "1"),)


def test_a_target_that_is_named_twice_is_written_once() -> None:
    spec, _ = spec_from("alpine", ["localhost:5000/a", "localhost:5000/a"], Terms())

    assert spec.targets == (Target("localhost:5000/a"),)


def test_a_wildcard_is_every_repository_below_it_and_so_are_its_targets() -> None:
    spec, note = spec_from("ghcr.io/org/*", ["eu=b.example/x/*", "oci:/backup/*"], Terms(tags=("1.*",)))

    assert (spec.name, spec.source, spec.include, note) == ("org", "ghcr.io/org/*", ("1.*",), "")
    assert spec.targets == (Target("b.example/x/*", "eu"), Target("oci:/backup/*"))
    one = spec.of("ghcr.io/org/team/app")
    assert (one.name, one.source, one.rest) == ("org/team/app", "ghcr.io/org/team/app", "team/app")
    assert one.targets == (Target("b.example/x/team/app", "eu"), Target("oci:/backup/team/app"))


@pytest.mark.parametrize(
    ("source", "to", "says"),
    [
        ("ghcr.io/*/app", "b.example/*", "it comes last, as in ghcr.io/org/*"),
        ("*", "b.example/*", "it comes last"),
        ("ghcr.io/org*", "b.example/*", "it comes last"),
        ("ghcr.io/Org/*", "b.example/*", "lower case"),
        ("oci:dir/*", "b.example/*", "name them one by one"),
        ("ghcr.io/org/*", "b.example/x", "end the target with a wildcard too, as in b.example/x/*"),
        ("ghcr.io/org/*", "b.example/*/x", "it comes last"),
        ("ghcr.io/org/*", "ghcr.io/org/*", "is the source itself"),
        ("ghcr.io/org/*", "ghcr.io/org/copy/*", "within each other"),
        ("ghcr.io/org/*", "ghcr.io/*", "within each other"),
        ("ghcr.io/org/*", "oci:a:b/*", "may not hold ':'"),
    ],
)
def test_a_wildcard_that_cannot_be_meant_is_refused(source: str, to: str, says: str) -> None:
    with pytest.raises(MalformedReference) as caught:
        spec_from(source, [to], Terms(tags=("*",)))

    assert says in str(caught.value)


def test_of_many_repositories_the_tags_have_to_be_said() -> None:
    with pytest.raises(MalformedReference, match=r"as in --tags '\*'"):
        spec_from("ghcr.io/org/*", ["b.example/*"], Terms())


def test_one_repository_goes_to_no_wildcard() -> None:
    with pytest.raises(MalformedReference):
        spec_from("ghcr.io/org/app:1", ["b.example/*"], Terms())
