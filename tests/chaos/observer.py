"""The observer: a program that knows only the registries, and says whether they kept the guarantees.

    python -m tests.chaos.observer CONFIG.json

While it runs it polls every tag of every target. For each digest that a tag is seen at it walks the image
graph in that target (G1); for each tag that moved it asks every other target for the whole new graph at
once (G2); now and then it hashes a blob (G3). What a tag was may be kept by another tag, of which each target
has its own: it must be whole, and no more is asked of it. It ends on SIGTERM, with a last look at everything,
and exits with 1 if anything was violated. What it saw is in the file ``out``, one JSON object a line.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import median
from typing import IO, Any

from tests.chaos.reading import Graphs, Place, Reader, Unreadable

HOT_EVERY = 8
"""After so many tags, those that are on the move are looked at again."""
HOT_S = 60.0
LIST_EVERY_S = 1.0
TOMBSTONE = b'"dev.sealift.deleted"'
"""In an image of nothing, to which a tag is moved to be deleted: it counts as gone."""
KEEPER = "sealift-keep."
"""How tags begin that keep what another tag was."""
TagId = tuple[str, str]
"""Group and tag."""


@dataclass(frozen=True, slots=True)
class Group:
    """One repository in every target; ``together``: its tags may move only when all targets hold all."""

    name: str
    places: dict[str, Place]
    together: bool = True


@dataclass(frozen=True, slots=True)
class Config:
    groups: tuple[Group, ...]
    out: Path
    rate: float = 120.0
    """Tags looked at in a second, in each target."""
    seed: int = 0

    @classmethod
    def parse(cls, document: dict[str, Any]) -> Config:
        groups = tuple(
            Group(
                one["name"],
                {target: Place.parse(name) for target, name in one["places"].items()},
                one.get("together", True),
            )
            for one in document["groups"]
        )
        return cls(groups, Path(document["out"]), document.get("rate", 120.0), document.get("seed", 0))

    @property
    def targets(self) -> list[str]:
        return list(dict.fromkeys(target for group in self.groups for target in group.places))


class Notes:
    """What was seen, as lines of JSON, and the sums for the verdict."""

    def __init__(self, sink: IO[str]) -> None:
        self._sink, self._lock = sink, threading.Lock()
        self.counts: Counter[str] = Counter()
        self.violations: list[dict[str, Any]] = []
        self.windows: list[float] = []

    def count(self, kind: str) -> None:
        with self._lock:
            self.counts[kind] += 1

    def note(self, kind: str, **facts: Any) -> None:
        with self._lock:
            self.counts[kind] += 1
            if kind == "violation":
                self.violations.append(facts)
            self._sink.write(json.dumps({"kind": kind, "at": time.time(), **facts}) + "\n")
            self._sink.flush()


@dataclass(slots=True)
class Track:
    """One tag through time: where each target has it, and since when they differ."""

    digests: dict[str, str | None] = field(default_factory=dict)
    looked: dict[str, float] = field(default_factory=dict)
    apart_since: float | None = None
    hot_until: float = 0.0


class Observer:
    """Shared by the threads that watch the targets."""

    def __init__(self, config: Config, notes: Notes) -> None:
        self.config, self.notes = config, notes
        self.graphs = Graphs()
        self.stop = threading.Event()
        self._lock = threading.Lock()
        self._tracks: dict[TagId, Track] = {}
        self._groups = {group.name: group for group in config.groups}

    def tags(self) -> list[TagId]:
        with self._lock:
            return list(self._tracks)

    def hot(self) -> list[TagId]:
        """Tags that are on the move just now."""
        now = time.monotonic()
        with self._lock:
            return [tag for tag, track in self._tracks.items() if track.hot_until > now]

    def learn(self, reader: Reader, target: str) -> None:
        """List what tags there are in the target."""
        for group in self.config.groups:
            if target in group.places:
                for tag in reader.tags(group.places[target]):
                    with self._lock:
                        self._tracks.setdefault((group.name, tag), Track())

    def look(self, reader: Reader, target: str, tag: TagId) -> None:
        """Read where the target has the tag, and check whatever is new about it."""
        group = self._groups[tag[0]]
        if target not in group.places:
            return
        digest = self._read(reader, group.places[target], tag[1])
        was, since = self._update(group, tag, target, digest)
        if digest == was:
            return
        if tag[1].startswith(KEEPER):
            if digest is not None:
                self.notes.note("kept", tag=tag, target=target, now=digest)
                self._check("G1", reader, tag, target, group.places[target], digest)
            return
        self.notes.note("moved", tag=tag, target=target, was=was, now=digest, since=since)
        if digest is None:
            self._violated("vanished", tag, target, [f"the tag was at {was} and is gone"])
            return
        self._check("G1", reader, tag, target, group.places[target], digest)
        if group.together:
            for other, place in group.places.items():
                if other != target:
                    self._check("G2", reader, tag, target, place, digest)

    def _read(self, reader: Reader, place: Place, tag: str) -> str | None:
        digest = reader.tag(place, tag)
        if digest is None or self.graphs.knows(place, digest):
            return digest
        content = reader.manifest(place, digest)
        if content is None:
            return reader.tag(place, tag)  # deleted since, or a tag without its manifest
        return None if TOMBSTONE in content else digest

    def look_again(self, reader: Reader, random: Random) -> None:
        """Walk one graph afresh, hash one blob."""
        if seen := self.graphs.seen():
            place, digest = random.choice(seen)
            if faults := self.graphs.faults(reader, place, digest, afresh=True):
                self._violated("G1", None, str(place), faults)
            self.notes.count("walked again")
        if blobs := self.graphs.unhashed():
            self._hash(reader, *random.choice(blobs))

    def last_look(self) -> None:
        """Every tag's whole graph afresh in every target, every blob of every registry by its bytes."""
        reader = Reader()
        for target in self.config.targets:
            self.learn(reader, target)
        for tag in self.tags():
            for target, place in self._groups[tag[0]].places.items():
                self.look(reader, target, tag)
                digest = self._tracks[tag].digests.get(target)
                if digest and (faults := self.graphs.faults(reader, place, digest, afresh=True)):
                    self._violated("G1", tag, target, faults)
        for place, digest in self.graphs.blobs():
            self._hash(reader, place, digest)
        reader.close()

    def verdict(self) -> dict[str, Any]:
        windows = sorted(self.notes.windows)
        return {
            "tags": len(self._tracks),
            "apart": sum(track.apart_since is not None for track in self._tracks.values()),
            "counts": dict(self.notes.counts),
            "blobs hashed": self.notes.counts["hashed"],
            "window median": median(windows) if windows else 0.0,
            "window worst": windows[-1] if windows else 0.0,
            "windows": len(windows),
            "violations": self.notes.violations,
        }

    def _hash(self, reader: Reader, place: Place, digest: str) -> None:
        self.notes.count("hashed")
        if fault := self.graphs.wrong_bytes(reader, place, digest):
            self._violated("G3", None, str(place), [fault])

    def _check(self, rule: str, reader: Reader, tag: TagId, moved: str, place: Place, digest: str) -> None:
        self.notes.count(f"checked {rule}")
        try:
            faults = self.graphs.faults(reader, place, digest)
        except Unreadable as error:
            self.notes.note("undecided", rule=rule, tag=tag, target=moved, reason=str(error))
            return
        if faults:
            self._violated(rule, tag, moved, faults)

    def _violated(self, rule: str, tag: TagId | None, target: str, faults: list[str]) -> None:
        self.notes.note("violation", rule=rule, tag=tag, target=target, faults=faults)

    def _update(
        self, group: Group, tag: TagId, target: str, digest: str | None
    ) -> tuple[str | None, float | None]:
        """Keep what was read; returns what was there before, and when that was read last."""
        now = time.time()
        with self._lock:
            track = self._tracks[tag]
            was, since = track.digests.get(target), track.looked.get(target)
            track.digests[target], track.looked[target] = digest, now
            if digest != was and not tag[1].startswith(KEEPER):
                self._windows(group, tag, track, now)
        return was, since

    def _windows(self, group: Group, tag: TagId, track: Track, now: float) -> None:
        """Targets that differ about a tag open a window; it closes when all agree."""
        if len(track.looked) < len(group.places):
            return
        apart = len({track.digests[target] for target in group.places}) > 1
        track.hot_until = time.monotonic() + HOT_S if apart else 0.0
        if apart and track.apart_since is None:
            track.apart_since = now
        elif not apart and track.apart_since is not None:
            window, track.apart_since = now - track.apart_since, None
            self.notes.windows.append(window)
            self.notes.note("window", tag=tag, seconds=window)


