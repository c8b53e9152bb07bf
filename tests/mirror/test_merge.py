"""What a tag of a two-way mirror is to be, from what each side has and what all had before."""

from __future__ import annotations

from itertools import permutations, product

import pytest

from mirror.merge import Side, Verdict, chosen, merge, newest, preferred, told

BASE, ONE, TWO, THREE = (f"sha256:{text * 64}" for text in "0123")


def sides(*digests: str | None, new: str = "") -> list[Side]:
    """Sides a, b, c …; those in ``new`` have not met the base."""
    return [Side(name, digest, name not in new) for name, digest in zip("abcd", digests, strict=False)]


def conflict(*choices: str) -> Verdict:
    return Verdict("conflict", choices=choices)


# -- with a base ---------------------------------------------------------------------------------------


def test_nothing_moved() -> None:
    assert merge(sides(BASE, BASE, BASE), BASE) == Verdict("take", BASE)


@pytest.mark.parametrize("digests", sorted(set(permutations((ONE, BASE, BASE)))))
def test_one_side_moved_and_the_others_follow(digests: tuple[str, ...]) -> None:
    assert merge(sides(*digests), BASE) == Verdict("take", ONE)


def test_several_moved_to_the_same_digest() -> None:
    assert merge(sides(ONE, BASE, ONE), BASE) == Verdict("take", ONE)


def test_all_moved_to_the_same_digest() -> None:
    assert merge(sides(ONE, ONE), BASE) == Verdict("take", ONE)


def test_two_moved_apart() -> None:
    assert merge(sides(ONE, TWO, BASE), BASE) == conflict(ONE, TWO)


def test_three_moved_apart() -> None:
    assert merge(sides(ONE, TWO, THREE), BASE) == conflict(ONE, TWO, THREE)


def test_a_deletion_is_noticed_and_carried_nowhere() -> None:
    assert merge(sides(BASE, None, BASE), BASE) == Verdict("deleted", choices=(BASE,))


def test_one_moved_what_another_deleted() -> None:
    assert merge(sides(ONE, None, BASE), BASE) == conflict(ONE)


def test_a_tag_that_all_deleted_is_gone() -> None:
    assert merge(sides(None, None), BASE) == Verdict("gone")


# -- a side that has not met the base ---------------------------------------------------------------------


def test_a_new_side_without_the_tag_gets_it() -> None:
    assert merge(sides(BASE, BASE, None, new="c"), BASE) == Verdict("take", BASE)


def test_a_new_side_that_has_what_all_have_is_one_of_them() -> None:
    assert merge(sides(BASE, BASE, BASE, new="c"), BASE) == Verdict("take", BASE)


def test_a_new_side_with_something_else_is_a_conflict_although_nobody_moved() -> None:
    assert merge(sides(BASE, BASE, ONE, new="c"), BASE) == conflict(BASE, ONE)


def test_a_new_side_that_lags_behind_follows() -> None:
    assert merge(sides(ONE, BASE, BASE, new="c"), BASE) == Verdict("take", ONE)


def test_a_new_side_that_has_what_another_moved_to_is_no_conflict() -> None:
    assert merge(sides(ONE, BASE, ONE, new="c"), BASE) == Verdict("take", ONE)


def test_a_new_side_with_something_else_than_what_another_moved_to() -> None:
    assert merge(sides(ONE, BASE, TWO, new="c"), BASE) == conflict(ONE, TWO)


def test_what_all_who_had_it_deleted_begins_anew_with_a_new_side() -> None:
    assert merge(sides(None, None, ONE, new="c"), BASE) == Verdict("take", ONE)


def test_only_new_sides_know_of_no_base() -> None:
    assert merge(sides(ONE, TWO, new="ab"), BASE) == conflict(ONE, TWO)


# -- the first meeting --------------------------------------------------------------------------------------


def test_equal_tags_become_the_base() -> None:
    assert merge(sides(ONE, ONE), None) == Verdict("take", ONE)


def test_differing_tags_are_a_conflict() -> None:
    assert merge(sides(ONE, TWO), None) == conflict(ONE, TWO)


def test_missing_tags_are_copied() -> None:
    assert merge(sides(None, ONE, None), None) == Verdict("take", ONE)


def test_what_nobody_has_is_gone() -> None:
    assert merge(sides(None, None), None) == Verdict("gone")


# -- immutable tags ------------------------------------------------------------------------------------------


def test_an_immutable_tag_does_not_move_once_it_is_agreed() -> None:
    assert merge(sides(ONE, BASE), BASE, is_immutable=True) == Verdict("immutable", choices=(ONE, BASE))


def test_an_immutable_tag_that_moved_alike_everywhere_has_moved() -> None:
    assert merge(sides(ONE, ONE), BASE, is_immutable=True).kind == "immutable"


def test_an_immutable_tag_that_is_new_is_copied() -> None:
    assert merge(sides(ONE, None), None, is_immutable=True) == Verdict("take", ONE)


