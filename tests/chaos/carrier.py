"""Carries a link's packets: ``python carrier.py END END``, with one word on stdin for each change of mode.

A process of its own: beside the proxies, in one interpreter, every packet would wait for all of them.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys

MTU = 65000
AT_ONCE = 64
"""Packets carried one way before the other has its turn."""


def main() -> None:
    one, other = (int(word) for word in sys.argv[1:])
    opposite = {one: other, other: one}
    poller = select.poll()
    for end in (one, other, 0):
        poller.register(end, select.POLLIN)
    carries = True
    with contextlib.suppress(OSError):
        os.nice(-10)  # a wire does not wait for its turn; only root may say so
    while True:
        for ready, _ in poller.poll():
            if ready:
                _carry(ready, opposite[ready], really=carries)
                continue
            word = os.read(0, 1)
            if not word:
                return
            carries = word == b"t"
            os.write(1, word)


def _carry(source: int, sink: int, *, really: bool) -> None:
    with contextlib.suppress(OSError):  # no more packets, or one that the other side does not take
        for _ in range(AT_ONCE):
            packet = os.read(source, MTU)
            if really:
                os.write(sink, packet)


if __name__ == "__main__":
    main()
