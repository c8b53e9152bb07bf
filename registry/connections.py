"""The repositories of one process: opened by name, with one Registry per host behind them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from registry.accounts import PooledRegistry
from registry.client import RemoteRepository
from registry.credentials import CredentialSource
from registry.endpoint import Endpoint
from registry.exchange import Authorization, Observer, Registry
from registry.gate import Gate
from registry.layout import LayoutRepository
from registry.reference import Reference
from registry.repository import Repository


class Connections:
    """Opens repositories; connections to a host are shared and made when first needed. Thread-safe.

    Nothing is connected before the first exchange, so it may be made before a fork; use it after only.
    """

    def __init__(
        self,
        endpoints: Mapping[str, Endpoint] | Callable[[str], Endpoint],
        credentials: CredentialSource,
        observer: Observer | None = None,
        gate: Gate | None = None,
        accounts: Mapping[str, Mapping[str, CredentialSource]] | None = None,
    ) -> None:
        """A host that the mapping ``endpoints`` leaves out is reached on the usual terms.

        ``gate`` says when a registry may be asked. ``accounts``: by host the accounts that share its load,
        by the name that the gate knows each by; ``credentials`` speak for all other hosts.
        """
        self._endpoints = endpoints
        self._credentials = credentials
        self._observer = observer
        self._gate = gate
        self._accounts = accounts or {}
        self._lock = threading.Lock()
        self._registries: dict[str, Registry] = {}

    def open(self, reference: Reference | str, *, gives_way: bool = False) -> Repository:
        """The repository that ``reference`` is in, whatever its tag or digest.

        ``gives_way``: its pulls leave the reserve of the budget to others. Raises MalformedReference for
        a text that is no reference.
        """
        if isinstance(reference, str):
            reference = Reference.parse(reference)
        if reference.is_layout:
            return LayoutRepository(reference.repository)
        return RemoteRepository(self.registry(reference.host), reference.repository, gives_way=gives_way)

    def registry(self, host: str) -> Registry:
        """The Registry of ``host``, as references name it."""
        with self._lock:
            if host not in self._registries:
                self._registries[host] = self._made(host)
            return self._registries[host]

    def api(self, host: str, known_as: str, authorization: Authorization) -> Registry:
        """An API at ``host`` that has an ``authorization`` of its own; one for each ``known_as``."""
        key = f"{host} {known_as}"  # no host has a space in it
        with self._lock:
            if key not in self._registries:
                endpoint = self._endpoint(host)
                self._registries[key] = Registry(
                    endpoint, self._credentials, self._observer, self._gate, authorization=authorization
                )
            return self._registries[key]

    def counts_pulls(self, host: str) -> bool | None:
        """Whether ``host`` counts reading as pulls; None: nobody has heard of it yet."""
        return self._gate.counts(host) if self._gate else False

    def close(self) -> None:
        """Close what is idle, and what is in use when its exchange ends; what is opened later is new."""
        with self._lock:
            registries, self._registries = self._registries, {}
        for registry in registries.values():
            registry.close()

    def _made(self, host: str) -> Registry:
        endpoint = self._endpoint(host)
        if accounts := self._accounts.get(host):
            return PooledRegistry(endpoint, accounts, self._observer, self._gate)
        return Registry(endpoint, self._credentials, self._observer, self._gate)

    def _endpoint(self, host: str) -> Endpoint:
        if callable(self._endpoints):
            return self._endpoints(host)
        return self._endpoints.get(host) or Endpoint(host)
