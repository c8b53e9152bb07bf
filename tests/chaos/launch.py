"""``workers.launch`` with the kill points in it, and the producer of a storm as one more role."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tests.chaos import killpoints
from tests.chaos.receiver import EVENTS

if TYPE_CHECKING:
    from mirror.ledger.events import Event
    from mirror.notices import Message


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
"""Between two attempts at a registry or receiver that is away; a minute or more outside of storms."""
FIRST_PAUSE_S = 0.5
PROBES_EVERY_S = 1
"""At most so often; ten seconds outside of storms."""
LOST_PROBE_S = 4.0
"""After so long a pass of probes that nobody has begun is sent again; ten minutes outside of storms."""


def be_impatient() -> None:
    """What no setting says, as short as the storm's settings."""
    from config import probing
    from mirror import waits
    from tasks import notify, passes

    waits.LONGEST_PAUSE_S = notify.LONGEST_PAUSE_S = LONGEST_PAUSE_S
    notify.FIRST_PAUSE_S = FIRST_PAUSE_S
    probing.LEAST_S = PROBES_EVERY_S
    passes.LEAST_LOST_S, passes.LOST_SLOTS = LOST_PROBE_S, 1


def sign_messages() -> None:
    """Messages say which events they are made of: their words alone are shared by many."""
    from tasks import notify

    def signed(message: Any, events: Sequence[Event], *args: Any, **options: Any) -> Message:
        made: Message = message(events, *args, **options)
        ids = " ".join(one.id for one in events)
        return dataclasses.replace(made, body=f"{made.body}\n{EVENTS}{ids}")

    killpoints.replace(notify, "message", signed)


def main() -> int:
    from workers import launch

    be_impatient()
    sign_messages()
    killpoints.install()
    return produce() if sys.argv[1] == "produce" else launch.main()


if __name__ == "__main__":
    sys.exit(main())
