"""``workers.launch`` with the kill points in it, and the producer of a storm as one more role."""

from __future__ import annotations

import json
import sys

from tests.chaos import killpoints


def produce() -> int:
    """Starts the runs that are asked for on standard input; prints the id of each."""
    import workers.app  # noqa: F401 - tasks are sent through the app that it makes
    from mirror.spec import MirrorSpec
    from tasks import producer
    from tasks.runtime import runtime

    for line in sys.stdin:
        spec, lane = json.loads(line)
        print(producer.start(runtime(), MirrorSpec.parse(spec), lane), flush=True)  # noqa: T201 - its protocol
    return 0


LONGEST_PAUSE_S = 4.0
"""Between two attempts at a registry that is away; a minute outside of storms."""


def main() -> int:
    from mirror import waits
    from workers import launch

    waits.LONGEST_PAUSE_S = LONGEST_PAUSE_S
    killpoints.install()
    return produce() if sys.argv[1] == "produce" else launch.main()


if __name__ == "__main__":
    sys.exit(main())
