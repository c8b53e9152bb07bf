"""What tests of budgets share: a registry that counts pulls, and processes that know nothing yet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from mirror.budget import Allowance, Budget
from mirror.ledger import Ledger
from mirror.spec import MirrorSpec, Target
from registry.connections import Connections
from registry.credentials import ChainedCredentials
from registry.endpoint import Endpoint
from registry.images import Image, build_image
from registry.memory import ErrorReply, MemoryRegistry, PullLimits
from registry.repository import Repository
from tests.support.valkey import ValkeyServer

ADDRESS = "203.0.113.7"
ALL = Allowance(reserve=0.0)


@contextmanager
def hub(pulls: int, images: int, **terms: object) -> Iterator[tuple[MemoryRegistry, PullLimits, list[str]]]:
    """A registry that limits pulls, and the digests of what it holds as tags 0, 1, 2 ..."""
    limits = PullLimits(pulls, address=ADDRESS)
    with MemoryRegistry(pulls=limits, **terms) as registry:  # type: ignore[arg-type]  # a test's own words
        digests = [registry.hold("app", image(str(n)), str(n)).digest for n in range(images)]
        yield registry, limits, digests


def image(text: str) -> Image:
    return build_image({"app.txt": text.encode()})


Opener = Callable[..., Repository]


@contextmanager
def opening(valkey: ValkeyServer) -> Iterator[Opener]:
    """Opens ``app`` at a host as one more process would: nothing is known yet."""
    with ExitStack() as stack:

        def open_it(host: str) -> Repository:
            client = stack.enter_context(valkey.client())
            gate = Budget(Ledger(client, "test:"), lambda _: ALL)
            connections = Connections(Endpoint, ChainedCredentials(()), gate=gate)
            stack.callback(connections.close)
            return connections.open(f"{host}/app")

        yield open_it


def mirrored(source: str, target: str, **terms: object) -> MirrorSpec:
    spec = MirrorSpec("app", f"{source}/app", (Target(f"{target}/app", "eu"),), referrers=False)
    return replace(spec, **terms)  # type: ignore[arg-type]  # a test's own words


def refusing(method: str, part: str, retry_after: str | None) -> Callable[[str, str], None]:
    def refuse(asked: str, path: str) -> None:
        if asked == method and part in path:
            headers = {} if retry_after is None else {"Retry-After": retry_after}
            raise ErrorReply(429, "TOOMANYREQUESTS", "slow down", headers)

    return refuse
