"""Keeps secrets out of texts: Authorization values, tokens, URL userinfo and signed query values."""

from __future__ import annotations

import re

_RULES = (
    (re.compile(r"(?i)\b(authorization\"?\s*[:=]\s*\"?)(?:(?:basic|bearer)\s+)?[^\s\",;]+"), r"\1***"),
    (re.compile(r"(?i)\b(basic|bearer)\s+(?!realm)[A-Za-z0-9._~+/=-]{8,}"), r"\1 ***"),
    (re.compile(r"([a-z][a-z0-9+.-]*://)[^/\s@]+@", re.IGNORECASE), r"\1***@"),
    (
        re.compile(
            r"(?i)([?&\"'](?:[a-z0-9_-]*(?:token|password|passwd|secret|signature|credential|_state)"
            r"|sig|x-amz-[a-z-]+|x-goog-[a-z-]+|key-pair-id|policy|expires|se|sp|sv)[\"']?\s*[=:]\s*[\"']?)"
            r"[^&\s\"',}]+"
        ),
        r"\1***",
    ),
)


def redacted(text: str) -> str:
    """``text`` with every value that may be a secret replaced by ``***``."""
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text
