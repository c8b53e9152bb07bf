"""Whether what happened was seen by probes, told to receivers, and all of that has bounds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from mirror.ledger import Ledger
from mirror.ledger.events import FIRST, MOST_EVENTS, Event
from mirror.ledger.keys import Client, Keys
from mirror.ledger.measured import DAYS_KEPT, HOURS_KEPT, Change
from mirror.ledger.probes import MOST_CHANGES
from tests.chaos.figures import EventFigures
from tests.chaos.fleet import SETTLE_S, ChaosFleet
from tests.chaos.outages import SEEN_WITHIN_S, Outage, Outages
from tests.chaos.receiver import ALL, PER_HOUR, Received, Receiver
from tests.support.waiting import eventually

CALM_S = 60.0
"""Until every registry is seen to be back, and everybody was told everything: some of the longest pauses."""
MOST_FIELDS = HOURS_KEPT + 1 + DAYS_KEPT + 20
"""Of a region's probes of a registry: the hours, the days, and what there is one of."""
HOUR_S = 3600.0
ROUNDING_S = 0.05


def judge_probes(fleet: ChaosFleet, outages: Outages) -> list[str]:
    """Outages that were not seen, or are not over as far as probes know; keys that nothing bounds."""
    ledger = fleet.ledger

    def is_calm() -> bool:
        fleet.look_after()
        return outages.are_over()

    eventually(is_calm, CALM_S)
    changes = ledger.probes.changes()[::-1]
    found = [*unseen(outages.all, changes, outages.places), *unpaired(changes)]
    found += [
        f"probes: {one.host} is {one.standing} as seen from {one.region}, after {CALM_S:.0f} s of calm"
        for one in ledger.probes.latest(outages.places)
        if one.standing != "up"
    ]
    return found + unbounded(fleet.client, ledger.keys, outages)


def unseen(
    outages: Iterable[Outage], changes: Sequence[Change], places: Iterable[tuple[str, str]]
) -> list[str]:
    """Registries that were away for long without being told to be so, as seen from some region."""
    told = defaultdict(list)
    for one in changes:
        told[one.region, one.host].append(one)
    return [
        f"probes: {host} was away from {outage.begun:.3f} to {outage.ended:.3f}, unseen from {region}"
        for outage in outages
        for region, host in places
        if host == outage.host
        and outage.ended - outage.begun >= SEEN_WITHIN_S
        and not _is_down_within(told[region, host], outage)
    ]


def _is_down_within(changes: Sequence[Change], outage: Outage) -> bool:
    """Whether it was down by the outage's end, as far as anybody was told."""
    before = [one for one in changes if one.at <= outage.ended]
    return bool(before) and before[-1].kind == "registry_down"


def unpaired(changes: Iterable[Change]) -> list[str]:
    """Registries that went down twice or came back twice in a row, or are down still."""
    found, last = [], dict[tuple[str, str], str]()
    for one in changes:
        expected = "registry_back" if last.get((one.region, one.host)) == "registry_down" else "registry_down"
        if one.kind != expected:
            found.append(f"probes: {one.kind} of {one.host} as seen from {one.region} was told twice")
        last[one.region, one.host] = one.kind
    return found + [
        f"probes: {host} went down as seen from {region}, and nobody was told that it is back"
        for (region, host), kind in last.items()
        if kind == "registry_down"
    ]


def unbounded(client: Client, keys: Keys, outages: Outages) -> list[str]:
    """Keys about probes and events that are more, or hold more, than they are to."""
    root, hosts = keys.root, {host for _, host in outages.places}
    sizes = {
        "probes": (sum(1 for _ in client.scan_iter(f"{root}probes:*", count=5000)), len(outages.places)),
        "seen-from": (sum(1 for _ in client.scan_iter(f"{root}seen-from:*", count=5000)), len(hosts)),
        "probed": (client.zcard(keys.probed), len(outages.places)),
        "outages": (client.llen(keys.outages), MOST_CHANGES),
        "events": (client.xlen(keys.events), MOST_EVENTS),
    }
    sizes |= {
        f"probes of {host} from {region}": (client.hlen(keys.probes(region, host)), MOST_FIELDS)
        for region, host in outages.places
    }
    return [f"{name}: {size}, and {most} at most" for name, (size, most) in sizes.items() if size > most]


def judge_notices(fleet: ChaosFleet, receiver: Receiver) -> list[str]:
    """Events that nobody was told, and messages too many or too early."""
    ledger = fleet.ledger

    def is_told() -> bool:
        fleet.look_after()
        return not untold(events_of(ledger), receiver.of(ALL))

    eventually(is_told, CALM_S)
    events = events_of(ledger)
    found = untold(events, receiver.of(ALL))
    for name, most in PER_HOUR.items():
        found += too_many(name, receiver.of(name), {one.id for one in events}, most)
        found += too_early(receiver.of(name))
    counted = map(repr, fleet.client.hkeys(ledger.keys.totals))
    return found + [f"events: {name} was counted" for name in counted if "outcome=dropped" in name]


def event_figures(fleet: ChaosFleet, outages: Outages, receiver: Receiver) -> EventFigures:
    """What there was of them."""
    back = [one for one in fleet.ledger.probes.changes() if one.kind == "registry_back"]
    return EventFigures(
        outages=len(outages.all),
        told_down=len(back),
        events=len(events_of(fleet.ledger)),
        messages=sum(one.is_answered for one in receiver.received),
        failures=sum(count for answer, count in receiver.answers.items() if answer != "taken"),
    )


def events_of(ledger: Ledger) -> list[Event]:
    """All that there are."""
    return ledger.events.after(FIRST, MOST_EVENTS)


def untold(events: Iterable[Event], messages: Iterable[Received]) -> list[str]:
    """Events that are in no message."""
    told = {event for one in messages for event in one.events}
    return [
        f"events: nobody was told of {one.name} {one.id}, {one.mirror}"
        for one in events
        if one.id not in told
    ]


def too_many(name: str, messages: Iterable[Received], known: set[str], most: int) -> list[str]:
    """More messages in an hour than the receiver wants, without those that say once more what was said.

    A message is once more if its sender did not hear that it arrived, was killed, or forgot it with Redis'
    last writes: then it has an event that was told before. What Redis forgot altogether counts for nothing.
    """
    told, times = set[str](), list[float]()
    for one in messages:
        own = set(one.events)
        if not own & told and own & known and one.is_answered:
            times.append(one.at)
        told |= own
    worst = max((sum(at <= other < at + HOUR_S for other in times) for at in times), default=0)
    return [f"events: receiver {name} had {worst} messages in an hour, of {most}"] if worst > most else []


def too_early(messages: Iterable[Received]) -> list[str]:
    """Messages that were sent before others could come to them."""
    return [
        f"events: receiver {one.receiver} was told {one.title!r} {age:.3f} s after its first event"
        for one in messages
        if one.events and (age := one.at - min(map(at_of, one.events))) < SETTLE_S - ROUNDING_S
    ]


def at_of(event: str) -> float:
    """When it was written: Unix time."""
    return int(event.partition("-")[0]) / 1000
