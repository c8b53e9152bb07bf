"""What a process keeps in mind of runs may be cleared by another of its threads at any moment."""

from __future__ import annotations

from collections.abc import Callable

from mirror.ledger.keys import Keys
from mirror.ledger.terms import Terms
from mirror.spec import Lane, MirrorSpec, Target
from tests.support.valkey import ValkeyServer

SPEC = MirrorSpec("app", "src.example/app", (Target("eu.example/app", "eu"),))


class Cleared(dict[str, tuple[MirrorSpec, Lane]]):
    """By another thread, between the question whether something is there and its being taken."""

    def __contains__(self, key: object) -> bool:
        is_there = super().__contains__(key)
        self.clear()
        return is_there


def test_terms_that_another_thread_forgets_meanwhile_are_no_error(valkey: ValkeyServer) -> None:
    with valkey.client() as client:
        terms = Terms(client, Keys("test:"))
        asked: list[Callable[[], object]] = [
            lambda: terms.known_mirror("5b14") == "app",
            lambda: terms.of("5b14") == (SPEC, "release"),
            lambda: terms.keep("5b14", "", "") == (SPEC, "release"),
        ]
        for ask in asked:
            terms._known = Cleared({"5b14": (SPEC, "release")})

            assert ask()
