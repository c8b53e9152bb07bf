"""Other people's text, as it may be shown: one line, nothing secret, nothing that is not to be seen."""

from __future__ import annotations

from unicodedata import category

from registry.redact import redacted
from registry.reference import LAYOUT

LONGEST = 300
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Control, format (marks that turn the direction of writing), surrogate, private and separators."""


def plain(text: str, most: int = LONGEST) -> str:
    """One line of at most so many characters, redacted; what cannot be seen reads U+FFFD.

    Redacted before it is cut: half a secret is recognised by nobody.
    """
    if not text:
        return ""
    line = redacted(" ".join(text.split()))
    seen = "".join("\ufffd" if category(one) in _UNSEEN else one for one in line)
    return seen if len(seen) <= most else f"{seen[: most - 1]}…"


def place_name(repository: str) -> str:
    """``host/repository``; of a layout folder its last part, since where folders are is nobody's business."""
    if not repository.startswith(LAYOUT):
        return repository
    return f"{LAYOUT}{repository.removeprefix(LAYOUT).rstrip('/').rpartition('/')[2]}"


def host_of(repository: str) -> str:
    """Of a layout folder: empty."""
    return "" if repository.startswith(LAYOUT) else repository.partition("/")[0]
