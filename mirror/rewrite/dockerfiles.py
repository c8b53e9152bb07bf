"""References in Dockerfiles (BuildKit's frontend 1): FROM and its ARGs, ``--from``, ``# syntax=``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from mirror.rewrite.moves import Moves
from mirror.rewrite.spots import BY_VARIABLES, Span, Spot
from mirror.rewrite.texts import Manner, spots_within
from mirror.rewrite.words import LATEST, line_of, reference_at, spot_of

_DIRECTIVE = re.compile(r"#[ \t]*(?P<name>\w+)[ \t]*=[ \t]*(?P<value>\S+)[ \t]*\r?\n")
_INSTRUCTION = re.compile(r"[ \t]*(?:ONBUILD[ \t]+)?(?P<word>[A-Za-z]+)[ \t]+", re.IGNORECASE)
_HEREDOC = re.compile(r"<<-?[\"']?(\w+)[\"']?")
_WORD = re.compile(r"(?:[^\s\\`]|[\\`](?![ \t]*\r?\n))+")
_FROM_OPTION = re.compile(r"(?:^--from=|(?<=,)from=|--mount=from=)(?P<reference>[^,\s]+)")
_ARGUMENT = re.compile(r"""(?P<name>\w+)=(?P<quote>["']?)(?P<value>[^\s"']*)(?P=quote)""")
_VARIABLE = re.compile(r"\$(?:(?P<plain>\w+)|\{(?P<name>\w+)(?::?-(?P<default>[^}]*))?\})")
_SCRATCH = "scratch"


@dataclass
class Dockerfile:
    """One file while its references are being found."""

    text: str
    moves: Moves
    _arguments: dict[str, Span] = field(default_factory=dict)
    """Those before the first FROM, by what they are unless a build says otherwise."""
    _stages: set[str] = field(default_factory=lambda: {_SCRATCH})
    _spots: dict[int, Spot] = field(default_factory=dict)
    _parts: dict[int, int] = field(default_factory=dict)
    """By where an argument's value stands: the first line that makes a name of it and of more."""
    _has_begun: bool = False
    _escape: str = "\\"

    def spots(self) -> list[Spot]:
        """In order."""
        for start, end in self._instructions(self._directives()):
            self._instruction(start, end)
        return [self._whole(self._spots[at]) for at in sorted(self._spots)]

    def _whole(self, spot: Spot) -> Spot:
        """What stands in an argument of which a line makes another name cannot change for its own sake."""
        for argument in self._arguments.values():
            line = self._parts.get(argument.start)
            if line and argument.start <= spot.start < argument.end:
                why = f"line {line} makes another name of it; change it by hand"
                return replace(spot, writing=None, why_not=why)
        return spot

    def _directives(self) -> int:
        at = 0
        while match := _DIRECTIVE.match(self.text, at):
            if match["name"].lower() == "escape":
                self._escape = match["value"]
            elif match["name"].lower() == "syntax":
                self._reference(Span(match.start("value"), match.end("value"), match["value"]))
            at = match.end()
        return at

    def _instructions(self, at: int) -> Iterator[tuple[int, int]]:
        """Each with the lines that it goes on over; comments and what is fed to it left out."""
        while at < len(self.text):
            end = self._line_end(at)
            if not self.text[at:end].strip() or self.text[at:end].lstrip().startswith("#"):
                at = end
                continue
            start = at
            while self.text[at:end].rstrip().endswith(self._escape) and end < len(self.text):
                at, end = end, self._line_end(end)
                while self.text[at:end].lstrip().startswith("#") and end < len(self.text):
                    at, end = end, self._line_end(end)
            yield start, end
            at = self._behind_heredocs(start, end)

    def _line_end(self, at: int) -> int:
        found = self.text.find("\n", at)
        return len(self.text) if found < 0 else found + 1

    def _behind_heredocs(self, start: int, end: int) -> int:
        for match in _HEREDOC.finditer(self.text, start, end):
            closing = re.compile(rf"^\t*{match[1]}[ \t]*\r?$", re.MULTILINE).search(self.text, end)
            if closing:
                end = self._line_end(closing.end())
        return end

    def _instruction(self, start: int, end: int) -> None:
        match = _INSTRUCTION.match(self.text, start, end)
        word = match["word"].upper() if match else ""
        at = match.end() if match else start
        if word == "FROM":
            self._from(at, end)
        elif word == "ARG" and not self._has_begun:
            for found in _ARGUMENT.finditer(self.text, at, end):
                span = Span(found.start("value"), found.end("value"), found["value"])
                self._arguments[found["name"]] = span
        elif word in {"COPY", "ADD", "RUN"}:
            for option in self._words(at, end):
                for found in _FROM_OPTION.finditer(option.text) if option.text.startswith("--") else ():
                    here = option.start + found.start("reference")
                    self._reference(Span(here, here + len(found["reference"]), found["reference"]))
        self._rest(start, end)

    def _words(self, start: int, end: int) -> Iterator[Span]:
        return (Span(word.start(), word.end(), word[0]) for word in _WORD.finditer(self.text, start, end))

    def _from(self, start: int, end: int) -> None:
        self._has_begun = True
        words = [word for word in self._words(start, end) if not word.text.startswith("--")]
        if words:
            self._reference(words[0])
        if len(words) > 2 and words[1].text.upper() == "AS":
            self._stages.add(words[2].text.lower())

    def _reference(self, word: Span) -> None:
        """What FROM and its like name: an image unless it is a stage; perhaps by a variable."""
        if word.text.lower() in self._stages or word.text.isdigit():
            return
        self._note_parts(word)
        variable = _VARIABLE.fullmatch(word.text)
        if variable and (argument := self._arguments.get(variable["name"] or variable["plain"])):
            word, variable = argument, _VARIABLE.fullmatch(argument.text)
            self._note_parts(word)
        if variable and variable["default"]:
            start = word.start + variable.start("default")
            word = Span(start, start + len(variable["default"]), variable["default"])
        found = reference_at(self.text, word.start)
        if found is None or not (found.has_variable or found.end == word.end):
            self._put_together(word)
            return
        if found.has_variable:
            found = replace(found, tag=self._tag(word))
        spot = spot_of(self.text, found, self.moves, untagged=LATEST)
        known = self._spots.get(found.name.start)
        if spot and (known is None or known.is_unsure):
            self._spots[spot.start] = spot

    def _note_parts(self, word: Span) -> None:
        for variable in _VARIABLE.finditer(word.text):
            argument = self._arguments.get(variable["name"] or variable["plain"])
            if argument and variable[0] != word.text:
                self._parts.setdefault(argument.start, line_of(self.text, word.start))

    def _tag(self, word: Span) -> str | None:
        """What a variable tag is unless a build says otherwise."""
        plain = self._expanded(word.text)
        found = reference_at(plain, 0)
        return found.tag if found and found.end == len(plain) else None

    def _put_together(self, word: Span) -> None:
        plain = self._expanded(word.text)
        found = reference_at(plain, 0)
        spot = spot_of(plain, found, self.moves, untagged=LATEST) if found and plain != word.text else None
        if spot:
            line = line_of(self.text, word.start)
            left = replace(
                spot, start=word.start, line=line, shown=word.text, writing=None, why_not=BY_VARIABLES
            )
            self._spots.setdefault(word.start, left)

    def _expanded(self, text: str) -> str:
        for _ in range(3):  # an argument may be made of another
            text = _VARIABLE.sub(self._value, text)
        return text

    def _value(self, variable: re.Match[str]) -> str:
        argument = self._arguments.get(variable["name"] or variable["plain"])
        if argument and argument.text:
            return argument.text
        return variable["default"] if variable["default"] is not None else variable[0]

    def _rest(self, start: int, end: int) -> None:
        """Whatever names its host elsewhere in an instruction, as in a RUN or an ENV."""
        for spot in spots_within(self.text, start, end, self.moves, Manner()):
            self._spots.setdefault(spot.start, spot)
