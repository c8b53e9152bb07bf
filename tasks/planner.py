"""Planning with a process's own tools: the same terms, accounts and budgets as its runs would have."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace

from mirror.ledger.rehearsed import Scratch
from mirror.planning import Heard, Planning
from mirror.rehearsal import Ear
from tasks.runtime import Runtime, connections_of, lists_of
from tasks.terms import allowance_of


@contextmanager
def planning(
    rt: Runtime, *, keeps: bool, reads: bool = True, heard: Heard = lambda *_: None
) -> Iterator[Planning]:
    """See :class:`mirror.planning.Planning`; its connections are closed at the end."""
    settings, ear = rt.settings, Ear()

    def scratch() -> Scratch:
        return Scratch(rt.client, f"{settings.redis_prefix}plan:{secrets.token_hex(6)}:", rt.ledger)

    with closing(connections_of(settings, rt.fleet, rt.ledger, ear)) as connections:
        engine = replace(
            rt.engine,
            open_repository=connections.open,
            list_repositories=lists_of(rt.fleet, connections).page,
            counts_pulls=connections.counts_pulls,
        )
        yield Planning(
            engine,
            ear,
            scratch,
            lambda host: allowance_of(rt.fleet, host),
            settings.batch_tags,
            keeps=keeps,
            reads=reads,
            heard=heard,
        )
