"""What was counted: requests by registry and kind, bytes read and written. Values, and no I/O."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping

Request = tuple[str, str]
"""(method, kind), the kinds of :data:`registry.exchange.Kind`."""
PULL: Request = ("GET", "manifest")
_UNCOUNTED = frozenset({"token"})
"""Each process asks for tokens of its own, as a rule elsewhere than at the registry."""


class Tally:
    """Counts of one thing: what a run would ask and move, say. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.requests: dict[str, Counter[Request]] = {}
        """By registry."""
        self.read: Counter[str] = Counter()
        """Bytes of blobs by the registry that they come from."""
        self.written: Counter[str] = Counter()
        """Bytes of blobs by the repository that they go to."""
        self.mounted: Counter[str] = Counter()
        """Bytes that need not be sent to a repository, because its registry holds them elsewhere."""
        self.mounts: Counter[str] = Counter()

    def asked(self, host: str, *requests: Request) -> None:
        with self._lock:
            for one in requests:
                if one[1] not in _UNCOUNTED:
                    self.requests.setdefault(host, Counter())[one] += 1

    def unasked(self, host: str, requests: Mapping[Request, int]) -> None:
        """What was counted will not be asked after all."""
        with self._lock:
            self.requests.setdefault(host, Counter()).subtract(requests)

    def reads(self, host: str, size: int) -> None:
        with self._lock:
            self.read[host] += size

    def writes(self, repository: str, size: int) -> None:
        with self._lock:
            self.written[repository] += size

    def mount(self, repository: str, size: int) -> None:
        with self._lock:
            self.mounted[repository] += size
            self.mounts[repository] += 1

    def add(self, other: Tally) -> None:
        """All that the other one has counted, too."""
        with self._lock:
            for host, requests in other.requests.items():
                self.requests.setdefault(host, Counter()).update(requests)
            for own, theirs in (
                (self.read, other.read),
                (self.written, other.written),
                (self.mounted, other.mounted),
                (self.mounts, other.mounts),
            ):
                own.update(theirs)

    def total(self, host: str) -> int:
        """Requests of all kinds."""
        return sum(self.requests.get(host, Counter()).values())

    def pulls(self, host: str) -> int:
        """Manifests by GET: what a registry counts that counts at all."""
        return self.requests.get(host, Counter())[PULL]

    def document(self) -> dict[str, object]:
        """As JSON values; what is nothing is left out."""
        return {
            "requests": {
                host: {f"{method} {kind}": count for (method, kind), count in sorted(kinds.items()) if count}
                for host, kinds in sorted(self.requests.items())
                if any(kinds.values())
            },
            "bytes_read": _some(self.read),
            "bytes_written": _some(self.written),
            "bytes_mounted": _some(self.mounted),
            "mounts": _some(self.mounts),
        }


def _some(counts: Counter[str]) -> dict[str, int]:
    return {name: count for name, count in sorted(counts.items()) if count}
