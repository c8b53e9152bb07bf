"""A process that pulls all it may: ``python -m tests.support.hammer REDIS_URL HOST THREADS DIGEST ...``.

Prints how many manifests it was given; those that no process is given are what the budget withholds.
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor

from redis import Redis

from mirror.budget import Allowance, Budget
from mirror.ledger import Ledger
from registry.connections import Connections
from registry.credentials import ChainedCredentials
from registry.endpoint import Endpoint
from registry.errors import Throttled
from registry.repository import Repository

SHORT_S = 5.0


def hammer(source: Repository, digests: list[str], threads: int, wait_s: float = 0.1) -> int:
    """Pull each digest; short waits are waited out, a long one ends it. How many came."""
    todo = list(digests)

    def pull(_: int) -> int:
        got = 0
        while todo:
            digest = todo.pop()
            try:
                source.manifest(digest)
            except Throttled as error:
                todo.append(digest)
                if error.status is not None or (error.retry_after_s or 0.0) > SHORT_S:
                    return got
                time.sleep(wait_s)
            else:
                got += 1
        return got

    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(pull, range(threads)))


def main(url: str, host: str, threads: str, *digests: str) -> None:
    with Redis.from_url(url) as client:
        budget = Budget(Ledger(client, "test:"), lambda _: Allowance())
        connections = Connections(Endpoint, ChainedCredentials(()), gate=budget)
        got = hammer(connections.open(f"{host}/app"), list(digests), int(threads))
        connections.close()
    sys.stdout.write(f"{got}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
