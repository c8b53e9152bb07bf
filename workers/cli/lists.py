"""``backfill --from``: a list of references, one a line, read twice: to find every fault, then to send it.

Nothing of it is held but the names of repositories, so that no two of them are written to one place.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from io import TextIOWrapper
from itertools import groupby
from pathlib import Path
from typing import IO, TYPE_CHECKING

from mirror.spec import MirrorSpec
from registry.descriptor import abridged
from registry.reference import LAYOUT, MalformedReference, Reference
from workers.cli.exits import Exit, Stop
from workers.cli.text import counted

if TYPE_CHECKING:
    from mirror.ledger.sources import Entry  # brings redis, which no list of faults needs

STDIN = "-"
MOST_FAULTS = 20
"""Bad lines that are shown; further ones are counted."""


@dataclass(slots=True)
class References:
    """A list that was read through once and found to be in order."""

    lines: IO[str]
    hosts: set[str] = field(default_factory=set)
    """Registries that it names."""
    count: int = 0

    def entries(self) -> Iterator[Entry]:
        """Lines of one repository that stand together are one entry; one without a tag means all of them."""
        from mirror.ledger.sources import Entry

        self.lines.seek(0)
        for name, group in groupby(_references(self.lines), key=lambda one: (one.name, _is_whole(one))):
            if name[1]:
                yield Entry(name[0])
            else:
                yield Entry(name[0], tuple(dict.fromkeys(map(_pair, group))))


def hosts_of(specs: Sequence[MirrorSpec], references: References | None = None) -> set[str]:
    """Every registry that the mirrors, or the list, read or write, as references spell it."""
    names = references.hosts if references else set()
    names |= {name for spec in specs for name in spec.places}
    return {name.partition("/")[0] for name in names}


@contextmanager
def reading(source: str, spec: MirrorSpec) -> Iterator[References]:
    """The list in the file ``source`` (``-``: standard input) for a mirror on the terms of ``spec``.

    Raises:
        Stop: it cannot be read, is empty, or has bad lines; they are named by their numbers.
    """
    with _opened(source) as lines:
        references = References(lines)
        name = "standard input" if source == STDIN else source
        _check(references, name, spec)
        yield references


@contextmanager
def _opened(source: str) -> Iterator[IO[str]]:
    """Lines that can be read again: what comes through a pipe is kept in a file for that."""
    with ExitStack() as stack:
        try:
            lines = stack.enter_context(Path(source).open("rb")) if source != STDIN else sys.stdin.buffer
            if not lines.seekable() or source == STDIN:
                copy = stack.enter_context(tempfile.TemporaryFile())
                shutil.copyfileobj(lines, copy)
                copy.seek(0)
                lines = copy
        except OSError as error:
            raise Stop(f"--from {source}: {error.strerror}", Exit.USAGE) from None
        yield stack.enter_context(TextIOWrapper(lines, encoding="utf-8", errors="replace"))


def _check(references: References, name: str, spec: MirrorSpec) -> None:
    faults: list[str] = []
    count = 0
    check = _Check(spec, references)
    for number, text in _numbered(references.lines):
        if fault := check.fault(number, text):
            count += 1
            faults += [f"{name}:{number}: {fault}"] if count <= MOST_FAULTS else []
    if count:
        more = [f"... and {counted(count - MOST_FAULTS, 'further bad line')}"] if count > MOST_FAULTS else []
        raise Stop("\n".join([*faults, *more]), Exit.USAGE)
    if not references.count:
        raise Stop(f"{name}: no reference in it; write one a line, as host/repository[:tag]", Exit.USAGE)


@dataclass(slots=True)
class _Check:
    """What a line is looked at for: its grammar, and where its repository is written to."""

    spec: MirrorSpec
    references: References
    _first: dict[str, tuple[str, int]] = field(default_factory=dict)
    """By what the wildcard stands for: the repository that is written there, and its first line."""

    def fault(self, number: int, text: str) -> str:
        """What is wrong with the line; empty if nothing is."""
        try:
            reference = Reference.parse(text)
        except MalformedReference as error:
            return str(error)
        self.references.count += 1
        self.references.hosts.add(reference.host)
        if reference.digest and not reference.tag:
            return f"{reference} has no tag to keep; write {reference.name}:TAG@{abridged(reference.digest)}"
        return self._misplaced(number, reference)

    def _misplaced(self, number: int, reference: Reference) -> str:
        spec, name = self.spec, reference.name
        if not spec.is_wildcard:
            return "" if name == spec.source else f"{name} is not {spec.source}, which {spec.name} mirrors"
        if reference.host == LAYOUT:
            return f"{reference} is a folder; mirror it by itself"
        rest = spec.rest_of(name)
        if not rest or not spec.takes(rest):
            return f"{name} is none of {spec.source}, which {spec.name} mirrors"
        first, line = self._first.setdefault(rest, (name, number))
        if first != name:
            return f"{name} would be written where {first} is (line {line}); mirror one of them by itself"
        return self._unwritable(reference)

    def _unwritable(self, reference: Reference) -> str:
        for target in self.spec.of(reference.name).targets:
            if target.repository == reference.name:
                return f"{reference.name} would be written to itself"
            try:
                Reference.parse(target.repository)
            except MalformedReference as error:
                return str(error)
        return ""


def _references(lines: IO[str]) -> Iterator[Reference]:
    return (Reference.parse(text) for _, text in _numbered(lines))


def _numbered(lines: IO[str]) -> Iterator[tuple[int, str]]:
    """Lines that say something, from 1; ``#`` begins a comment."""
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if text:
            yield number, text


def _is_whole(reference: Reference) -> bool:
    return reference.tag is None


def _pair(reference: Reference) -> tuple[str, str]:
    tag = str(reference.tag)
    return tag, reference.digest or tag
