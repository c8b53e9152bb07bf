from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from time import perf_counter

import pytest

from mirror.select import Choice, Selection, is_digest_tag
from mirror.spec import MirrorSpec

DIGEST_TAG = "sha256-" + "ab" * 32
TAGS = ("0.6.0", "0.7.0", "v0.8.0", "1.0.0-rc.1", "1.0.0", "latest", "nightly-1", "1.0.0-dev")


def kept(tags: tuple[str, ...] | list[str], *include: str, exclude: tuple[str, ...] = ()) -> list[str]:
    return list(Selection(include or ("*",), exclude).choose(tags).kept)


def test_without_patterns_every_tag_is_kept_in_its_order() -> None:
    assert Selection().choose(TAGS) == Choice(TAGS)


def test_the_pattern_kinds_add_up() -> None:
    chosen = kept(TAGS, "semver:>=0.7", "latest", "regex:^nightly-")

    assert chosen == ["0.7.0", "v0.8.0", "1.0.0", "latest", "nightly-1"]


def test_a_glob_is_about_the_whole_tag_and_its_case() -> None:
    tags = ("v1-alpine", "v1-Alpine", "v1-alpine3", "edge")

    assert kept(tags, "*-alpine") == ["v1-alpine"]
    assert kept(tags, "v?-[aA]lpine") == ["v1-alpine", "v1-Alpine"]
    assert kept(tags, "[!v]*") == ["edge"]


def test_a_regex_is_searched_for_unless_it_is_anchored() -> None:
    tags = ("a-nightly-1", "nightly-1", "nightly")

    assert kept(tags, "regex:nightly") == list(tags)
    assert kept(tags, "regex:^nightly-") == ["nightly-1"]
    assert kept(tags, "regex:^nightly$") == ["nightly"]


def test_exclude_goes_before_include_even_for_exact_tags() -> None:
    selection = Selection(("*", "latest"), ("*-dev", "latest", "regex:^night"))

    choice = selection.choose(TAGS)

    assert choice.kept == ("0.6.0", "0.7.0", "v0.8.0", "1.0.0-rc.1", "1.0.0")
    assert choice.dropped == (
        ("latest", "excluded by latest"),
        ("nightly-1", "excluded by regex:^night"),
        ("1.0.0-dev", "excluded by *-dev"),
    )


def test_each_dropped_tag_names_its_rule() -> None:
    choice = Selection(("semver:^1",), newest=1).choose(["1.0.0", "1.1.0", "edge"])

    assert choice == Choice(
        ("1.1.0",), (("1.0.0", "older than the newest 1 versions"), ("edge", "no include pattern matches"))
    )


def test_newest_ranks_versions_and_not_names() -> None:
    tags = ["1.9.0", "1.10.0", "1.2.0", "1.10.0-rc.1"]

    assert Selection(newest=2).choose(tags).kept == ("1.10.0", "1.10.0-rc.1")
    assert Selection(newest=3).choose(tags).kept == ("1.9.0", "1.10.0", "1.10.0-rc.1")


def test_two_names_of_one_version_count_once_and_stay_together() -> None:
    choice = Selection(newest=2).choose(["1.24.0", "1.25", "v1.25.0", "1.26.1"])

    assert choice.kept == ("1.25", "v1.25.0", "1.26.1")


def test_newest_keeps_what_is_named_and_drops_other_tags_that_are_no_versions() -> None:
    tags = ["1.0.0", "2.0.0", "3.0.0", "latest", "nightly-1", "nightly-2", "abc1234x"]

    everything = Selection(newest=1).choose(tags)
    named = Selection(("semver:*", "latest", "1.0.0", "nightly-*"), newest=1).choose(tags)

    assert everything.kept == ("3.0.0",)
    assert dict(everything.dropped)["latest"] == "not a version, and only the newest versions are wanted"
    assert named.kept == ("1.0.0", "3.0.0", "latest", "nightly-1", "nightly-2")


def test_a_tag_that_the_catch_all_selects_first_is_still_named_by_another_pattern() -> None:
    assert Selection(("*", "nightly-*"), newest=1).choose(["1.0", "nightly-1", "edge"]).kept == (
        "1.0",
        "nightly-1",
    )


def test_newest_by_created_ranks_all_but_exact_tags() -> None:
    dates: dict[str, datetime | float] = {
        "a": 30.0,
        "b": datetime(2024, 1, 1, tzinfo=UTC),
        "c": 10.0,
        "d": 20.0,
    }
    asked: list[str] = []

    def created(tag: str) -> datetime | float:
        asked.append(tag)
        return dates[tag]

    choice = Selection(("*", "c"), newest=2, newest_by="created").choose("abcd", created)

    assert choice == Choice(("a", "b", "c"), (("d", "made before the newest 2 images"),))
    assert asked == ["a", "b", "d"]


