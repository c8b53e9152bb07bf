"""What commands are given as ``NAME=VALUE``: arguments of builds, values of charts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from mirror.rewrite.charts import VERSIONS, is_put_in, split
from mirror.rewrite.moves import Moves
from mirror.rewrite.spots import Span, Split, Spot
from mirror.rewrite.words import has_host, reference_at, spot_of

_PAIR = re.compile(r"""(?P<key>[\w.\[\]-]+)=(?P<quote>["']?)(?P<value>[^,"'\s]*)""")
_OF_BUILD = re.compile(
    r"(?i)(?:\w*_)?(?:(?P<image>(?:image|img)(?:_(?:name|ref))?)|(?:base|from)(?P<more>_\w+)?)\d*"
)
"""Arguments that are an image, as their name says; where it does not say so much, a tag has to."""
BY_REGISTRY = "its command sets a registry elsewhere; change both by hand"


def built_with(text: str, words: Iterable[Span], moves: Moves) -> Iterator[Spot]:
    """Images among the arguments of a build; without a tag they may be of any: a FROM may add it."""
    for word in words:
        pair = _PAIR.match(text, word.start, word.end)
        says = _OF_BUILD.fullmatch(pair["key"]) if pair else None
        found = reference_at(text, pair.start("value")) if pair and says else None
        if not (pair and says and found and (found.has_variable or found.end == pair.end("value"))):
            continue
        is_tagged = found.has_variable or found.tag or found.digest
        has_path = "/" in found.name.text
        is_one = (has_path and says["image"]) or (is_tagged and (has_path or not says["more"]))
        if is_one and (spot := spot_of(text, found, moves, untagged=None)):
            yield spot


def set_by(text: str, words: Iterable[Span], moves: Moves) -> Iterator[Spot]:
    """Images that ``--set image.repository=…`` and its kin name; a tag that none says may be any."""
    mappings: dict[str, dict[str, Span | None]] = {}
    for word in words:
        for pair in _PAIR.finditer(text, word.start, word.end):
            mapping, _, key = pair["key"].rpartition(".")
            value = Span(pair.start("value"), pair.end("value"), pair["value"])
            is_any = key in VERSIONS and is_put_in(value.text)
            mappings.setdefault(mapping, {})[key] = None if is_any else value
    is_shared = any(_is_registry_alone(fields) for fields in mappings.values())
    for mapping, fields in mappings.items():
        name = mapping.rpartition(".")[2]
        says_so = "registry" in fields or any("image" in key.lower() for key in (name, *fields))
        for spot in split(text, fields, name, moves, None):
            is_full = isinstance(spot.writing, Split) and has_host(spot.writing.repository.text)
            if is_shared and not is_full:
                yield replace(spot, writing=None, why_not=BY_REGISTRY)
            elif says_so or is_full:
                yield spot


def _is_registry_alone(fields: Iterable[str]) -> bool:
    """As ``global.imageRegistry``, which charts put before the repositories of others."""
    keys = [key.lower() for key in fields]
    return any(key.endswith("registry") for key in keys) and not any(
        key.endswith("repository") for key in keys
    )
