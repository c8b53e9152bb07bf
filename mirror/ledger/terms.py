"""On what terms runs are: written once with the run and never changed, so each process reads them once."""

from __future__ import annotations

import json
from typing import Any

from mirror.ledger.keys import Client, Keys
from mirror.ledger.newer import own_fields
from mirror.ledger.values import NewerRun, UnknownRun
from mirror.spec import Lane, MirrorSpec, Target, Verification

KNOWN_RUNS = 256
"""Runs whose terms a process keeps in mind."""


class Terms:
    """One process's knowledge of them."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._redis, self._keys = client, keys
        self._known: dict[str, tuple[MirrorSpec, Lane]] = {}

    def of(self, run: str) -> tuple[MirrorSpec, Lane]:
        """UnknownRun, NewerRun."""
        known = self._known.get(run)  # at once: another thread may clear what is known
        return known if known is not None else self.keep(run, *self.fields(run, "spec", "lane"))

    def keep(self, run: str, document: str, lane: str) -> tuple[MirrorSpec, Lane]:
        """Know them as they stand in the ledger; NewerRun."""
        known = self._known.get(run)
        if known is None:
            if len(self._known) >= KNOWN_RUNS:
                self._known.clear()
            try:
                spec = MirrorSpec.parse(json.loads(document))
            except TypeError as error:
                raise NewerRun(run) from error
            known = self._known[run] = spec, "backfill" if lane == "backfill" else "release"
        return known

    def shown(self, run: str, document: str, lane: str) -> MirrorSpec:
        """For people: of terms that this version does not know those that it does. Nobody may act on them."""
        try:
            return self.keep(run, document, lane)[0]
        except NewerRun:
            return MirrorSpec.parse(_known_of(json.loads(document)))

    def known_mirror(self, run: str) -> str | None:
        """The name of the run's mirror, if this process has read its terms."""
        known = self._known.get(run)
        return known[0].name if known else None

    def fields(self, run: str, *names: str) -> list[str]:
        """Fields of the run's hash, of which the first is always there; UnknownRun."""
        values = self._redis.hmget(self._keys.run(run), list(names))
        if values[0] is None:
            raise UnknownRun(run)
        return [value.decode() if value is not None else "" for value in values]


def _known_of(document: dict[str, Any]) -> dict[str, Any]:
    known = own_fields(MirrorSpec, document)
    known["targets"] = [own_fields(Target, one) for one in document["targets"]]
    if (how := document.get("verification")) is not None:
        known["verification"] = own_fields(Verification, how)
    return known