class Watch(threading.Thread):
    """Looks at one target's tags in turn, again and again; at those on the move more often."""

    def __init__(self, observer: Observer, target: str) -> None:
        super().__init__(name=f"watch {target}", daemon=True)
        self._observer, self._target = observer, target
        self._random = Random(f"{observer.config.seed}{target}")
        self._next = self._listed = 0.0

    def run(self) -> None:
        reader = Reader()
        while not self._observer.stop.is_set():
            try:
                self._round(reader)
            except Unreadable as error:
                self._observer.notes.note("unreadable", target=self._target, reason=str(error))
                self._observer.stop.wait(0.1)
        reader.close()

    def _round(self, reader: Reader) -> None:
        observer = self._observer
        self._list(reader)
        for number, tag in enumerate(observer.tags()):
            if number % HOT_EVERY == 0:
                self._list(reader)
                for hot in observer.hot():
                    self._look(reader, hot)
            self._look(reader, tag)
            if observer.stop.is_set():
                return
        observer.look_again(reader, self._random)
        self._pace()

    def _list(self, reader: Reader) -> None:
        if time.monotonic() - self._listed > LIST_EVERY_S:
            self._listed = time.monotonic()
            self._observer.learn(reader, self._target)

    def _look(self, reader: Reader, tag: TagId) -> None:
        self._pace()
        self._observer.look(reader, self._target, tag)
        self._observer.notes.count("looks")

    def _pace(self) -> None:
        now = time.monotonic()
        self._observer.stop.wait(max(0.0, self._next - now))
        self._next = max(self._next, now) + 1 / self._observer.config.rate


def observe(config: Config, until_stopped: threading.Event) -> dict[str, Any]:
    """Observe until the event is set, then look at everything once more; returns the verdict."""
    with config.out.open("w") as sink:
        notes = Notes(sink)
        observer = Observer(config, notes)
        watches = [Watch(observer, target) for target in config.targets]
        for watch in watches:
            watch.start()
        until_stopped.wait()
        observer.stop.set()
        for watch in watches:
            watch.join()
        observer.last_look()
        verdict = observer.verdict()
        notes.note("verdict", **verdict)
    return verdict


def main() -> int:
    config = Config.parse(json.loads(Path(sys.argv[1]).read_text()))
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    signal.signal(signal.SIGINT, lambda *_: stopped.set())
    verdict = observe(config, stopped)
    return 1 if verdict["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
