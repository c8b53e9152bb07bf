"""Carries a link's packets: ``python carrier.py END END ROUND_TRIP_MS``; a word on stdin changes the mode.

A process of its own: beside the proxies, in one interpreter, every packet would wait for all of them.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time
from collections import deque

MTU = 65000
AT_ONCE = 64
"""Packets carried one way before the other has its turn."""


class Wire:
    """Both ways of a link; a packet arrives half a round trip after it came, and none while it is cut."""

    def __init__(self, one: int, other: int, round_trip_s: float) -> None:
        self._opposite = {one: other, other: one}
        self._way_s = round_trip_s / 2
        self._late: deque[tuple[float, int, bytes]] = deque()
        """When each packet is due, and where: all take as long, so the first in is the first out."""
        self._carries = True

    def switch(self, *, carries: bool) -> None:
        self._carries = carries
        self._late.clear()

    @property
    def wait_ms(self) -> float | None:
        """Until the next packet is due."""
        return max(0.0, self._late[0][0] - time.monotonic()) * 1000 if self._late else None

    def take(self, source: int) -> None:
        sink = self._opposite[source]
        due = time.monotonic() + self._way_s
        with contextlib.suppress(OSError):  # no more packets
            for _ in range(AT_ONCE):
                packet = os.read(source, MTU)
                if self._carries and self._way_s:
                    self._late.append((due, sink, packet))
                elif self._carries:
                    _put(sink, packet)

    def deliver(self) -> None:
        while self._late and self._late[0][0] <= time.monotonic():
            _, sink, packet = self._late.popleft()
            _put(sink, packet)


def main() -> None:
    one, other = (int(word) for word in sys.argv[1:3])
    wire = Wire(one, other, float(sys.argv[3]) / 1000)
    poller = select.poll()
    for end in (one, other, 0):
        poller.register(end, select.POLLIN)
    with contextlib.suppress(OSError):
        os.nice(-10)  # a wire does not wait for its turn; only root may say so
    while True:
        for ready, _ in poller.poll(wire.wait_ms):
            if ready:
                wire.take(ready)
                continue
            word = os.read(0, 1)
            if not word:
                return
            wire.switch(carries=word == b"t")
            os.write(1, word)
        wire.deliver()


def _put(sink: int, packet: bytes) -> None:
    with contextlib.suppress(OSError):  # one that the other side does not take
        os.write(sink, packet)


if __name__ == "__main__":
    main()
