"""A repository behind a scripted registry, on either transport."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from registry.client import RemoteRepository
from tests.support.opening import TRANSPORTS, Opener, opener
from tests.support.wire import Wire, answering


@pytest.fixture(params=TRANSPORTS)
def open_at(request: pytest.FixtureRequest) -> Iterator[Opener]:
    """Opens repositories: ``open_at(host, "team/app", …)``."""
    with opener(request.param) as open_repository:
        yield open_repository


@pytest.fixture
def wire() -> Iterator[Wire]:
    """A registry that has nothing until it gets a script."""
    with Wire(answering(404)) as server:
        yield server


@pytest.fixture
def repository(open_at: Opener, wire: Wire) -> RemoteRepository:
    """``team/app`` at ``wire``, with nobody's credentials."""
    return open_at(wire.host)
