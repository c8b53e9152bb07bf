"""Images in commands of docker and its kin, wherever these stand: scripts, makefiles, pipelines' ``run``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from mirror.rewrite.shell import words_of
from mirror.rewrite.spots import Role, Span
from mirror.rewrite.tools import (
    BUILD_OPTIONS,
    CHART_OPTIONS,
    COMMANDS,
    IMAGE_OPTIONS,
    SHORT_SWITCHES,
    SINGLE,
    SWITCHES,
    TAG_OPTIONS,
    VALUED,
    Where,
)
from mirror.rewrite.words import DEFAULTED, LATEST, Found, full_references, has_host, reference_at

_TOOLS = re.compile(
    rf"(?<![\w.$-])(?:(?<![\w/])[\w./-]*/)?(?P<name>{'|'.join(COMMANDS)})(?![\w./:@=-])",
)
_SUBSTITUTION = re.compile(r"\$\(|`")
"""Within a command's words another command may stand."""
_HOST_AND_PORT = re.compile(r"[\w-]+(?:\.[\w-]+)+:\d+")
_PREFIX = re.compile(r"(?:[\w.-]+=)?(?:(?:docker|docker-image|oci|registry)://|registry:)?")
"""What may stand before a reference in its word, as in ``app=``."""
_MORE_OPTIONS = re.compile(r"(?i)\W*\$\W*(?:\w*(?:opt|arg|flag|param|extra)\w*|[@*])")
"""A variable that holds options, as its name says."""


@dataclass(frozen=True, slots=True)
class Named:
    """An image that a command names."""

    found: Found
    role: Role


@dataclass(frozen=True, slots=True)
class Command:
    """What was read of one command: the words between ``start`` and ``end``, and the images among them."""

    start: int
    end: int
    images: tuple[Named, ...]
    build: tuple[Span, ...]
    """What a build is given as ``NAME=VALUE``."""
    values: tuple[Span, ...]
    """What a chart is given as ``NAME=VALUE,…``."""

    def takes(self, at: int) -> bool:
        """Whether what stands there is a word of it, of which it is known what it is."""
        is_open = any(word.start <= at < word.end for word in (*self.build, *self.values))
        return self.start <= at < self.end and not is_open


def commands_in(
    text: str, start: int, end: int, *, lone_names: bool = True, is_folded: bool = False
) -> Iterator[Command]:
    """Every command between ``start`` and ``end``, those within others included.

    ``lone_names``: whether a name of one word may be an image, as it may not in prose. ``is_folded``: as of
    :func:`mirror.rewrite.shell.words_of`.
    """
    at = start
    while tool := _TOOLS.search(text, at, end):
        words = words_of(text, start, tool.end(), end, is_folded=is_folded)
        command = _Command(text, tool["name"], words, lone_names)
        images = tuple(command.images())
        inner = _SUBSTITUTION.search(text, tool.end(), command.at)
        at = inner.end() if inner else max(command.at, tool.end())
        if command.is_known:
            yield Command(tool.end(), command.last(), images, tuple(command.build), tuple(command.values))


def untagged(found: Found) -> str | None:
    """To a command no tag means one; a name alone may be anything."""
    return None if found.has_variable else LATEST


