"""Keeps secrets out of texts: Authorization values, tokens, URL userinfo and signed query values.

Where a text might hold a secret it loses a readable word rather than tell one.
"""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Mapping
from types import TracebackType
from typing import Any

HIDDEN = "***"

_VALUE = r"""(?:"[^"]*"|'[^']*'|[^\s"'&;,)}\]]+)"""
_NAME = (
    r"[\w.-]{0,80}?(?:token|password|passwd|passphrase|secret|signature|credentials?"
    r"|api_?key|access_?key|private_?key)"
)
_READABLE = frozenset({
    # What registries and token servers are asked in queries that is worth reading in a log.
    *("account", "artifacttype", "digest", "digest-algorithm", "from", "last", "mount", "n"),
    *("next_page", "ns", "origin", "page", "scope", "service", "tag"),
})  # fmt: skip

_HEADER = re.compile(
    r"""(?ix)\b (?P<name>(?:proxy-)?authorization | x-registry-(?:auth|config) | x-[\w-]{0,40}token)
    (?P<joint>["']?\s*[:=]\s*(?:b?["'])? | ["']\s*,\s*b?["'])
    (?:[a-z-]+[ \t]+)? [^\s"',;]+"""
)
_COOKIE = re.compile(r"""(?i)\b((?:set-)?cookie(?:["']?\s*[:=]\s*(?:b?["'])?|["']\s*,\s*b?["']))[^"'\r\n]+""")
_SCHEME = re.compile(
    r"""\b([Bb]asic|[Bb]earer|BASIC|BEARER)\s+
    (?!(?:[A-Z]?[a-z]{1,19}|\*{3})(?![\w.~+/=-]))  # but "Bearer challenge" is two words
    [\w.~+/-]{6,}=*""",
    re.VERBOSE | re.ASCII,
)
_USERINFO = re.compile(r"""(?i)\b([a-z][a-z0-9+.-]{0,30}://)[^\s/?\#"'<>]*@""")
_PARAMETER = re.compile(r"""(?<=[?&;])(?P<name>[\w.~%\[\]-]+)=(?P<value>[^&;\s"'<>)}\]]*)""", re.ASCII)
_QUOTED_KEY = re.compile(
    rf"""(?ix) (?P<key>["'](?:{_NAME} | auth | _state | sig) \\*["']\s*:\s*)
    b?(?: "(?:[^"\\]|\\.)*"? | '(?:[^'\\]|\\.)*'? | \\+["'][^"'\\]* | [^\s"',{{}}\[\\]+ )"""
)
_ASSIGNED = re.compile(
    rf"""(?ix)(?<![\w.-])
    (?P<key>{_NAME}\s?=\s? | --?{_NAME}(?:=|\s+) | pass(?:word|wd|phrase)\s?:\s+) b?{_VALUE}"""
)
_JWT = re.compile(r"\beyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?", re.ASCII)
_KNOWN_PREFIX = re.compile(
    # Tokens that say what they are: GitHub, Docker Hub, GitLab, AWS, Google.
    r"\b(?:gh[pousr]_|github_pat_|dckr_[a-z]{2,5}_|gl[a-z]{2,5}-|A[KS]IA(?=[A-Z0-9]{16}\b)|ya29\.)[\w.-]{10,}",
    re.ASCII,
)


def redacted(text: str) -> str:
    """``text`` with every value that may be a secret replaced by ``***``; a second time changes nothing."""
    text = _HEADER.sub(rf"\g<name>\g<joint>{HIDDEN}", text)
    text = _COOKIE.sub(rf"\1{HIDDEN}", text)
    text = _SCHEME.sub(rf"\1 {HIDDEN}", text)
    text = _USERINFO.sub(rf"\1{HIDDEN}@", text)
    text = _PARAMETER.sub(_parameter, text)
    text = _QUOTED_KEY.sub(rf'\g<key>"{HIDDEN}"', text)
    text = _ASSIGNED.sub(rf"\g<key>{HIDDEN}", text)
    return _KNOWN_PREFIX.sub(HIDDEN, _JWT.sub(HIDDEN, text))


class RedactingFilter(logging.Filter):
    """Redacts message, arguments, exception and extra fields of every record.

    Belongs on handlers: a logger's filters do not see what its children log. The message is rendered here and
    the traceback becomes text, because a secret may span a format and its argument, and because what is no
    longer in the record no handler can print.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = redacted(_message(record)), ()
        if record.exc_info:
            record.exc_text = record.exc_text or _formatted(record.exc_info)
            record.exc_info = None
        if record.exc_text:
            record.exc_text = redacted(record.exc_text)
        if record.stack_info:
            record.stack_info = redacted(record.stack_info)
        for name in record.__dict__.keys() - _STANDARD:
            record.__dict__[name] = _cleaned(record.__dict__[name])
        return True


_STANDARD = frozenset(logging.LogRecord("", 0, "", 0, "", (), None).__dict__)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - a border: any __str__ may fail, and a filter must not end its caller
        # Left alone, logging would print format and arguments to stderr, unredacted.
        return f"{record.msg if isinstance(record.msg, str) else ''} (its arguments cannot be formatted)"


def _formatted(
    exc_info: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None],
) -> str:
    return "".join(traceback.format_exception(*exc_info)).rstrip("\n") if exc_info[0] else ""


def _cleaned(value: Any) -> Any:
    """``value`` with every text in it redacted; what is neither text nor container stays as it is."""
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, Mapping):
        return {key: _cleaned(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_cleaned(inner) for inner in value]
    return value


def _parameter(match: re.Match[str]) -> str:
    readable = match["name"].lower() in _READABLE
    return match[0] if readable else f"{match['name']}={HIDDEN}"
