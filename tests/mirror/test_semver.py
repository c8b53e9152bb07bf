from __future__ import annotations

import pytest

from mirror.semver import Range, version_of


def fits(tag: str, wanted: str) -> bool:
    version = version_of(tag)
    return version is not None and version in Range.parse(wanted)


@pytest.mark.parametrize(
    ("wanted", "inside", "outside"),
    [
        (">=0.7", "0.7.0 0.11.3 7 v0.7.1", "0.6.9 0.7.0-rc.1 1.0.0-rc.1"),
        (">0.7", "0.8.0 1.0", "0.7.0 0.7.9 0.8.0-beta"),
        ("<1.2", "1.1.9 0.1", "1.2.0 1.2.0-rc.1 1.1.0-rc.1"),
        ("<=1.2", "1.2.9 1.1", "1.3.0 1.3.0-rc.1"),
        ("^1.2", "1.2.0 1.9.9", "1.1.9 2.0.0 2.0.0-alpha"),
        ("^0.2.3", "0.2.3 0.2.9", "0.2.2 0.3.0 0.3.0-alpha"),
        ("^0.0.3", "0.0.3", "0.0.4"),
        ("^0.0", "0.0.0 0.0.9", "0.1.0"),
        ("^0", "0.0.1 0.9.9", "1.0.0"),
        ("~1.2.3", "1.2.3 1.2.9", "1.2.2 1.3.0"),
        ("~> 1.2", "1.2.0 1.2.9", "1.3.0"),
        ("~1", "1.0.0 1.9.9", "2.0.0"),
        ("1.x", "1.0.0 1.9.9 1", "2.0.0 0.9.9 1.1.0-rc.1"),
        ("1.2.*", "1.2.0 1.2.7", "1.3.0"),
        ("1.2", "1.2.0 1.2.7", "1.3.0"),
        ("1.2.3", "1.2.3 v1.2.3", "1.2.4 1.2.3-rc.1"),
        ("1.2 - 1.4", "1.2.0 1.4.9", "1.1.9 1.5.0 1.5.0-rc.1"),
        ("1.2.3 - 2.0.0", "1.2.3 2.0.0", "1.2.2 2.0.1"),
        (">=1.2 <1.4", "1.2 1.3.9", "1.4.0 1.1"),
        ("^1.2 || ^3.1.0", "1.5.0 3.2.0", "2.0.0 3.0.9"),
        ("*", "0.0.1 99.0.0", "1.0.0-rc.1"),
        ("<x", "", "0.0.0 1.0.0"),
    ],
)
def test_ranges_hold_what_npm_says(wanted: str, inside: str, outside: str) -> None:
    assert [tag for tag in inside.split() if not fits(tag, wanted)] == []
    assert [tag for tag in outside.split() if fits(tag, wanted)] == []


@pytest.mark.parametrize(
    ("wanted", "inside", "outside"),
    [
        (">=1.0.0-rc.1", "1.0.0-rc.1 1.0.0-rc.10 1.0.0 2.0.0", "1.0.0-beta.9 1.0.1-rc.1"),
        ("^1.2.3-beta.2", "1.2.3-beta.2 1.2.3-beta.10 1.2.3 1.9.0", "1.2.3-beta.1 1.2.4-beta.2 2.0.0-beta.2"),
        ("~1.2.0-beta", "1.2.0-beta 1.2.0-rc 1.2.5", "1.2.0-alpha 1.3.0"),
        ("1.0.0-rc.1", "1.0.0-rc.1", "1.0.0 1.0.0-rc.2"),
        ("<2.0.0-rc.1", "2.0.0-beta.1 1.9.9", "2.0.0-rc.1 2.0.0 1.9.9-rc.1"),
        (">=2.0.0-alpha <2", "", "2.0.0-beta 2.0.0"),
        ("1.2.3-a - 1.4.0-b", "1.2.3-b 1.3.0 1.4.0-a", "1.3.0-a 1.4.0-c 1.4.0"),
    ],
)
def test_a_prerelease_is_in_only_where_the_range_names_one_of_the_same_version(
    wanted: str, inside: str, outside: str
) -> None:
    assert [tag for tag in inside.split() if not fits(tag, wanted)] == []
    assert [tag for tag in outside.split() if fits(tag, wanted)] == []


def test_versions_sort_as_semver_says() -> None:
    prereleases = ("0", "2", "10", "alpha", "alpha.1", "alpha.beta", "rc.2", "rc.11")
    ordered = [*(f"1.0.0-{name}" for name in prereleases), "1.0.0", "1.0.1"]

    versions = [version_of(tag) for tag in ordered]

    assert versions == sorted(version for version in versions if version)


@pytest.mark.parametrize("same", ["1.25", "v1.25", "1.25.0", "v1.25.0", "01.25.00"])
def test_partial_versions_and_a_leading_v_are_versions(same: str) -> None:
    assert version_of(same) == version_of("1.25.0")


def test_a_suffix_is_a_prerelease() -> None:
    alpine, plain = version_of("1.25-alpine"), version_of("1.25")

    assert alpine is not None
    assert plain is not None
    assert alpine.is_prerelease
    assert alpine < plain


@pytest.mark.parametrize(
    "tag", ["latest", "1.2.3.4", "v", "1.", "1.2-", "1.2-a..b", "1.2.3_1", "V1.2", "x1", "1" * 19]
)
def test_other_tags_are_no_versions(tag: str) -> None:
    assert version_of(tag) is None


@pytest.mark.parametrize("text", ["latest", ">=", "1.2.3.4", ">=1.2,<2", "^^1", "x.2", "1.x.3", "1.2 -"])
def test_a_malformed_range_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a version range|after a wildcard"):
        Range.parse(text)
