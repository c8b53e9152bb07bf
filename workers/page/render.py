"""From a status to the page's files. Whatever it holds is somebody else's text: templates escape it all."""

from __future__ import annotations

import json
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from typing import Any
from urllib.parse import quote
from uuid import NAMESPACE_URL, uuid5

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from pydantic import TypeAdapter

from mirror.status.values import MirrorStatus, Status
from workers.cli.text import counted, duration
from workers.page import words

INDEX, DOCUMENT, SCHEMA, FEED = "index.html", "status.json", "status.schema.json", "feed.atom"
BADGES = "badges/"
TYPES = {
    "html": "text/html; charset=utf-8",
    "json": "application/json",
    "atom": "application/atom+xml; charset=utf-8",
    "svg": "image/svg+xml",
}
"""By the end of a file's name."""
_CHARACTER_WIDTH, _PADDING = 6.6, 10
"""Of a badge's text, which is stretched to what this makes."""


def schema() -> str:
    """The JSON Schema of ``status.json``."""
    document = TypeAdapter(Status).json_schema(mode="serialization")
    document["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    document["required"] = sorted(document["properties"])
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def policy() -> str:
    """The page's Content-Security-Policy: its own style sheet, known by its hash, and nothing else."""
    return f"default-src 'none'; style-src 'sha256-{_style_hash()}'; base-uri 'none'; form-action 'none'"


def file_of_badge(name: str) -> str:
    return f"{BADGES}{quote(name, safe='')}.svg"


def files(status: Status, url: str | None = None) -> Iterator[tuple[str, bytes]]:
    """Every file by its name, the page itself last: what it links to is there before it.

    ``url``: where the page is published; the feed links there.
    """
    for mirror in status.mirrors:
        yield file_of_badge(mirror.name), badge(mirror).encode()
    yield SCHEMA, schema().encode()
    yield DOCUMENT, json.dumps(status.document(), ensure_ascii=True, separators=(",", ":")).encode() + b"\n"
    yield FEED, feed(status, url).encode()
    yield INDEX, page(status).encode()


def page(status: Status) -> str:
    """HTML without scripts; mirrors with something to see come first."""
    states = Counter(mirror.state for mirror in status.mirrors)
    return _rendered(
        "page.html",
        status=status,
        mirrors=sorted(status.mirrors, key=lambda one: words.STATES.index(one.state)),
        policy=policy(),
        style=Markup(_style()),  # noqa: S704 -- ours, from a file of the package
        counts=[(state, states[state]) for state in words.STATES if states[state]],
        registries={one.host: one for one in status.registries},
        mirror_anchors=words.anchors("m", (one.name for one in status.mirrors)),
        registry_anchors=words.anchors("r", (one.host for one in status.registries)),
    )


def badge(mirror: MirrorStatus) -> str:
    """SVG: the mirror's name and in a word how it stands."""
    name = mirror.name if len(mirror.name) <= 40 else f"{mirror.name[:39]}…"
    left, right = (round(len(text) * _CHARACTER_WIDTH) for text in (name, mirror.state))
    return _rendered(
        "badge.svg",
        name=name,
        state=mirror.state,
        kind=mirror.state.replace(" ", "-"),
        left=left,
        right=right,
        pad=_PADDING,
    )


def feed(status: Status, url: str | None) -> str:
    """Atom, RFC 4287: incidents, each under an id that stays."""
    updated = max((one.at for one in status.incidents), default=status.made)
    entries = [(one, uuid5(NAMESPACE_URL, f"sealift:{one.id}").urn) for one in status.incidents]
    identity = uuid5(NAMESPACE_URL, url or f"sealift:{status.title}").urn
    return _rendered("feed.atom", status=status, url=url, updated=updated, entries=entries, identity=identity)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("workers.page"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        finalize=_finalized,
    )
    environment.filters |= {
        name: getattr(words, name)
        for name in (
            "iso",
            "minute",
            "percent",
            "short",
            "speed",
            "latency",
            "strip",
            "progress",
            "reach",
            "images",
            "checked",
            "verified",
        )
    }
    environment.filters |= {"duration": duration, "counted": counted, "place_label": words.place_label}
    environment.globals |= {"symbols": words.SYMBOLS, "limit": words.limit}
    return environment


def _finalized(value: Any) -> Any:
    if value is None:
        return ""
    return words.fit(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _rendered(template: str, /, **values: Any) -> str:
    return _environment().get_template(f"{template}.j2").render(values)


@cache
def _style() -> str:
    source, _, _ = _environment().loader.get_source(_environment(), "style.css")  # type: ignore[union-attr]  # set above
    return source.strip()


@cache
def _style_hash() -> str:
    return b64encode(sha256(_style().encode()).digest()).decode()