class _Command:
    """One command while its words are read."""

    def __init__(self, text: str, tool: str, words: Iterator[Span], lone_names: bool) -> None:  # noqa: FBT001 - passed on as it came
        self.at = 0
        """How far it was read; behind it other commands may begin."""
        self._text, self._lone_names = text, lone_names
        self._table = COMMANDS[tool]
        self._words = self._read(words)
        self._held: Span | None = None
        self.build: list[Span] = []
        self.values: list[Span] = []
        self.is_known = False
        """Whether it is known where it takes images."""

    def last(self) -> int:
        """Where the last of its words ends."""
        return max((self.at, *(word.end for word in self._words)))

    def images(self) -> Iterator[Named]:
        """Each image with what the command does to it."""
        path = self._subcommand()
        where = self._table.get(path)
        self.is_known = where is not None
        if where == "mirrored":
            yield from self._mirrored()
        elif where == "first":
            yield from self._first()
        elif where:
            yield from self._each(path, where)

    def _read(self, words: Iterator[Span]) -> Iterator[Span]:
        for word in words:
            self.at = word.end
            yield word

    def _next(self) -> Span | None:
        held, self._held = self._held, None
        return held or next(self._words, None)

    def _subcommand(self) -> str:
        """The words of the longest subcommand that is known; what follows is not read yet."""
        path = ""
        while word := self._next():
            if not path and word.text.startswith("-"):
                self._skip_value(word, is_valued=word.text in VALUED)
                continue
            longer = f"{path} {word.text}".strip()
            if not any(f"{one} ".startswith(f"{longer} ") for one in self._table):
                self._held = word
                break
            path = longer
        return path

    def _skip_value(self, option: Span, *, is_valued: bool) -> None:
        if is_valued and "=" not in option.text:
            self._next()

    def _value(self, word: Span, option: str, equals: str) -> Span | None:
        return Span(word.start + len(option) + 1, word.end, "") if equals else self._next()

    def _first(self) -> Iterator[Named]:
        while word := self._next():
            if word.text.startswith("-"):
                self._skip_value(word, is_valued=_is_valued_in_run(word.text))
            elif not _MORE_OPTIONS.match(word.text):
                if found := _image(self._text, word.start, word.end):
                    yield from self._named(found, "used", is_surely_one=True)
                return

    def _each(self, path: str, where: Where) -> Iterator[Named]:
        named: list[Found] = []
        while word := self._next():
            option, equals, _ = word.text.partition("=")
            if option in BUILD_OPTIONS or option in CHART_OPTIONS:
                pairs = self.build if option in BUILD_OPTIONS else self.values
                pairs += [value] if (value := self._value(word, option, equals)) else []
            elif option in TAG_OPTIONS or option in IMAGE_OPTIONS:
                role: Role = "published" if option in TAG_OPTIONS or where == "pushed" else "used"
                value = self._value(word, option, equals)
                if value and (found := _image(self._text, value.start, value.end)):
                    yield from self._named(found, role)
            elif word.text.startswith("-"):
                self._skip_value(word, is_valued=option in VALUED)
            elif self._may_be_one(path, where, word) and (found := _image(self._text, word.start, word.end)):
                named.append(found)
        for at, found in enumerate(named):
            is_new = where == "pushed" or (where == "tagged" and at > 0)
            is_one = where == "tagged" or (path in SINGLE and len(named) == 1)
            yield from self._named(found, "published" if is_new else "used", is_surely_one=is_one)

    def _may_be_one(self, path: str, where: Where, word: Span) -> bool:
        if where == "options":
            return path == "set image" and "=" in word.text
        is_plain = not any(mark in word.text for mark in ":@$") and not has_host(word.text)
        return bool(path) or not is_plain  # these scan folders, too

    def _mirrored(self) -> Iterator[Named]:
        while word := self._next():
            yield from (Named(one, "mirrored") for one in full_references(self._text, word.start, word.end))
            if found := _image(self._text, word.start, word.end):
                yield from self._named(found, "mirrored")

    def _named(self, found: Found, role: Role, *, is_surely_one: bool = False) -> Iterator[Named]:
        """What looks like an image, or stands where nothing else can."""
        name = found.name.text
        is_known = bool(found.tag or found.digest or found.has_variable)
        written = self._text[found.name.start : found.end]
        says_so = "/" in name or (is_known and not name.isdigit() and not _HOST_AND_PORT.fullmatch(written))
        if says_so or (is_surely_one and self._lone_names):
            yield Named(found, role)


def _is_valued_in_run(option: str) -> bool:
    if option.startswith("--"):
        return option not in SWITCHES and option != "--"
    for at, letter in enumerate(option[1:], 2):
        if letter not in SHORT_SWITCHES:
            return at == len(option)
    return False


def _image(text: str, start: int, end: int) -> Found | None:
    prefix = _PREFIX.match(text, start, end)
    at = prefix.end() if prefix else start
    if variable := DEFAULTED.fullmatch(text, at, end):
        at, end = variable.span("default")
    found = reference_at(text, at)
    if found is None or found.end > end or (found.end < end and not found.has_variable):
        return None
    return found
