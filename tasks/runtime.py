"""What one process works with, composed here and nowhere else: settings, fleet file, Redis, registries."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import redis

from config.environment import redis_url_of
from config.fleet import Fleet, load_fleet
from config.redis_url import parse_redis_url
from config.settings import Settings
from mirror.budget import Budget
from mirror.engine import Engine, Limits
from mirror.ledger import Ledger
from mirror.ledger.content import Memory
from mirror.retry import Patience
from tasks.broker import SOCKET_TIMEOUT_S, connect
from tasks.canvas import PRIORITY
from tasks.terms import (
    account_entries,
    allowance_of,
    credential_entries,
    endpoint_of,
    listing_of,
    listing_tokens,
)

if TYPE_CHECKING:
    from registry.connections import (
        Connections,
    )  # brings httpx, which a command that sends work does not need
    from registry.exchange import Observer
    from registry.listings import Lists


class NoBroker(Exception):
    """No Redis URL is configured: a worker needs one; commands start an embedded server instead."""


MOST_MESSAGES = 5000
"""Messages of one list that a sweep looks through; about a kilobyte each."""


@dataclass
class Runtime:
    """One process's tools. Made after fork: connections must not be shared between processes.

    What talks to registries is made when first used: a command that only sends work needs none of it.
    """

    settings: Settings
    fleet: Fleet
    ledger: Ledger
    client: redis.Redis

    @cached_property
    def connections(self) -> Connections:
        return connections_of(self.settings, self.fleet, self.ledger)

    @cached_property
    def engine(self) -> Engine:
        settings = self.settings
        return Engine(
            ledger=self.ledger,
            open_repository=self.connections.open,
            list_repositories=lists_of(self.fleet, self.connections).page,
            counts_pulls=self.connections.counts_pulls,
            is_paced=lambda host: allowance_of(self.fleet, host).requests_per_minute is not None,
            patience=Patience(settings.attempts, settings.retry_budget_s),
            limits=Limits(settings.copy_threads, settings.haul_mib * 2**20, settings.tee_kib * 2**10),
            memory=Memory(settings.present_ttl_s, settings.mount_ttl_s),
            outage_s=settings.outage_s,
            proof_s=settings.proof_s,
        )

    def messages(self, queue: str) -> list[bytes]:
        """What waits in a queue, in all its lists; of a very long one those that are next in turn."""
        pipe = self.client.pipeline(transaction=False)
        for step in PRIORITY.values():
            name = f"{self.settings.redis_prefix}{queue}{f':{step}' if step else ''}"
            pipe.lrange(name, -MOST_MESSAGES, -1)
        return [message for found in pipe.execute() for message in found]

    def close(self) -> None:
        """Tell the ledger what was asked of registries, and let them go."""
        if "connections" in vars(self):
            self.ledger.traffic.flush()
            self.connections.close()


_made: list[Runtime] = []
_making = threading.Lock()


def _begin_anew() -> None:
    """In a forked child: connections are the parent's, and so may be the thread that holds the lock."""
    global _making  # noqa: PLW0603 - one process's own, made anew for a new process
    _making = threading.Lock()
    _made.clear()
    for lazy in vars(Runtime).values():
        if isinstance(lazy, cached_property):  # Python 3.11 has one lock for those of all objects
            vars(lazy)["lock"] = threading.RLock()


os.register_at_fork(after_in_child=_begin_anew)


def runtime() -> Runtime:
    """This process's runtime, made at the first call from the environment.

    Raises:
        FleetError: the fleet file is wrong.
        NoBroker: neither SEALIFT_REDIS_URL nor the fleet file names a Redis.
        BrokerUnreachable: it does not answer.
        WrongBroker: no fleet can run on it.
    """
    with _making:
        if not _made:
            _made.append(compose(Settings()))
        return _made[0]


def runtime_if_made() -> Runtime | None:
    """This process's runtime, where it has one; for its end, which should connect to nothing new."""
    return _made[0] if _made else None


def known_mirror(run: str) -> str | None:
    """The name of the run's mirror where this process knows it; nobody is asked."""
    return _made[0].ledger.known_mirror(run) if _made else None


def compose(settings: Settings, patience_s: float = SOCKET_TIMEOUT_S) -> Runtime:
    """Everything one process needs, from its settings; ``patience_s``: how long Redis may take to answer."""
    fleet = fleet_of(settings)
    url = redis_url(settings, fleet)
    client = connect(url, patience_s)
    # As long as a message stays with its worker: then another has it, and must be able to do the work.
    longest_s = float(settings.visibility_timeout_s)
    replicas = replicas_of(settings, url)
    ledger = Ledger(client, settings.redis_prefix, replicas, longest_s, settings.history_flips)
    return Runtime(settings, fleet, ledger, client)


def replicas_of(settings: Settings, url: str) -> int:
    """How many replicas of the Redis there must confirm what is promised."""
    if settings.confirm_replicas is not None:
        return settings.confirm_replicas
    # What takes over must know what it is that tags are taken back to.
    return 1 if parse_redis_url(url).service else 0


def connections_of(
    settings: Settings,
    fleet: Fleet,
    ledger: Ledger | None = None,
    observer: Observer | None = None,
    whole_s: float | None = None,
) -> Connections:
    """Registries on the fleet file's terms, with its accounts first, then docker's and podman's.

    With a ``ledger`` they are asked within the fleet's budgets; ``observer`` is told of every answer.
    ``whole_s``: how long a whole answer may take.
    """
    from registry.connections import Connections
    from registry.credentials import ExplicitCredentials
    from registry.docker_config import usual_credentials

    accounts = {
        host: {name: ExplicitCredentials({host: entry}) for name, entry in entries.items()}
        for host, entries in account_entries(fleet).items()
    }
    return Connections(
        lambda host: endpoint_of(fleet, settings, host, whole_s),
        usual_credentials(credential_entries(fleet)),
        observer,
        gate=Budget(ledger, lambda host: allowance_of(fleet, host)) if ledger else None,
        accounts=accounts,
    )


def lists_of(fleet: Fleet, connections: Connections) -> Lists:
    """How registries list their repositories, by their own accounts and the tokens of the fleet file."""
    from registry.credentials import ExplicitCredentials
    from registry.docker_config import usual_credentials
    from registry.listings import Lists

    first = {host: next(iter(several.values())) for host, several in account_entries(fleet).items()}
    return Lists(
        connections,
        usual_credentials({**first, **credential_entries(fleet)}),
        ExplicitCredentials(listing_tokens(fleet)),
        lambda host: listing_of(fleet, host),
    )


def fleet_of(settings: Settings) -> Fleet:
    """The fleet file, or an empty fleet where the default file is absent."""
    if not settings.fleet_file.exists() and "fleet_file" not in settings.model_fields_set:
        return Fleet()
    return load_fleet(Path(settings.fleet_file))


def regions_of(fleet: Fleet) -> tuple[str, ...]:
    """Every region that a mirror's target is in, once."""
    return tuple(dict.fromkeys(target.region for mirror in fleet.mirrors for target in mirror.targets))


def redis_url(settings: Settings, fleet: Fleet) -> str:
    """The environment's URL, else the fleet file's; NoBroker, FleetError."""
    if settings.redis_url is not None:
        return settings.redis_url.get_secret_value()
    named = redis_url_of(fleet)
    if named is not None:
        return named.get_secret_value()
    raise NoBroker("no Redis: set SEALIFT_REDIS_URL or redis_url in the fleet file")
