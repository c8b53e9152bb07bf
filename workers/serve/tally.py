"""How many deliveries fared how: counted here, and told to the ledger every second."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Literal

from mirror.ledger import Ledger
from mirror.ledger.totals import series

Result = Literal[
    "begins", "behind", "waits", "ours", "ignored", "copy", "unknown", "refused", "malformed", "unavailable"
]
"""What became of a push: its run ``begins``, comes ``behind`` one or is one that ``waits``; it is ``ours``,
or told before (``copy``). What became of a delivery as a whole: ``ignored`` (no push that any mirror wants),
of an ``unknown`` repository, ``refused``, ``malformed``, or ``unavailable``: the sender is to come again."""
RESULTS: tuple[Result, ...] = (
    *("begins", "behind", "waits", "ours", "ignored"),
    *("copy", "unknown", "refused", "malformed", "unavailable"),
)


class Tally:
    """Thread-safe. What it holds is lost with the process: a second of it."""

    def __init__(self) -> None:
        self._counted: Counter[str] = Counter()
        self._lock = threading.Lock()

    def count(self, webhook: str, result: Result) -> None:
        with self._lock:
            self._counted[series("webhooks", webhook=webhook, result=result)] += 1

    def tell(self, ledger: Ledger) -> None:
        """LedgerError where it cannot be told; then it is told the next time."""
        with self._lock:
            counted, self._counted = self._counted, Counter()
        try:
            ledger.totals.add(counted)
        except BaseException:
            with self._lock:
                self._counted += counted
            raise
