"""Fixtures for every test: registries, a Valkey and folders that are gone afterwards."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.no_skips import pytest_make_collect_report, pytest_runtest_makereport
from tests.support.registries import DockerRegistry, RegistryOptions
from tests.support.scratch import scratch_folder
from tests.support.valkey import ValkeyServer

__all__ = ["pytest_make_collect_report", "pytest_runtest_makereport"]

RegistryFactory = Callable[..., DockerRegistry]


def pytest_configure() -> None:
    """A shell starts what runs in its background deaf to SIGINT, and whatever that starts inherits it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Fleet tests share one process of a parallel run: together they would fight for the cores."""
    for item in items:
        if item.get_closest_marker("fleet"):
            item.add_marker(pytest.mark.xdist_group("fleet"))


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder for big things: in memory where there is room, gone afterwards."""
    with scratch_folder() as folder:
        yield folder


@pytest.fixture
def registry_factory(scratch: Path) -> Iterator[RegistryFactory]:
    """Start registries: ``registry_factory(options=RegistryOptions(...))``."""
    with ExitStack() as stack:
        started = 0

        def start(options: RegistryOptions | None = None) -> DockerRegistry:
            nonlocal started
            started += 1
            folder = scratch / f"registry-{started}"
            folder.mkdir()
            return stack.enter_context(DockerRegistry(folder, options))

        yield start


@pytest.fixture
def three_registries(registry_factory: RegistryFactory) -> tuple[DockerRegistry, ...]:
    """A source and two targets, say: empty, open to anybody."""
    return tuple(registry_factory() for _ in range(3))


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A Valkey server of the test's own."""
    folder = tmp_path / "valkey"
    folder.mkdir()
    with ValkeyServer(folder) as server:
        yield server
