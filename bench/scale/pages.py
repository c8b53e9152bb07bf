"""What simulated registries have in common besides the wire: lists page by page, and counts."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from urllib.parse import parse_qs, quote

from bench.scale.wire import Answer, Asked


def wanted(asked: Asked, most: int) -> tuple[str, int]:
    """(last name of the page before, how many names at most)."""
    query = parse_qs(asked.query)
    count = int(query.get("n", [str(most)])[0])
    return query.get("last", [""])[0], max(1, min(count, most))


def page(path: str, about: Mapping[str, str], key: str, names: list[str], following: int) -> Answer:
    """One page of a list; ``following``: how many names the next one has, 0 where there is none."""
    link = (
        f'Link: <{path}?n={following}&last={quote(names[-1], safe="")}>; rel="next"\r\n' if following else ""
    )
    body = json.dumps({**about, key: names}).encode()
    return Answer(200, f"Content-Type: application/json\r\n{link}", body)


def frequencies(counts: Iterable[Iterable[int]]) -> dict[str, int]:
    """How many were counted how often; a count in a byte stops at 255."""
    total: Counter[int] = Counter()
    for one in counts:
        total.update(one)
    return {str(times): total[times] for times in sorted(total)}


def digest_of_tags(tags: Iterable[tuple[str, str, bytes]]) -> str:
    """One digest for all (repository, tag, digest), in whatever order they come."""
    total = 0
    for repository, tag, digest in tags:
        total ^= int.from_bytes(hashlib.sha256(f"{repository}:{tag} ".encode() + digest).digest(), "big")
    return f"{total:064x}"