def test_equal_dates_are_decided_by_name() -> None:
    selection = Selection(newest=1, newest_by="created")

    assert selection.choose(["b", "a"], lambda _: 1.0).kept == ("a",)
    assert selection.choose(["a", "b"], lambda _: 1.0).kept == ("a",)


def test_dates_can_be_asked_for_on_several_threads() -> None:
    together = threading.Barrier(2, timeout=5)

    def created(tag: str) -> float:
        together.wait()
        return float(tag)

    with ThreadPoolExecutor(2) as pool:
        choice = Selection(newest=1, newest_by="created").choose(["1", "2"], created, pool.map)

    assert choice.kept == ("2",)


def test_newest_by_created_needs_dates() -> None:
    with pytest.raises(ValueError, match="needs the images' dates"):
        Selection(newest=1, newest_by="created").choose(["a"])


@pytest.mark.parametrize("suffix", ["", ".sig", ".att", ".sbom"])
def test_digest_tags_travel_with_their_image(suffix: str) -> None:
    tag = DIGEST_TAG + suffix

    choice = Selection(("*", "regex:sha256", "sha256-*")).choose([tag, "1.0"])

    assert is_digest_tag(tag)
    assert choice.kept == ("1.0",)
    assert choice.dropped == ((tag, "a signature, attestation or referrers tag: travels with its image"),)
    assert Selection((tag,)).choose([tag]).kept == (tag,)


@pytest.mark.parametrize("tag", ["sha256-abc", DIGEST_TAG + ".sig2", "x" + DIGEST_TAG, DIGEST_TAG.upper()])
def test_tags_that_only_look_alike_are_ordinary(tag: str) -> None:
    assert not is_digest_tag(tag)


def test_exact_tags_alone_need_no_listing() -> None:
    assert Selection(("1.0", "latest", "1.0"), ("late*",)).literals() == ("1.0",)


@pytest.mark.parametrize(
    "selection", [Selection(), Selection(("1.0", "semver:^1")), Selection(("1.0",), newest=3)]
)
def test_anything_else_needs_a_listing(selection: Selection) -> None:
    assert selection.literals() is None


def test_exact_tags_are_known_beside_patterns() -> None:
    assert Selection(("semver:^1", "latest", "edge"), ("edge",)).exact == ("latest",)


def test_pages_can_be_selected_one_by_one_unless_the_newest_are_wanted() -> None:
    assert Selection(("semver:^1",)).streamable
    assert not Selection(newest=1).streamable


def test_a_tag_that_is_listed_twice_counts_once() -> None:
    assert Selection(("1*",)).choose(["1.0", "2.0", "1.0", "2.0"]) == Choice(
        ("1.0",), (("2.0", "no include pattern matches"),)
    )


def test_a_selection_can_be_read_from_a_spec() -> None:
    spec = MirrorSpec("m", "a.example/x", (), ("1.*",), ("*-dev",), 3, "created")

    assert Selection.of(spec) == Selection(("1.*",), ("*-dev",), 3, "created")


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("regex:(", r"pattern 'regex:\(': not a regular expression"),
        ("regex:", "pattern 'regex:': the regular expression is missing"),
        ("semver:", "pattern 'semver:': the version range is missing"),
        ("semver:newest", "pattern 'semver:newest': 'newest' is not a version range"),
        ("re:x", "pattern 're:x': 're' is no kind of pattern; use 'regex:' or 'semver:'"),
        (">=0.7", "pattern '>=0.7': neither a tag nor a glob; a version range starts with 'semver:'"),
        ("", "pattern '': neither a tag nor a glob"),
        ("a b*", r"pattern 'a b\*': not a glob"),
        ("[ab", r"pattern '\[ab': not a glob"),
        ("*/x", r"pattern '\*/x': not a glob"),
    ],
)
def test_a_malformed_pattern_is_named_in_one_line(pattern: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as included:
        Selection(include=("1.0", pattern))
    with pytest.raises(ValueError, match=said):
        Selection(exclude=(pattern,))
    assert "\n" not in str(included.value)


def test_a_selection_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="include is empty"):
        Selection(include=())
    with pytest.raises(ValueError, match="newest is 0; it must be at least 1"):
        Selection(newest=0)


def test_a_hundred_thousand_tags_take_no_time_to_speak_of() -> None:
    tags = [f"{i % 13}.{i % 50}.{i % 7}-rc.{i}" if i % 3 else f"nightly-{i}" for i in range(100_000)]
    selection = Selection(("semver:>=0.7 <5 || ^7.2", "*-rc.?", "regex:^nightly-"), ("*-dev",), newest=50)

    start = perf_counter()
    choice = selection.choose(tags)

    assert perf_counter() - start < 5
    assert len(choice.kept) + len(choice.dropped) == len(tags)
