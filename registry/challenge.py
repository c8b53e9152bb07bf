"""``WWW-Authenticate`` as values (RFC 9110, section 11.6.1), read as leniently as registries write it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

MAX_HEADER = 8192
"""Characters of one header that are looked at; a longer one is nobody's honest challenge."""

_NAME = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
_PARAMETER = re.compile(rf'({_NAME})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_SCHEME = re.compile(rf"({_NAME})(?:[ \t]+[A-Za-z0-9._~+/-]+=*(?=\s*(?:,|$)))?")
_BETWEEN = re.compile(r"[\s,]*")
_ESCAPED = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to authenticate that a server offers; ``scheme`` and the parameters' names in lower case."""

    scheme: str
    parameters: dict[str, str] = field(default_factory=dict)


def parse_challenges(headers: Iterable[str]) -> list[Challenge]:
    """Every challenge of every header, in order; what is no challenge is passed over.

    A header may hold several, separated by the same commas as their parameters; values come quoted (with
    commas, as in ``scope="repository:a/b:pull,push"``) or bare. Of a parameter given twice the first counts.
    """
    return [challenge for header in headers for challenge in _parse(header[:MAX_HEADER])]


def _parse(header: str) -> list[Challenge]:
    challenges: list[Challenge] = []
    at = _skip(header, 0)
    while at < len(header):
        if challenges and (parameter := _PARAMETER.match(header, at)):
            name, quoted, bare = parameter.groups()
            value = _ESCAPED.sub(r"\1", quoted) if quoted is not None else bare
            challenges[-1].parameters.setdefault(name.lower(), value)
            at = parameter.end()
        elif scheme := _SCHEME.match(header, at):
            challenges.append(Challenge(scheme[1].lower()))
            at = scheme.end()
        else:
            at += 1
        at = _skip(header, at)
    return challenges


def _skip(header: str, at: int) -> int:
    found = _BETWEEN.match(header, at)
    return found.end() if found else at
