"""Nodes of parsed YAML, and where in the text they stand."""

from __future__ import annotations

import yaml

from mirror.rewrite.spots import Span

Fields = dict[str, yaml.Node]
_MAX_MERGED = 8
"""Mappings that are merged into one another; nobody writes more."""


def fields_of(node: yaml.Node) -> Fields:
    """A mapping's values by their keys, merged ones (``<<``) included; nothing of another node."""
    return _fields_of(node, _MAX_MERGED)


def _fields_of(node: yaml.Node | None, depth: int) -> Fields:
    if not isinstance(node, yaml.MappingNode) or not depth:
        return {}
    own = {str(key.value): value for key, value in node.value if isinstance(key, yaml.ScalarNode)}
    merged = own.pop("<<", None)
    found: Fields = {}
    for one in reversed(merged.value if isinstance(merged, yaml.SequenceNode) else [merged]):
        found |= _fields_of(one, depth - 1)
    return found | own


def span_of(text: str, node: yaml.Node | None) -> Span | None:
    """What a plain or quoted value says, without quotes and anchor; None where it says it in other letters.

    None, too, for a value that is empty and has no quotes: nothing stands there.
    """
    if not isinstance(node, yaml.ScalarNode) or node.style in {"|", ">"}:
        return None
    value, quote = str(node.value), 1 if node.style else 0
    end = node.end_mark.index - quote
    start = end - len(value)
    if text[start:end] != value or start < node.start_mark.index or not (value or quote):
        return None
    return Span(start, end, value)
