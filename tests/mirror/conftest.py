"""A source with a large and a small blob, and a target to copy them to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from registry.memory import MemoryRegistry
from tests.support.copying import LAYER, SMALL, Rig
from tests.support.engine import engine_on
from tests.support.valkey import ValkeyServer


@pytest.fixture
def target() -> Iterator[MemoryRegistry]:
    with MemoryRegistry() as registry:
        yield registry
        assert registry.open_sessions == 0, "a session was left behind"


@pytest.fixture
def rig(valkey: ValkeyServer, target: MemoryRegistry) -> Iterator[Rig]:
    with ExitStack() as stack:
        source = stack.enter_context(MemoryRegistry())
        source.hold_blob("app", LAYER)
        source.hold_blob("app", SMALL)
        yield Rig(stack.enter_context(engine_on(valkey)), source, target.host)
