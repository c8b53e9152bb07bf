"""Plans beside what then happened: what a registry's own log says of a run."""

from __future__ import annotations

import re
import secrets
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from mirror.budget import Allowance
from mirror.forecast import Forecast
from mirror.ledger.rehearsed import Scratch
from mirror.planning import Planning
from mirror.rehearsal import Ear
from mirror.tally import Request
from registry.memory import MemoryRegistry
from tests.support.engine import engine_on
from tests.support.valkey import ValkeyServer

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_UPLOADED = re.compile(r"/v2/(.+)/blobs/uploads/[^?]+\?(?:.*&)?digest=(sha256:[0-9a-f]{64})")


@contextmanager
def planning_on(
    valkey: ValkeyServer, allowance: Allowance | None = None, **terms: object
) -> Iterator[Planning]:
    """What a command plans with; registries are on loopback and open to anybody."""
    ear = Ear()
    with engine_on(valkey, allowance=allowance, observer=ear) as engine, valkey.client() as client:
        planning = Planning(
            engine,
            ear,
            lambda: Scratch(client, f"test:plan:{secrets.token_hex(4)}:", engine.ledger),
            lambda _: allowance or Allowance(),
            batch_tags=32,
        )
        yield replace(planning, **terms)  # type: ignore[arg-type]  # a test's own words


def asked_of(registry: MemoryRegistry) -> Counter[Request]:
    """Every request in the registry's log, by method and kind as clients name them."""
    return Counter((one.method, "upload" if one.kind == "uploads" else one.kind) for one in registry.requests)


def read_from(registry: MemoryRegistry) -> int:
    """Bytes of blobs that were read, by the log."""
    digests = (
        _DIGEST.findall(one.path)[-1]
        for one in registry.requests
        if (one.method, one.kind) == ("GET", "blob")
    )
    return sum(len(registry.blobs[digest]) for digest in digests)


def written_to(registry: MemoryRegistry) -> dict[str, int]:
    """Bytes of blobs that were uploaded, by repository, by the log."""
    found: Counter[str] = Counter()
    for one in registry.requests:
        if one.method == "PUT" and (match := _UPLOADED.fullmatch(one.path)):
            found[f"{registry.host}/{match[1]}"] += len(registry.blobs[match[2]])
    return dict(found)


def foretold(forecast: Forecast, registry: MemoryRegistry) -> Counter[Request]:
    """What the plan says that the registry will be asked."""
    return +forecast.tally.requests.get(registry.host, Counter[Request]())
