"""Events in words: what happened, what to do next, and where the handbook speaks of it.

Events of one kind about one mirror are one notice, and what is to be told at one time is one message. Names
of tags and the words of registries are other people's text: they are cut, and lose what a receiver might
take for markup, a mention or a link.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from mirror.ledger.events import Event
from registry.redact import HIDDEN

Level = Literal["info", "success", "warning", "failure"]
MOST_NAMES = 5
MOST_NOTICES = 10
LONGEST_NAME, LONGEST_REASON, LONGEST_TITLE = 128, 300, 120
HANDBOOK = "docs/operations.md#"
_HARMLESS = str.maketrans({"<": "(", ">": ")", "[": "(", "]": ")", "`": "'", "*": "+", "|": "/", "\\": "/"})
_MENTION = re.compile(r"@(?!sha\d)")
_SEPARATORS = frozenset({"Cc", "Zl", "Zp", "Zs"})


@dataclass(frozen=True, slots=True)
class Notice:
    """What is told of the events of one kind about one mirror, registry or region."""

    title: str
    sentence: str
    todo: str
    """Empty: nothing needs to be done."""
    handbook: str
    """An entry of docs/operations.md; empty: none."""
    level: Level
    count: int
    """Of what it is about: tags, as a rule."""

    @property
    def text(self) -> str:
        lines = [f"{self.title}. {self.sentence}"]
        lines += [f"Next: {self.todo}"] if self.todo else []
        lines += [f"Handbook: {HANDBOOK}{self.handbook}"] if self.handbook else []
        return "\n".join(lines)

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Message:
    """What one receiver is sent at one time."""

    title: str
    body: str
    level: Level


@dataclass(frozen=True, slots=True)
class _About:
    """Events that are told as one."""

    mirror: str
    events: Sequence[Event]

    @property
    def more(self) -> Mapping[str, Any]:
        """Of the last of them."""
        return self.events[-1].more

    @property
    def count(self) -> int:
        return sum(int(one.more.get("count") or 0) for one in self.events)

    @property
    def runs(self) -> int:
        """Those that failed: not each is an event."""
        return sum(int(one.more.get("runs") or 1) for one in self.events)

    @property
    def kind(self) -> str:
        """Of a run that is no ordinary one: ``verify``, ``repair``, ``rollback``."""
        return str(self.more.get("kind") or "")

    @property
    def noun(self) -> str:
        return {"verify": "verification", "repair": "repair", "rollback": "rollback"}.get(self.kind, "run")

    @property
    def is_in_file(self) -> bool:
        """Whether commands find the mirror by its name: one that was typed is called as its repository."""
        return "/" not in self.mirror

    @property
    def run(self) -> str:
        return harmless(str(self.more.get("run", "")), LONGEST_NAME)

    @property
    def reason(self) -> str:
        return harmless(str(self.more.get("reason", "")), LONGEST_REASON)

    @property
    def tags(self) -> str:
        """``3 tags (v1, v2, v3)``; without any that is named ``3 tags``."""
        names = list(dict.fromkeys(name for one in self.events for name in one.names))
        shown = ", ".join(harmless(name, LONGEST_NAME) for name in names[:MOST_NAMES])
        more = ", …" if self.count > min(len(names), MOST_NAMES) else ""
        return f"{_counted(self.count)} ({shown}{more})" if shown else _counted(self.count)

    def place(self, key: str) -> str:
        return harmless(str(self.more.get(key, "")), LONGEST_NAME)


def harmless(text: str, longest: int) -> str:
    """Other people's text in one line of at most so many characters, with nothing in it that acts.

    Control and direction characters go, markup becomes look-alikes, mentions and links lose their beginning.
    """
    kept = (" " if unicodedata.category(c) in _SEPARATORS else c for c in text[: 4 * longest])
    line = " ".join("".join(c for c in kept if unicodedata.category(c)[0] != "C").split())
    line = line.replace(HIDDEN, "…").translate(_HARMLESS).replace("://", ":")
    line = _MENTION.sub("(at)", line)
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def notices(events: Iterable[Event]) -> list[Notice]:
    """One for each kind and mirror (or registry, or region), in the order of their last events.

    So what holds now is said after what is over.
    """
    groups: dict[tuple[str, str, str], list[Event]] = {}
    for one in events:
        subject = one.mirror or str(one.more.get("registry") or one.more.get("region") or "")
        key = (one.name, subject, str(one.more.get("kind") or ""))
        groups[key] = [*groups.pop(key, ()), one]
    return [_notice(name, several) for (name, *_), several in groups.items()]


def message(
    events: Sequence[Event], held: int = 0, quiet_until: float | None = None, *, is_repeated: bool = False
) -> Message:
    """What a receiver is sent of all these.

    ``held``: so many have waited because it had been told enough in an hour. ``quiet_until``: now it has
    been, and the next message comes then (Unix time). ``is_repeated``: it may have had this one before.
    """
    found = notices(events)
    parts = [one.text for one in found[:MOST_NOTICES]]
    if len(found) > MOST_NOTICES:
        parts.append(f"And {len(found) - MOST_NOTICES} more: `sealift events`")
    if held:
        events_were = "1 event was" if held == 1 else f"{held} events were"
        parts.insert(0, f"{events_were} held back, as there had been many messages.")
    if is_repeated:
        parts.insert(0, "This may have reached you before: whoever sent it was interrupted.")
    if quiet_until is not None:
        at = f"{datetime.fromtimestamp(quiet_until, UTC):%H:%M} UTC"
        parts.append(f"These were many messages: the next comes after {at}, with what happens until then.")
    title = found[0].title if len(found) == 1 else f"{len(found)} notices: {found[0].title}, …"
    level = _LEVELS[max(_LEVELS.index(one.level) for one in found)]
    return Message(harmless(f"Sealift · {title}", LONGEST_TITLE), "\n\n".join(parts), level)


def trial(name: str) -> Message:
    """What ``sealift notify test`` sends."""
    text = f"This is a trial: receiver {name} is told what happens in this fleet. Nothing needs to be done."
    return Message("Sealift · a trial", text, "info")


def _notice(name: str, events: Sequence[Event]) -> Notice:
    about = _About(harmless(events[0].mirror, LONGEST_NAME), events)
    level = _LEVEL.get(name, "info")
    try:
        return Notice(*_WORDS.get(name, _unknown)(about), level, max(about.count, len(events)))
    except (TypeError, ValueError):  # a newer version says it in other ways: all else is told
        return Notice(*_unknown(about), level, len(events))


def _failed(one: _About) -> tuple[str, str, str, str]:
    last, which, title = _About(one.mirror, one.events[-1:]), f"{one.noun} {one.run}", f"{one.noun} failed"
    again = f"sealift retry {one.run}{' --failed' if last.count else ''}"
    if one.runs > 1:
        which, title = f"the last of them ({which})", f"{one.runs:,} {one.noun}s failed"
        again = f"sealift sync {one.mirror}" if one.is_in_file and not one.kind else again
    what = (
        f"{last.tags} failed in {which}" if last.count else f"{which[0].upper()}{which[1:]} could not go on"
    )
    todo = f"`sealift status {one.run}` says why; `{again}` tries again"
    return f"{one.mirror}: {title}", f"{what}: {one.reason or 'see its tags'}.", todo, "sealiftfailureratio"


def _recovered(one: _About) -> tuple[str, str, str, str]:
    first = min(float(event.more.get("since_s") or event.at_s) for event in one.events)
    what = f"{_counted(one.runs, one.noun)} failed since {_moment(first)}; {one.noun} {one.run} went well."
    title = f"{one.noun} goes well again" if one.kind else "well again"
    return f"{one.mirror}: {title}", what, "", ""


def _split(one: _About) -> tuple[str, str, str, str]:
    what = f"{one.tags} moved in one target, failed in another and cannot be taken back (run {one.run})."
    todo = f"mend what `sealift status {one.run}` names, then `sealift retry {one.run}`"
    return f"{one.mirror}: targets differ", what, todo, "what-to-do-when"


def _conflict(one: _About) -> tuple[str, str, str, str]:
    place = one.place("place") or one.mirror
    what = f"{one.tags}: not the same on all sides, and left alone until somebody decides."
    todo = f"`sealift conflicts {one.mirror}`, then `sealift resolve {place} TAG --take REGISTRY`"
    return f"{one.mirror}: conflict", what, todo, "sealiftconflictsopen"


def _registry_down(one: _About) -> tuple[str, str, str, str]:
    reason = f": {one.reason}" if one.reason else ""
    what = f"It answers{_seen_from(one)} with errors, or not at all{reason}."
    todo = "nothing for a short outage, which is waited out; `sealift probe --last` shows who reaches it"
    return f"{one.place('registry')}: down", what, todo, "sealiftregistrydownfromregion"


def _registry_back(one: _About) -> tuple[str, str, str, str]:
    return f"{one.place('registry')}: back", f"It answers{_seen_from(one)} again.", "", ""


def _seen_from(one: _About) -> str:
    regions = sorted({str(event.more["region"]) for event in one.events if event.more.get("region")})
    return f" from {' and '.join(regions)}" if regions else ""


def _budget(one: _About) -> tuple[str, str, str, str]:
    limit, until = one.more.get("limit"), float(one.more.get("until_s") or 0)
    rest = "what is left is kept for releases" if one.more.get("kept") else "none is left"
    what = f"Of {limit} pulls that it allows {rest}: work waits, until {_moment(until)} at the latest."
    todo = "nothing, if it may wait; `sealift budget` shows what is left"
    return f"{one.place('registry')}: no pulls left", what, todo, "sealiftratelimitbudgetlow"


def _backfill_done(one: _About) -> tuple[str, str, str, str]:
    total = sum(int(event.more.get("tags") or 0) for event in one.events)
    what = f"Run {one.run} is through: {_counted(total)}, {one.count} of them updated."
    return f"{one.mirror}: backfill done", what, f"`sealift status {one.run}` has the details", ""


def _damage(one: _About) -> tuple[str, str, str, str]:
    still = " still" if one.kind == "repair" else ""
    what = f"Content of {one.tags} is{still} not what it should be ({one.noun} {one.run}): {one.reason}."
    if one.more.get("repairs"):
        todo = "nothing yet: a repair begins by itself, and `sealift runs` lists it"
    elif one.kind == "repair" or not one.is_in_file:
        todo = f"`sealift status {one.run}` names each part"
    else:
        todo = f"`sealift verify {one.mirror} --repair`"
    return f"{one.mirror}: damage {'left' if still else 'found'}", what, todo, "sealiftdamagefound"


def _repaired(one: _About) -> tuple[str, str, str, str]:
    what = f"Run {one.run} has repaired what was found to be wrong."
    todo = f"`sealift verify {one.mirror}` proves it" if one.is_in_file else ""
    return f"{one.mirror}: repaired", what, todo, ""


def _no_workers(one: _About) -> tuple[str, str, str, str]:
    region, mirrors = one.place("region"), sorted({name for event in one.events for name in event.mirrors})
    shown = ", ".join(harmless(name, LONGEST_NAME) for name in mirrors[:MOST_NAMES])
    more = f", … ({len(mirrors):,} in all)" if len(mirrors) > MOST_NAMES else ""
    what = f"Region {region} has no worker. Mirrors that run by a schedule need one there: {shown}{more}."
    return f"{region}: no worker", what, f"`sealift worker --region {region}`", "sealiftnoworkers"


def _unknown(one: _About) -> tuple[str, str, str, str]:
    return f"{one.mirror or 'fleet'}: news", "Another version of Sealift wrote this.", "`sealift events`", ""


def _counted(count: int, what: str = "tag") -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _moment(at_s: float) -> str:
    return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%d %H:%M} UTC"


_WORDS: Mapping[str, Callable[[_About], tuple[str, str, str, str]]] = {
    "failed": _failed,
    "recovered": _recovered,
    "split": _split,
    "conflict": _conflict,
    "registry_down": _registry_down,
    "registry_back": _registry_back,
    "budget": _budget,
    "backfill_done": _backfill_done,
    "damage": _damage,
    "repaired": _repaired,
    "no_workers": _no_workers,
}
_LEVELS: tuple[Level, ...] = ("info", "success", "warning", "failure")
_LEVEL: Mapping[str, Level] = {
    "failed": "failure",
    "recovered": "success",
    "split": "failure",
    "conflict": "warning",
    "registry_down": "failure",
    "registry_back": "success",
    "budget": "warning",
    "backfill_done": "success",
    "damage": "failure",
    "repaired": "success",
    "no_workers": "failure",
}
