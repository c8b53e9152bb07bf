"""Which exchange with a registry goes wrong, and how: chosen by chance from a seed, counted by class."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from random import Random
from typing import Literal

from tests.chaos.wire import Message

HttpFault = Literal[
    "connection reset", "answer lost after a PUT", "body truncated", "upload truncated", "stalled",
    "bytes corrupted", "upload corrupted", "stale tag", "401", "404", "429", "500", "502", "503",
]  # fmt: skip
ANYWHERE: tuple[HttpFault, ...] = (
    "connection reset", "stalled", "401", "404", "429", "500", "502", "503",
)  # fmt: skip
TO_UPLOADS: tuple[HttpFault, ...] = ("upload truncated", "upload corrupted")
TO_BODIES: tuple[HttpFault, ...] = ("body truncated", "bytes corrupted")
RARE: tuple[HttpFault, ...] = (*TO_UPLOADS, *TO_BODIES, "answer lost after a PUT", "stale tag")
"""They need an exchange of a kind that is seldom: where they are behind, such an exchange is not let go."""
RARE_TIMES = 4.0
HTTP_FAULTS: tuple[HttpFault, ...] = (
    *ANYWHERE, *TO_UPLOADS, *TO_BODIES, "answer lost after a PUT", "stale tag",
)  # fmt: skip

_BLOB = re.compile(r"^/v2/(?P<repository>.+)/blobs/(?P<what>[^?]+)")
_MANIFEST = re.compile(r"^/v2/(?P<repository>.+)/manifests/(?P<reference>[^?]+)")


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as far as faults go; ``tag`` is empty unless it names a manifest by a tag."""

    method: str
    kind: Literal["blob", "manifest", "other"]
    repository: str = ""
    reference: str = ""

    @property
    def tag(self) -> str:
        return self.reference if self.kind == "manifest" and ":" not in self.reference else ""

    @classmethod
    def of(cls, request: Message) -> Asked:
        path = request.path.replace("%3A", ":").replace("%3a", ":")
        if found := _MANIFEST.match(path):
            return cls(request.method, "manifest", found["repository"], found["reference"])
        if found := _BLOB.match(path):
            return cls(request.method, "blob", found["repository"], found["what"])
        return cls(request.method, "other")


@dataclass(slots=True)
class Weather:
    """Shared by all proxies; ``share`` of the requests suffer something while it is above 0.

    Classes that came up least are favoured: rare occasions (a PUT, a known older digest) are used, and where
    a class of uploads or bodies is behind the common ones, its occasions suffer ``RARE_TIMES`` as often.
    """

    seed: int
    share: float = 0.0
    stall_s: float = 3.0
    retry_after_s: int = 1
    stale: bool = True
    honest: str = ""
    """How repositories begin about whose tags nothing false is said, but that they are not there."""
    exchanges: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    _random: Random = field(init=False)

    def __post_init__(self) -> None:
        self._random = Random(self.seed)

    def fault(self, asked: Asked, request: Message, *, knows_older: bool) -> HttpFault | None:
        """What happens to this exchange; None: nothing."""
        self.exchanges += 1
        possible = list(_possible(asked, request, knows_older=knows_older and self._may_lie(asked)))
        if self._random.random() >= self.share * self._times(possible):
            return None
        fewest = min(self.counts[one] for one in possible)
        rarest: list[HttpFault] = [one for one in possible if self.counts[one] == fewest]
        # Mostly the rarest, so that each class gets its turn; else any, so that no order is fixed.
        chosen: HttpFault = self._random.choice(rarest if self._random.random() < 0.7 else possible)
        self.counts[chosen] += 1
        return chosen

    def _may_lie(self, asked: Asked) -> bool:
        return self.stale and not (self.honest and asked.repository.startswith(self.honest))

    def _times(self, possible: list[HttpFault]) -> float:
        common = min(self.counts[one] for one in ANYWHERE)
        return RARE_TIMES if any(self.counts[one] < common for one in possible if one in RARE) else 1.0

    def place(self, length: int) -> int:
        """Where in a body of that length something happens."""
        return self._random.randrange(max(1, length))


def _possible(asked: Asked, request: Message, *, knows_older: bool) -> list[HttpFault]:
    possible: list[HttpFault] = [*ANYWHERE]
    if asked.method == "PUT":
        possible.append("answer lost after a PUT")
    if asked.method in {"PUT", "PATCH"} and asked.kind == "blob" and request.body:
        possible += TO_UPLOADS
    if asked.method == "GET" and asked.kind in {"blob", "manifest"}:
        possible += TO_BODIES
    if asked.method in {"GET", "HEAD"} and asked.tag and knows_older:
        possible.append("stale tag")
    return possible


class Tags:
    """What each tag was before, as a proxy saw it: what a stale answer is made of."""

    def __init__(self) -> None:
        self._digests: dict[tuple[str, str], list[str]] = defaultdict(list)

    def saw(self, asked: Asked, digest: str) -> None:
        known = self._digests[asked.repository, asked.tag]
        if digest and (not known or known[-1] != digest):
            known.append(digest)

    def older(self, asked: Asked) -> str:
        """The digest before the last; empty where there was none."""
        known = self._digests.get((asked.repository, asked.tag), [])
        return known[-2] if len(known) > 1 else ""
