"""What is common to all formats: what they are made from, and what is made."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import tomlkit
import yaml

from mirror.clients import Candidate, Choice
from registry.reference import DOCKER_HUB


class Misfit(ValueError):
    """The format has no way to say it; the text says what to do instead."""


@dataclass(frozen=True, slots=True)
class Trust:
    """How clients reach one registry, as far as they have to be told."""

    is_plain: bool = False
    """HTTP without TLS."""
    ca_file: str | None = None
    """Where the fleet file says the authority's certificate is."""
    has_account: bool = False
    """Sealift logs in there; clients may have to."""
    wants_certificate: bool = False
    """Sealift shows a client certificate there."""


@dataclass(frozen=True, slots=True)
class Making:
    """What a file is made from."""

    choice: Choice
    trust: Mapping[str, Trust]
    """By host."""
    tag: str
    """One that the mirror has, for formats that name an image."""
    header: tuple[str, ...]
    """The first lines of each file: of what it is, from when, how it is made again."""

    def trust_of(self, one: Candidate) -> Trust:
        return self.trust.get(one.host, Trust())


@dataclass(frozen=True, slots=True)
class Made:
    """Files by their path below the folder that the format is read from; the main one first."""

    texts: Mapping[str, str]
    values: Any
    """The same as JSON values."""
    choice: Choice
    """With what the format cannot say left out."""
    notes: tuple[str, ...] = field(default=())
    """What belongs beside a format without comments."""


def comments(making: Making, choice: Choice, *more: str) -> list[str]:
    """What the file begins with, without the sign for comments."""
    left_out = [f"Left out: {one.place}: {one.left_out}" for one in choice.left_out if not one.is_upstream]
    left_out += [
        f"Asked last all the same: {one.place}: {one.left_out}" for one in choice.left_out if one.is_upstream
    ]
    return [
        "".join(c if c.isprintable() else " " for c in line) for line in (*making.header, *more, *left_out)
    ]


def upstreams_of(choice: Choice) -> tuple[Candidate, ...]:
    """The registries that references name. Raises Misfit where none does: the source is a folder."""
    if not choice.upstreams:
        raise Misfit(
            f"the source of {choice.mirror} is a folder, which no reference names: "
            "--format github or kubernetes name a target itself"
        )
    return choice.upstreams


def by_tag(choice: Choice) -> Choice:
    """For formats that pull a tag from one registry by its name: those that may say what a tag is.

    The rest where nobody may, as in a two-way mirror that waits for somebody to decide. Raises Misfit where
    there is none at all.
    """
    doubtful = {one.place: f"not for tags: {one.unresolved}" for one in choice.candidates if one.unresolved}
    found = choice.without(doubtful)
    if not found.chosen and all(one.place in doubtful for one in choice.upstreams):
        found = choice
    if not (found.chosen or found.upstreams):
        reasons = "; ".join(f"{one.place}: {one.left_out}" for one in choice.left_out)
        raise Misfit(f"no registry of {choice.mirror} can be pulled from: {reasons or 'all are folders'}")
    return found


def on_trust(making: Making, choice: Choice, ca_place: str) -> Iterator[str]:
    """What the machines need beside the file; ``ca_place``: where they look for authorities."""
    for one in choice.chosen:
        trust = making.trust_of(one)
        if trust.ca_file:
            yield f"{one.host} has an authority of its own ({trust.ca_file} in the fleet file): {ca_place}"
        if trust.wants_certificate:
            yield f"{one.host} wants a client certificate; it is no part of this file"


def url_of(host: str, trust: Trust) -> str:
    """Where the registry's API is."""
    name = "registry-1.docker.io" if host == DOCKER_HUB else host
    return f"{'http' if trust.is_plain else 'https'}://{name}"


def about(one: Candidate) -> str:
    """A comment on its place in the order."""
    doubt = f"; not for tags: {one.unresolved}" if one.unresolved else ""
    return f"{one.place}: {one.why}{doubt}"


def in_order(choice: Choice, upstream: Candidate) -> Sequence[Candidate]:
    """Those to be tried before what references name; that one itself where others are behind it."""
    chosen = list(choice.chosen)
    return chosen[:-1] if chosen and chosen[-1].place == upstream.place else chosen


def toml_with(lines: Sequence[str]) -> tomlkit.TOMLDocument:
    document = tomlkit.document()
    for line in lines:
        document.add(tomlkit.comment(line))
    document.add(tomlkit.nl())
    return document


def yaml_with(lines: Sequence[str], values: object) -> str:
    head = "".join(f"# {line}\n" for line in lines)
    body = yaml.dump(values, Dumper=_Dumper, sort_keys=False, width=1000, allow_unicode=True)
    return f"{head}{body}"


def label_of(mirror: str) -> str:
    """The mirror's name as Kubernetes and GitHub take names: small letters, digits and dashes."""
    label = re.sub(r"[^a-z0-9]+", "-", mirror.lower()).strip("-")[:50].rstrip("-")
    return label if label[:1].isalpha() else f"image-{label}".rstrip("-")


class _Dumper(yaml.SafeDumper):
    """Texts of several lines stay so."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: FBT001, FBT002, ARG002 -- PyYAML's protocol
        super().increase_indent(flow, indentless=False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)
