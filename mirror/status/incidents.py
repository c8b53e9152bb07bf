"""What happened lately: registries that went down and came back, and what of tags needs people."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from mirror.ledger import Ledger
from mirror.ledger.events import Event
from mirror.ledger.measured import Change
from mirror.status.texts import plain
from mirror.status.values import Incident

MOST = 50
MOST_EVENTS_READ, MOST_CHANGES_READ = 500, 200
_TITLES = {
    "split": "{mirror}: registries hold different images",
    "conflict": "{mirror}: tags are not the same everywhere",
    "damage": "{mirror}: images are damaged or missing",
}


def incidents_of(
    ledger: Ledger, mirrors: Collection[str], hosts: Collection[str], said: Callable[[str], str]
) -> tuple[Incident, ...]:
    """The newest first; of other mirrors and registries none. Three exchanges. LedgerError."""
    changes = (_of_change(one, said) for one in ledger.probes.changes(MOST_CHANGES_READ) if one.host in hosts)
    found = [*changes, *_of_events(ledger.events.recent(MOST_EVENTS_READ), mirrors, said)]
    return tuple(sorted(found, key=lambda one: one.at, reverse=True)[:MOST])


def _of_change(one: Change, said: Callable[[str], str]) -> Incident:
    is_down = one.kind == "registry_down"
    title = f"{one.host} is {'down' if is_down else 'back'}, as seen from {one.region}"
    identity, reason = f"{one.kind}/{one.host}/{one.region}/{one.at:.0f}", one.reason
    return Incident(identity, one.at, one.kind, title, said(reason.removeprefix(f"{one.host}: ")))


def _of_events(
    events: list[Event], mirrors: Collection[str], said: Callable[[str], str]
) -> Iterator[Incident]:
    for event in events:
        if event.mirror not in mirrors:
            continue
        for kind in ("split", "conflict", "damage"):
            if event.name == kind:
                title = _TITLES[kind].format(mirror=event.mirror)
                yield Incident(f"event/{event.id}", event.at_s, kind, title, said(_text(event)))


def _text(event: Event) -> str:
    count, names = event.more.get("count"), ", ".join(plain(name, 100) for name in event.names)
    tags = f"{count} tag{'' if count == 1 else 's'}: {names}" if names else ""
    return "; ".join(part for part in (tags, str(event.more.get("reason") or "")) if part)