def test_no_rule_moves_an_immutable_tag() -> None:
    verdict = merge(sides(ONE, TWO), BASE, is_immutable=True)
    assert preferred(verdict, sides(ONE, TWO), "a") == verdict
    assert newest(verdict, {ONE: 1.0, TWO: 2.0}) == verdict


# -- rules ----------------------------------------------------------------------------------------


def test_the_preferred_side_wins_a_conflict() -> None:
    given = sides(ONE, TWO, BASE)
    assert preferred(merge(given, BASE), given, "b") == Verdict("take", TWO, rule="prefer")


def test_the_preferred_side_has_no_say_where_it_did_not_move() -> None:
    given = sides(ONE, TWO, BASE)
    assert preferred(merge(given, BASE), given, "c") == conflict(ONE, TWO)


def test_a_preferred_side_at_the_base_wins_over_one_that_is_new() -> None:
    given = sides(BASE, TWO, new="b")
    assert preferred(merge(given, BASE), given, "a") == Verdict("take", BASE, rule="prefer")


def test_a_preferred_side_that_deleted_does_not_win_over_a_push() -> None:
    given = sides(None, ONE)
    assert preferred(merge(given, BASE), given, "a") == conflict(ONE)


def test_the_image_that_was_made_last_wins() -> None:
    assert newest(conflict(ONE, TWO), {ONE: 5.0, TWO: 4.0}) == Verdict("take", ONE, rule="newest")


def test_images_of_the_same_moment_stay_a_conflict() -> None:
    assert newest(conflict(ONE, TWO, THREE), {ONE: 5.0, TWO: 5.0, THREE: 1.0}) == conflict(ONE, TWO, THREE)


def test_images_without_a_date_stay_a_conflict() -> None:
    assert newest(conflict(ONE, TWO), {ONE: 0.0, TWO: 0.0}) == conflict(ONE, TWO)


def test_a_push_is_newer_than_a_deletion_even_without_a_date() -> None:
    assert newest(merge(sides(ONE, None), BASE), {ONE: 0.0}) == Verdict("take", ONE, rule="newest")


@pytest.mark.parametrize("digests", [(ONE, TWO), (BASE, None)])
def test_a_person_decides_what_no_rule_did(digests: tuple[str | None, ...]) -> None:
    given = sides(*digests)
    assert chosen(merge(given, BASE), given, "a") == Verdict("take", digests[0], rule="resolve")


def test_a_person_may_move_an_immutable_tag() -> None:
    given = sides(ONE, BASE)
    verdict = merge(given, BASE, is_immutable=True)
    assert chosen(verdict, given, "b") == Verdict("take", BASE, rule="resolve")


def test_a_side_without_the_tag_decides_nothing() -> None:
    given = sides(BASE, None)
    assert chosen(merge(given, BASE), given, "b").kind == "deleted"


def test_a_person_may_take_the_side_that_did_not_move() -> None:
    given = sides(ONE, BASE)
    assert chosen(merge(given, BASE), given, "b") == Verdict("take", BASE, rule="resolve")


# -- of every case --------------------------------------------------------------------------------

DIGESTS = (None, BASE, ONE, TWO)
CASES = [
    (digests, new, base)
    for digests in product(DIGESTS, repeat=3)
    for new in ("", "c", "bc", "abc")
    for base in (None, BASE)
]


def test_what_one_side_alone_has_is_lost_by_no_decision() -> None:
    """What is taken everywhere replaces nothing but the base, which all had."""
    for digests, new, base in CASES:
        verdict = merge(sides(*digests, new=new), base)
        if verdict.kind == "take":
            assert set(digests) - {None} <= {verdict.wanted, base}, (digests, new, base)


def test_once_all_have_what_was_decided_there_is_nothing_to_do() -> None:
    for digests, new, base in CASES:
        verdict = merge(sides(*digests, new=new), base)
        if verdict.wanted:
            assert merge(sides(*[verdict.wanted] * 3), verdict.wanted) == Verdict("take", verdict.wanted)


def test_the_order_of_the_sides_changes_nothing() -> None:
    for digests, new, base in CASES:
        given = sides(*digests, new=new)
        verdicts = {
            (found.kind, found.wanted, frozenset(found.choices))
            for order in permutations(given)
            for found in [merge(order, base)]
        }
        assert len(verdicts) == 1, (digests, new, base)


def test_reasons_say_who_has_what() -> None:
    given = sides(ONE, TWO)
    text = told(merge(given, BASE), given, BASE)
    assert text == (
        "conflict: a has sha256:111111111111…, b has sha256:222222222222…; all had sha256:000000000000…"
    )
    assert "never were the same" in told(merge(given, None), given, None)
    gone = sides(BASE, None)
    assert told(merge(gone, BASE), gone, BASE).startswith("deleted in b, where all had sha256:0000")
    assert told(merge(given, BASE, is_immutable=True), given, BASE).startswith("an immutable tag has moved")
