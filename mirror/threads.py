"""Threads for the steps of one process: started once, not for each step.

A batch of small images takes half a dozen steps of some milliseconds; starting threads for each of them
costs more than what they do.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from typing import Any, ParamSpec, TypeVar

A = TypeVar("A")
P = ParamSpec("P")
T = TypeVar("T")


def carrying(work: Callable[P, T]) -> Callable[P, T]:
    """``work`` with the context variables of here, wherever it runs, and several times at once."""
    context = copy_context()

    def carried(*args: P.args, **kwargs: P.kwargs) -> T:
        return context.copy().run(work, *args, **kwargs)

    return carried


class Crew:
    """Threads that are one step's alone for as long as it lasts; it ends when all their work has."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool
        self._given: list[Future[Any]] = []

    def submit(self, work: Callable[..., T], /, *args: Any) -> Future[T]:
        given = self._pool.submit(carrying(work), *args)
        self._given.append(given)
        return given

    def map(self, work: Callable[[A], T], items: Iterable[A]) -> Iterator[T]:
        """All at once, the answers in the order of the items; one alone is done where it is asked for."""
        asked = list(items)
        if len(asked) == 1:
            yield work(asked[0])
            return
        for given in [self.submit(work, item) for item in asked]:
            yield given.result()

    def finish(self) -> None:
        """Wait for whatever still goes on, as after a fault."""
        wait(self._given)


class Threads:
    """Pools of threads, each lent to one step at a time: steps do not wait for each other."""

    def __init__(self) -> None:
        self._free: list[ThreadPoolExecutor] = []

    @contextlib.contextmanager
    def lend(self, most: int) -> Iterator[Crew]:
        """Up to ``most`` threads: the same number at every call. Not to be lent before a fork."""
        try:
            pool = self._free.pop()
        except IndexError:
            pool = ThreadPoolExecutor(most, thread_name_prefix="step")
        crew = Crew(pool)
        try:
            yield crew
        finally:
            crew.finish()
            self._free.append(pool)
