"""What a registry says of its own accord about the pulls that are left (Docker Hub's headers).

``ratelimit-limit: 100;w=21600`` and ``ratelimit-remaining: 76;w=21600`` come with every manifest, GET or
HEAD; ``docker-ratelimit-source`` is what it counts by: an address or an account. No header: not limited.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_QUANTITY = re.compile(r"\s*(\d{1,9})\s*;\s*w\s*=\s*(\d{1,9})\s*")
_SOURCE = re.compile(r"[\x21-\x7e]{1,128}")


@dataclass(frozen=True, slots=True)
class RateLimits:
    """So many pulls in any window of so many seconds, and how many of them are left."""

    limit: int
    remaining: int
    window_s: int
    source: str = ""
    """What is counted by; empty where the registry does not say."""


def rate_limits(headers: Mapping[str, str]) -> RateLimits | None:
    """What the headers say; None where they say nothing, or nothing that can be understood.

    Numbers without a window are not read: other servers count requests by such headers, and mean a second
    or an hour by them.
    """
    left = _QUANTITY.fullmatch(headers.get("ratelimit-remaining", ""))
    if left is None or int(left[2]) == 0:
        return None
    limit = _QUANTITY.fullmatch(headers.get("ratelimit-limit", ""))
    source = headers.get("docker-ratelimit-source", "").strip()
    return RateLimits(
        limit=max(int(limit[1]) if limit else 0, int(left[1])),
        remaining=int(left[1]),
        window_s=int(left[2]),
        source=source if _SOURCE.fullmatch(source) else "",
    )
