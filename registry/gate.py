"""The seam for whoever decides when a registry may be asked: a budget shared with others, or nobody.

Without a Gate every request leaves at once. With one each request to a registry's own host is announced
before it leaves, and told of afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from registry.ratelimits import RateLimits


@dataclass(frozen=True, slots=True)
class Asking:
    """One request that is about to leave."""

    host: str
    account: str
    """Which of several accounts asks; empty where the registry has only one, or none."""
    repository: str
    what: str
    """For errors, as in :class:`registry.errors.RegistryError`."""
    method: str
    kind: str
    gives_way: bool = False
    """Whether it must leave the reserve to others."""

    @property
    def is_pull(self) -> bool:
        """What Docker Hub counts: a manifest by GET, once for each; a HEAD is free."""
        return self.kind == "manifest" and self.method == "GET"


@dataclass(frozen=True, slots=True)
class Admission:
    """The right to send one request; ``token`` and ``at`` are the gate's own notes."""

    asking: Asking
    token: str = ""
    source: str = ""
    at: float | None = None
    began: float = 0.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. ``status`` None: nothing did, though the request may have arrived.

    ``was_sent`` False: it has not left, or only in part, for reasons that are not the registry's.
    """

    status: int | None = None
    limits: RateLimits | None = None
    retry_after_s: float | None = None
    was_sent: bool = True


class Gate(Protocol):
    """Thread-safe; raises nothing but :mod:`registry.errors`."""

    def admit(self, asking: Asking, *, looked: bool = False) -> Admission | None:
        """The right to send now (it may have been waited for, for seconds); answer for each one later.

        None: look first, by a HEAD of the same URL, so that the headers say what is left, and ask again
        with ``looked``. Raises Throttled where the registry is to be left alone for longer.
        """
        ...

    def answered(self, admission: Admission, answer: Answer) -> float | None:
        """After each request; for how many seconds the registry is left alone now, None: it is not."""
        ...

    def counts(self, host: str) -> bool | None:
        """Whether the registry counts pulls, as far as anybody has heard. Asks no registry."""
        ...

    def left(self, host: str, account: str) -> float:
        """About how many pulls the account has left, infinity where that is not known. Asks nobody."""
        ...
