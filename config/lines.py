"""YAML as plain values, with the line on which each key stands."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

Path = tuple[str | int, ...]
"""Keys and list positions from the top: ``("mirrors", 0, "source")``."""

_SHORTHANDS = frozenset({"include", "repository"})
"""Keys that a plain list of patterns and a plain target stand for."""

MAX_NODES = 200_000
"""Bounds what aliases can blow up to."""

_QUOTED = re.compile(r"'(?![<\\])[^']{2,}'")
"""Names that PyYAML quotes from the text: an unquoted password after ``!`` or ``*`` would be one."""
_NO_TAGS = "YAML tags (!…) are not allowed; quote the value if it is a text"
_PLAIN = frozenset(
    f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float", "timestamp", "str")
)


class YamlProblem(ValueError):
    """What keeps the text from being read; ``line`` counts from 1."""

    def __init__(self, line: int, where: Path, text: str) -> None:
        super().__init__(line, where, text)
        self.line, self.where, self.text = line, where, text


@dataclass(frozen=True, slots=True)
class Lines:
    """Line numbers, from 1, by path."""

    known: dict[Path, int] = field(default_factory=dict)

    def of(self, where: Path) -> int:
        """The line of ``where`` or, for what the text does not hold, of the nearest thing around it."""
        return self.known.get(self.nearest(where), 1)

    def nearest(self, where: Path) -> Path:
        """``where`` as the text spells it: without the keys that shorthands spare, or what is around it."""
        for end in range(len(where), 0, -1):
            short = tuple(part for part in where[:end] if part not in _SHORTHANDS)
            for candidate in (where[:end], short):
                if candidate in self.known:
                    return candidate
        return ()


def read_yaml(text: str) -> tuple[Any, Lines]:
    """Lists, dicts, None and, for every other scalar, the text as written.

    Scalars stay texts because YAML would turn the tag ``1.10`` into the number 1.1 and ``on`` into true;
    whoever knows the wanted type converts. Raises YamlProblem for malformed YAML, duplicate keys, keys that
    are no plain texts, tags (``!x``), merge keys (``<<``) and values that contain themselves.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        reason = _QUOTED.sub("'…'", str(error.problem or error.context))
        raise YamlProblem(line, (), f"not YAML: {reason}; quote the value if it is a text") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, int(error.position)) + 1
        raise YamlProblem(line, (), f"not YAML: the character U+{_code(error):04X}; remove it") from None
    except RecursionError:
        raise YamlProblem(1, (), "lists or mappings nested too deep") from None
    reader = _Reader()
    return (None if root is None else reader.value(root, ()), Lines(reader.lines))


@dataclass(slots=True)
class _Reader:
    lines: dict[Path, int] = field(default_factory=dict)
    open: set[int] = field(default_factory=set)
    nodes: int = 0

    def value(self, node: yaml.Node, where: Path) -> Any:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise YamlProblem(_line(node), where, f"more than {MAX_NODES} values; use fewer aliases")
        self.lines.setdefault(where, _line(node))
        if isinstance(node, yaml.ScalarNode):
            return _scalar(node, where)
        if id(node) in self.open:
            raise YamlProblem(_line(node), where, "contains itself by an alias; write it out")
        self.open.add(id(node))
        try:
            return self._collection(node, where)
        finally:
            self.open.discard(id(node))

    def _collection(self, node: yaml.Node, where: Path) -> Any:
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*where, place)) for place, item in enumerate(node.value)]
        if not isinstance(node, yaml.MappingNode) or node.tag != "tag:yaml.org,2002:map":
            raise YamlProblem(_line(node), where, _NO_TAGS)
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self._key(key_node, where)
            here = (*where, key)
            if key in found:
                first = self.lines[here]
                raise YamlProblem(
                    _line(key_node), here, f"the key is here twice, first on line {first}; keep one"
                )
            self.lines[here] = _line(key_node)
            found[key] = self.value(value_node, here)
        return found

    def _key(self, node: yaml.Node, where: Path) -> str:
        if not isinstance(node, yaml.ScalarNode):
            raise YamlProblem(_line(node), where, "a key must be a plain text")
        if node.tag.endswith(":merge"):
            raise YamlProblem(_line(node), where, "merge keys (<<) are not allowed; write the keys out")
        return str(node.value)


def _code(error: yaml.reader.ReaderError) -> int:
    """PyYAML gives a character, or its code."""
    return error.character if isinstance(error.character, int) else ord(error.character)


def _scalar(node: yaml.ScalarNode, where: Path) -> str | None:
    if node.tag not in _PLAIN:
        raise YamlProblem(_line(node), where, _NO_TAGS)
    return None if node.tag.endswith(":null") else str(node.value)


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
