"""References in YAML: by where a value stands. The parser only says where; nothing is ever dumped."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import yaml

from mirror.rewrite import charts
from mirror.rewrite.dockerfiles import Dockerfile
from mirror.rewrite.moves import Moves
from mirror.rewrite.nodes import Fields, fields_of, span_of
from mirror.rewrite.spots import BY_VARIABLES, STAYS, Span, Split, Spot
from mirror.rewrite.texts import Manner, spots_without_comments
from mirror.rewrite.words import DEFAULTED, LATEST, SCHEME, Found, reference_at, spot_of, with_defaults

_IMAGE_KEY = re.compile(r"(?:[\w.-]*[_.-])?image|\w*Image|(?:\w+_)?IMAGE")
_ALWAYS_ONE = frozenset({"image", "container"})
"""Keys whose value is a whole reference: without a tag it means ``latest``."""
_NAMED_BELOW = frozenset({"image", "services"})
"""GitLab and Bitbucket: ``image: {name: …}``, ``services: [{name: …}]``."""
_SCRIPTS = frozenset(
    {
        "run",
        "script",
        "scripts",
        "before_script",
        "after_script",
        "command",
        "commands",
        "args",
        "cmd",
        "cmds",
    }
    | {"entrypoint", "steps", "sh", "bash", "exec"}
)
_PUBLISHING = re.compile(r"docker/(?:metadata|build-push)-action\b")
_SCHEME = re.compile(SCHEME)
_BLOCKS = {"|": Manner("#", lone_names=True), ">": Manner("#", lone_names=True, is_folded=True)}
BY_ANCHOR = "its parts stand in an anchor that others use, too; change it by hand"


class NotYaml(ValueError):
    """The text is no YAML: a template of it, say."""


@dataclass
class Yaml:
    """One file while its references are being found."""

    text: str
    moves: Moves
    app_version: str | None = None
    """What a chart's empty tag stands for."""
    _spots: dict[int, Spot] = field(default_factory=dict)
    _root: yaml.Node | None = None
    _is_mirrors: bool = False
    """Whether the document is a fleet file of ours or its like: what it names stays."""
    _others: list[Spot] = field(default_factory=list)
    """Further images whose name stands in the same place, by an anchor."""
    _uses: Counter[int] = field(default_factory=Counter)
    _known: Counter[int] = field(default_factory=Counter)
    """How often a part of an image's name is used, and how often by an image that moves."""
    _done: set[int] = field(default_factory=set)
    _taken: set[int] = field(default_factory=set)
    """Where parts of references stand that begin elsewhere."""

    def spots(self) -> list[Spot]:
        """In order; NotYaml."""
        try:
            documents: list[yaml.Node] = list(yaml.compose_all(self.text, Loader=yaml.SafeLoader))
        except (yaml.YAMLError, RecursionError) as error:
            raise NotYaml(str(error)) from error
        for document in documents:
            self._is_mirrors = _is_about_mirroring(document)
            self._root = document
            self._walk(document, "", "")
        spots = [*self._spots.values(), *self._others]
        return sorted((self._shared(spot) for spot in spots), key=lambda spot: spot.start)

    def _shared(self, spot: Spot) -> Spot:
        """An anchor may be a part of what is no image, or of one that does not move."""
        if not isinstance(spot.writing, Split):
            return spot
        if any(self._uses[at] > self._known[at] for at in spot.places):
            return replace(spot, writing=None, why_not=BY_ANCHOR)
        if any(self._uses[at] > self._known[at] for at in spot.versions):
            return replace(spot, writing=replace(spot.writing, is_pinnable=False))
        return spot

    def _walk(self, node: yaml.Node, key: str, above: str) -> None:
        """``key``: whose value the node is, be it as an item of a list; ``above``: that of its mapping."""
        if isinstance(node, yaml.ScalarNode):
            self._scalar(node, key, above)
        elif id(node) in self._done:
            return  # an alias
        elif isinstance(node, yaml.SequenceNode):
            self._done.add(id(node))
            for item in node.value:
                self._walk(item, key, above)
        elif isinstance(node, yaml.MappingNode):
            self._done.add(id(node))
            self._mapping(node, key)

    def _mapping(self, node: yaml.MappingNode, key: str) -> None:
        fields = fields_of(node)
        self._split(fields, key)
        self._keep(charts.kustomized(self.text, fields, key, self.moves))
        if node is not self._root:  # there ``build`` is the name of a pipeline's job
            self._publishing(fields)
        name = fields.get("name")
        for child_key, child in node.value:
            name_of_child = str(child_key.value) if isinstance(child_key, yaml.ScalarNode) else ""
            if name_of_child in {"value", "default"} and isinstance(name, yaml.ScalarNode):
                name_of_child = str(name.value)  # {name: FOO_IMAGE, value: …}, {name: fooImage, default: …}
            if name_of_child in charts.PLACES | charts.VERSIONS and (span := span_of(self.text, child)):
                self._uses[span.start] += 1
            self._walk(child, name_of_child, key)

    def _split(self, fields: Fields, key: str) -> None:
        spans = {name: span_of(self.text, node) for name, node in fields.items()}
        for spot in charts.split(self.text, spans, key, self.moves, self.app_version):
            self._keep([spot])
            self._known.update(spot.places | spot.versions)
            if isinstance(spot.writing, Split) and spot.writing.registry:
                self._taken.add(spot.writing.registry.start)

    def _scalar(self, node: yaml.ScalarNode, key: str, above: str) -> None:
        if node.style == "|" and key == "dockerfile_inline":
            self._keep(list(self._dockerfile(node)))
            return
        if node.style in _BLOCKS:
            self._keep(self._within(node, key))
            return
        span, expected = span_of(self.text, node), _position(key, above)
        if expected is None or (found := self._whole(node, span)) is None:
            self._keep(self._within(node, key))
        elif (known := self._spots.get(found.name.start)) is None or known.is_unsure:
            tag = LATEST if expected == LATEST else None
            self._keep([spot_of(self.text, found, self.moves, untagged=tag)])

    def _whole(self, node: yaml.ScalarNode, span: Span | None) -> Found | None:
        """The reference that the value is as a whole."""
        if span is None:
            return None
        at = span.start
        if scheme := _SCHEME.match(self.text, at):
            at = scheme.end()
        end = span.end
        if variable := DEFAULTED.fullmatch(self.text, at, end):
            at, end = variable.span("default")
        found = reference_at(self.text, at)
        if found is not None and (found.has_variable or found.end == end):
            return found
        self._keep(self._unwritable(span, str(node.value)))
        return None

    def _unwritable(self, span: Span, value: str) -> Iterator[Spot]:
        """``${REGISTRY:-docker.io}/org/app``: an old place, in no one piece."""
        plain = with_defaults(value)
        found = reference_at(plain, 0) if plain != value else None
        spot = spot_of(plain, found, self.moves, untagged=None) if found else None
        if spot:
            line = self.text.count("\n", 0, span.start) + 1
            yield replace(spot, start=span.start, line=line, shown=value, writing=None, why_not=BY_VARIABLES)

    def _within(self, node: yaml.ScalarNode, key: str) -> Iterator[Spot]:
        start, end = node.start_mark.index, node.end_mark.index
        manner = _BLOCKS.get(node.style) or Manner(is_script=key in _SCRIPTS, is_folded=True)
        yield from spots_without_comments(self.text, start, end, self.moves, manner)

    def _dockerfile(self, node: yaml.ScalarNode) -> list[Spot]:
        """Of Compose: read by itself, in its place."""
        start, end = node.start_mark.index, node.end_mark.index
        first = self.text.index("\n", start)
        before = re.sub(r"[^\n]", " ", self.text[:first])
        return Dockerfile(before + self.text[first:end], self.moves).spots()

    def _publishing(self, fields: Fields) -> None:
        """What Compose builds and docker's own actions push is not used, but published."""
        uses, given, image = (fields.get(name) for name in ("uses", "with", "image"))
        if "build" in fields and isinstance(image, yaml.ScalarNode):
            self._keep(self._published(image))
        if not (isinstance(uses, yaml.ScalarNode) and isinstance(given, yaml.MappingNode)):
            return
        if _PUBLISHING.match(str(uses.value)):
            for name in ("images", "tags"):
                node = fields_of(given).get(name)
                if isinstance(node, yaml.ScalarNode):
                    self._keep(self._published(node))

    def _published(self, node: yaml.ScalarNode) -> Iterator[Spot]:
        for match in re.compile(r"[^\s,\"'|>]+").finditer(
            self.text, node.start_mark.index, node.end_mark.index
        ):
            found = reference_at(self.text, match.start())
            spot = spot_of(self.text, found, self.moves, untagged=None, role="published") if found else None
            if spot:
                yield spot

    def _keep(self, spots: Iterator[Spot] | list[Spot | None]) -> None:
        for spot in spots:
            if spot is not None and spot.start not in self._taken:
                own = replace(spot, role="mirrored") if self._is_mirrors else spot
                before = self._spots.setdefault(spot.start, own)
                if own.role in STAYS or before.is_unsure:
                    self._spots[spot.start] = own
                elif isinstance(own.writing, Split) and own.old != before.old:
                    self._others.append(own)


def _position(key: str, above: str) -> str | None:
    """``latest``: a whole reference is here; ``any``: perhaps only the name of one; None: who knows."""
    if key == "vmImage" or above == "machine":
        return None  # no container's
    if key in _ALWAYS_ONE or key == "services" or (key == "name" and above in _NAMED_BELOW):
        return LATEST
    if _IMAGE_KEY.fullmatch(key) or key in {"images", "uses"}:
        return "any"
    return None


def _is_about_mirroring(document: yaml.Node) -> bool:
    """Whether its sources are to stay what they are."""
    for name in ("mirrors", "sync"):
        entries = fields_of(document).get(name)
        if isinstance(entries, yaml.SequenceNode):
            return any(_is_mirror(fields_of(entry)) for entry in entries.value)
    return False


def _is_mirror(fields: Fields) -> bool:
    """One of two_way has no source."""
    return bool(fields.keys() & {"targets", "target"}) and bool(fields.keys() & {"source", "mode"})
