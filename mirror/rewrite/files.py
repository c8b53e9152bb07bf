"""Files, read and written byte for byte, with what is found in them and what becomes of it."""

from __future__ import annotations

import os
import re
import stat
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import unified_diff
from pathlib import Path

from mirror.rewrite.kinds import files_in, is_text, spots_in
from mirror.rewrite.kustomize import Reach, reach
from mirror.rewrite.moves import Moves
from mirror.rewrite.proof import Claim, Verdict
from mirror.rewrite.spots import STAYS, Spot, edited


class Changed(Exception):
    """A file is not what was read any more: nothing was written to it."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file's text and the references in it to images at an old place."""

    path: Path
    text: str
    spots: tuple[Spot, ...]

    @property
    def content(self) -> bytes:
        return self.text.encode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class Left:
    """A reference that stays as it is, and why."""

    source: Source
    spot: Spot
    why: str
    is_denied: bool = False

    @property
    def place(self) -> str:
        return f"{self.source.path}:{self.spot.line}"


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A file as it becomes."""

    source: Source
    text: str
    spots: tuple[Spot, ...]
    """Those that change."""
    unpinned: tuple[Spot, ...] = ()
    """Of these, the ones that were to be pinned where no digest can stand."""

    def diff(self) -> str:
        """As ``diff -u`` has it, to be read and to be applied."""
        name = self.source.path.as_posix().lstrip("/")
        before, after = (_lines(text) for text in (self.source.text, self.text))
        return "".join(_ended(line) for line in unified_diff(before, after, f"a/{name}", f"b/{name}"))

    def write(self) -> None:
        """All or nothing, with the rights that the file has. Raises Changed, OSError."""
        path = self.source.path.resolve()
        if path.read_bytes() != self.source.content:
            raise Changed(f"{self.source.path}: was changed meanwhile; nothing was written to it")
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as new:
                new.write(self.text.encode("utf-8", "surrogateescape"))
            Path(name).chmod(stat.S_IMODE(path.stat().st_mode))
            Path(name).replace(path)
        except BaseException:
            with suppress(OSError):
                Path(name).unlink()
            raise


@dataclass
class Survey:
    """What is in files and folders."""

    sources: list[Source] = field(default_factory=list)
    """Those with a reference to an old place."""
    looked_at: int = 0
    skipped: list[Path] = field(default_factory=list)
    """Files that were named and are no text."""

    @property
    def claims(self) -> list[Claim]:
        """What has to be proven before they can change."""
        return [
            Claim(spot.old, spot.new)
            for source in self.sources
            for spot in source.spots
            if spot.writing and spot.role not in STAYS and spot.must_prove
        ]


def survey(paths: Iterable[Path], moves: Moves) -> Survey:
    """Read every file once, also where ``paths`` overlap. Raises OSError."""
    found, seen = Survey(), set[Path]()
    for path in paths:
        for file in files_in(path):
            if (real := file.resolve()) in seen:
                continue
            seen.add(real)
            content = file.read_bytes()
            if not is_text(content):
                found.skipped += [file] if file == path else []
                continue
            found.looked_at += 1
            text = content.decode("utf-8", "surrogateescape")
            if spots := spots_in(file, text, moves):
                found.sources.append(Source(file, text, tuple(spots)))
    return found


def decide(
    sources: Iterable[Source], verdicts: Mapping[Claim, Verdict], *, pin: bool
) -> tuple[list[Rewritten], list[Left]]:
    """What changes, and what stays for which reason."""
    sources = list(sources)
    left = [one for source in sources for spot in source.spots if (one := _left(source, spot, verdicts))]
    while more := _tied(sources, left) + _beside(sources, left):  # what one holds back another may need
        left += more
    staying = {id(one.spot) for one in left}
    changed = []
    for source in sources:
        going = tuple(spot for spot in source.spots if id(spot) not in staying)
        if going:
            changed.append(_rewritten(source, going, verdicts, pin=pin))
    return [one for one in changed if one.text != one.source.text], left


def _rewritten(
    source: Source, spots: tuple[Spot, ...], verdicts: Mapping[Claim, Verdict], *, pin: bool
) -> Rewritten:
    edits, unpinned = [], []
    for spot in spots:
        verdict = verdicts.get(Claim(spot.old, spot.new))
        is_alone = _pins_alone(source, spot, verdicts)
        digest = verdict.digest if pin and verdict and is_alone and not spot.old.digest else None
        bare = spot.edits(None)
        own = spot.edits(digest) if digest else bare
        if pin and own == bare and not spot.old.digest and spot.role == "used":
            unpinned.append(spot)
        edits += own
    return Rewritten(source, edited(source.text, edits), spots, tuple(unpinned))


def _pins_alone(source: Source, spot: Spot, verdicts: Mapping[Claim, Verdict]) -> bool:
    """Whether no other image has its tag or digest in the same place."""
    own = verdicts.get(Claim(spot.old, spot.new))
    others = [one for one in source.spots if one is not spot and one.versions & spot.versions]
    return all(verdicts.get(Claim(one.old, one.new)) == own for one in others)


def _left(source: Source, spot: Spot, verdicts: Mapping[Claim, Verdict]) -> Left | None:
    if spot.role in STAYS:
        return Left(source, spot, STAYS[spot.role])
    if spot.writing is None:
        return Left(source, spot, spot.why_not)
    if not spot.must_prove:
        return None
    verdict = verdicts[Claim(spot.old, spot.new)]
    return None if verdict.holds else Left(source, spot, verdict.why_not, verdict.is_denied)


def _tied(sources: list[Source], left: list[Left]) -> list[Left]:
    """Kustomize finds images by their name: it and what it finds change together or not at all."""
    staying = {id(one.spot): one.place for one in left}
    found: list[Left] = []
    for source in sources:
        for spot in source.spots:
            if spot.role != "matched":
                continue
            reached = reach(source.path)
            tied = [
                (at, one) for at in sources for one in at.spots if _is_tied(source, spot, at, one, reached)
            ]
            held = [place for at, one in tied if (place := staying.get(id(one)))]
            if not reached.is_whole or len(tied) == 1:
                why = f"names an image of bases that are not here; add newName: {spot.new.name}"
            elif held:
                why = f"changes together with {held[0]}, which stays"
            else:
                continue
            for at, one in tied:
                if id(one) not in staying:
                    found.append(Left(at, one, why))
                    staying[id(one)] = found[-1].place
    return found


def _beside(sources: list[Source], left: list[Left]) -> list[Left]:
    """Several images may be named in one place, by an anchor: they change together or not at all."""
    staying = {id(one.spot) for one in left}
    found: list[Left] = []
    for source in sources:
        for spot in source.spots:
            if id(spot) in staying:
                continue
            others = [one for one in source.spots if one is not spot and one.places & spot.places]
            held = [one for one in others if id(one) in staying]
            if held:
                why = f"is named in one place with {held[0].old}, which stays"
            elif any(_differ(spot, one) for one in others):
                why = "is named in one place with others, which move elsewhere; change it by hand"
            else:
                continue
            found.append(Left(source, spot, why))
            staying.add(id(spot))
    return found


def _differ(spot: Spot, other: Spot) -> bool:
    return any(
        (one.start, one.end) == (at.start, at.end) and one.text != at.text
        for one in spot.edits(None)
        for at in other.edits(None)
    )


def _is_tied(source: Source, spot: Spot, at: Source, one: Spot, reached: Reach) -> bool:
    """Whether ``one`` is what ``spot`` of a kustomization finds, or ``spot`` itself."""
    if one is spot or at is source:
        return one is spot
    return one.old.name == spot.old.name and one.role == "used" and at.path.resolve() in reached.files


def _lines(text: str) -> list[str]:
    shown = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return re.findall(r"[^\n]*\n|[^\n]+", shown)


def _ended(line: str) -> str:
    return line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"
