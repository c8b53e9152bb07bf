"""What one invocation was told: global options, settings and the fleet file, each read when asked for."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

from workers.cli.console import Console

if TYPE_CHECKING:
    import typer

    from config.fleet import Fleet
    from config.settings import Settings
    from workers.state import StateFolder


@dataclass
class Session:
    """One command's surroundings. Its options reach every other process by the environment."""

    console: Console
    verbose: bool = False

    @staticmethod
    def of(context: typer.Context) -> Session:
        return cast("Session", context.obj)

    @cached_property
    def settings(self) -> Settings:
        from config.settings import Settings

        return Settings()

    @cached_property
    def fleet(self) -> Fleet:
        """The fleet file; without one where none was asked for, an empty fleet. Raises FleetError."""
        from config.fleet import Fleet, load_fleet

        if not self.has_fleet_file and "SEALIFT_FLEET_FILE" not in os.environ:
            return Fleet()
        return load_fleet(self.settings.fleet_file)

    @property
    def has_fleet_file(self) -> bool:
        return self.settings.fleet_file.exists()

    @cached_property
    def state(self) -> StateFolder:
        from workers.state import StateFolder

        return StateFolder(self.settings.state_dir)

    def join(self, url: str) -> None:
        """From here on this process, and those it starts, belong to the fleet of that Redis."""
        os.environ["SEALIFT_REDIS_URL"] = url
        self.__dict__.pop("settings", None)  # they were read before

    @property
    def is_external(self) -> bool:
        """Whether the fleet runs elsewhere, on a Redis of its own; else an embedded one is meant."""
        return self.settings.redis_url is not None or self.fleet.redis_url is not None

    @property
    def is_fresh(self) -> bool:
        """Whether there can be no run here yet: no server need be started to look."""
        return not self.is_external and self.state.is_new

    @property
    def finds_fleet(self) -> bool:
        """Whether workers of somebody else's do the work, with their own accounts."""
        return self.is_external or self.state.joinable() is not None

    @property
    def hosts(self) -> set[str]:
        """Every registry that the fleet file has an entry for, as references spell it."""
        from tasks.terms import host_of

        return {host for key in self.fleet.registries if (host := host_of(key))}

    def check_fleet(self, hosts: Iterable[str] = ()) -> None:
        """Refuse a fleet file that runs would only stumble over later; raises FleetError.

        ``hosts`` are the registries that this process or its workers are about to log in to: what their
        accounts point at must be there.
        """
        from config.environment import check_environment
        from config.problems import FleetError
        from tasks.terms import check_fleet, host_of

        check_fleet(self.fleet)
        wanted = set(hosts)
        lacking = [
            problem
            for problem in check_environment(self.fleet)
            if problem.where[0] == "registries" and host_of(str(problem.where[1])) in wanted
        ]
        if lacking:
            raise FleetError(tuple(lacking))


def take_options(state_dir: Path | None, fleet_file: Path | None) -> None:
    """Hand the global options down, to this process's settings and to every process it starts."""
    if state_dir is not None:
        os.environ["SEALIFT_STATE_DIR"] = str(state_dir.expanduser().absolute())
    if fleet_file is not None:
        os.environ["SEALIFT_FLEET_FILE"] = str(fleet_file.expanduser().absolute())
