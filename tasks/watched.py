"""What is watched of a fleet beside its ledger: its queues, and the names that its fleet file has."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from config.fleet import Fleet
from config.problems import FleetError
from mirror.ledger.totals import Kind
from mirror.spec import MirrorSpec
from registry.reference import LAYOUT
from tasks.canvas import CONTROL_QUEUE, PRIORITY
from tasks.runtime import Runtime, regions_of
from tasks.terms import host_of, spec_of

SENT = "sent_s"
"""The header of every message that says when it was sent, in Unix time: how long it has waited."""


@dataclass(frozen=True, slots=True)
class QueueReport:
    """One queue as it stands."""

    queue: str
    waiting: Mapping[str, int]
    """Messages by the turn they have (:data:`tasks.canvas.PRIORITY`)."""
    oldest_s: float | None
    """When the first message in any of its lists was sent, in Unix time; None where nothing waits."""
    unacknowledged: int | None
    """Messages that the region's workers have taken and not finished, those of the control queue included;
    None of that queue itself."""

    @property
    def is_busy(self) -> bool:
        """Whether there is any message, waiting or taken."""
        return any(self.waiting.values()) or bool(self.unacknowledged)


def say_when_sent(headers: dict[str, Any], **_: Any) -> None:
    """For Celery's ``before_task_publish``: a chord's body, say, is sent long after its options were set."""
    headers[SENT] = int(time.time())


def queues(rt: Runtime, regions: Iterable[str]) -> list[QueueReport]:
    """The control queue and those of the regions, in one exchange."""
    names, prefix = [CONTROL_QUEUE, *regions], rt.settings.redis_prefix
    pipe: Any = rt.client.pipeline(transaction=False)
    for name in names:
        pipe.hlen(f"{prefix}unacked:{name}")
        for step in PRIORITY.values():
            key = f"{prefix}{name}{f':{step}' if step else ''}"
            pipe.llen(key).lindex(key, -1)
    answers, each = pipe.execute(), 1 + 2 * len(PRIORITY)
    return [_reported(name, answers[at * each : (at + 1) * each]) for at, name in enumerate(names)]


def _reported(name: str, answers: list[int | bytes | None]) -> QueueReport:
    unacknowledged, *rest = answers
    waiting: dict[str, int] = dict(zip(PRIORITY, (int(one or 0) for one in rest[::2]), strict=True))
    sent = [at for one in rest[1::2] if isinstance(one, bytes) and (at := _sent_s(one)) is not None]
    held = None if name == CONTROL_QUEUE else int(unacknowledged or 0)
    return QueueReport(name, waiting, min(sent, default=None), held)


def _sent_s(message: bytes) -> float | None:
    """None where it does not say, or cannot be read: it was sent by somebody else."""
    try:
        at = json.loads(message)["headers"][SENT]
    except (ValueError, LookupError, TypeError):
        return None
    return float(at) if isinstance(at, int | float) else None


def specs_of(fleet: Fleet) -> list[MirrorSpec]:
    """The fleet file's mirrors, but for those that are wrong: whoever begins a run of one says so."""
    specs = list[MirrorSpec]()
    for mirror in fleet.mirrors:
        with contextlib.suppress(FleetError):
            specs.append(spec_of(mirror, fleet))
    return specs


def names_of(fleet: Fleet) -> dict[Kind, set[str]]:
    """Every mirror, region, registry and receiver of the fleet file; places that are none are left out."""
    specs = specs_of(fleet)
    places = [place for spec in specs for place in spec.places]
    hosts = {place.partition("/")[0] for place in places if not place.startswith(LAYOUT)}
    return {
        "mirror": {mirror.name for mirror in fleet.mirrors},
        "region": set(regions_of(fleet)),
        "registry": hosts | {host for name in fleet.registries if (host := host_of(name))},
        "receiver": {receiver.name for receiver in fleet.notify},
    }
