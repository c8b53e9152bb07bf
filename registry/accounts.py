"""Several accounts at one registry, behind what looks like one Registry."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import httpx

from registry.credentials import CredentialSource
from registry.endpoint import Endpoint
from registry.errors import Throttled
from registry.exchange import Call, Observer, Registry
from registry.gate import Gate


class PooledRegistry(Registry):
    """The first account's Registry; what only reads may be asked by the others instead.

    Each account has its own connections and tokens. A pull goes to the account that has most left, any
    other reading to the first; where that one must wait, the next is asked. Uploads are the first one's
    alone: a session belongs to who opened it.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        accounts: Mapping[str, CredentialSource],
        observer: Observer | None = None,
        gate: Gate | None = None,
    ) -> None:
        """``accounts`` has at least one, by the name that the gate knows it by."""
        (name, first), *others = accounts.items()
        super().__init__(endpoint, first, observer, gate, name)
        self._others = [Registry(endpoint, one, observer, gate, other) for other, one in others]

    def close(self) -> None:
        super().close()
        for registry in self._others:
            registry.close()

    @contextmanager
    def exchange(self, call: Call) -> Iterator[httpx.Response]:
        """See Registry. Raises Throttled where every account must wait: what the first to be free says."""
        with ExitStack() as stack:
            yield self._asked(stack, call)

    def _asked(self, stack: ExitStack, call: Call) -> httpx.Response:
        shortest: Throttled | None = None
        for registry in self._in_turn(call):
            try:
                # Not by its name on self: that is the method above.
                return stack.enter_context(Registry.exchange(registry, call))
            except Throttled as error:
                if shortest is None or _wait(error) < _wait(shortest):
                    shortest = error
        assert shortest is not None  # noqa: S101 - there is at least one account
        raise shortest

    def _in_turn(self, call: Call) -> list[Registry]:
        if call.writes or call.kind == "upload":
            return [self]
        all_of_them: list[Registry] = [self, *self._others]
        if self._gate is None or call.kind != "manifest" or call.method != "GET":
            return all_of_them
        gate = self._gate
        return sorted(all_of_them, key=lambda one: -gate.left(one.host, one.account))


def _wait(error: Throttled) -> float:
    return math.inf if error.retry_after_s is None else error.retry_after_s
