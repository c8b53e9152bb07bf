"""``hosts.toml`` of containerd, one for each registry that references name: docs/hosts.md in its repository.

Such a file is about every image of that registry, whatever its mirror is. So a registry where names are
anybody's may give content by digest, and never say what a tag is.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import tomlkit
from tomlkit.items import Table

from mirror.clients import Candidate, Choice
from workers.clients.made import (
    Made,
    Making,
    Misfit,
    about,
    comments,
    in_order,
    on_trust,
    toml_with,
    upstreams_of,
    url_of,
)

DIAL_TIMEOUT = "3s"
"""For a connection: the usual 30 s are too long to find that the next one is up."""
_SHARED = "names there may be anybody's, and this file is about all images of {host}"


def make(making: Making) -> Made:
    """Raises Misfit where no registry has the images under names that containerd asks for."""
    upstreams = _by_host(making.choice)
    fits = {one.place for up in upstreams for one in making.choice.candidates if _fits(one, up)}
    if not fits:
        wanted = upstreams[0].path
        raise Misfit(
            f"containerd asks every registry for the same repository, and no registry of "
            f"{making.choice.mirror} has one that ends with {wanted}: "
            f"use --format containers, which can rename, or mirror to HOST/{wanted}"
        )
    reasons = {
        one.place: f"containerd cannot rename: the repository would have to end with {upstreams[0].path}"
        for one in making.choice.candidates
        if one.place not in fits and not one.is_upstream
    }
    choice = making.choice.without(reasons)
    files = {f"{_folder(up.host)}/hosts.toml": _file(making, choice, up) for up in upstreams}
    texts = {name: tomlkit.dumps(document) for name, document in files.items()}
    return Made(texts, {name: document.unwrap() for name, document in files.items()}, choice)


def _by_host(choice: Choice) -> list[Candidate]:
    return list({one.host: one for one in reversed(upstreams_of(choice))}.values())[::-1]


def _folder(host: str) -> str:
    """As containerd looks for it first, on any system."""
    name, colon, port = host.rpartition(":")
    return f"{name}_{port}_" if colon else host


def _fits(one: Candidate, upstream: Candidate) -> bool:
    return one.host != upstream.host and _prefix(one, upstream) is not None


def _prefix(one: Candidate, upstream: Candidate) -> str | None:
    """What comes before the name that containerd asks for; None: it is another name."""
    if one.path == upstream.path:
        return ""
    if not upstream.path:
        return one.path
    return one.path.removesuffix(f"/{upstream.path}") if one.path.endswith(f"/{upstream.path}") else None


def _file(making: Making, choice: Choice, upstream: Candidate) -> tomlkit.TOMLDocument:
    trust = making.trust_of(upstream)
    more = [
        f"It is about every image of {upstream.host}; for what one below has not, the next one is asked.",
        f"Belongs to /etc/containerd/certs.d/{_folder(upstream.host)}/hosts.toml; nothing need be restarted.",
        "Accounts: imagePullSecrets of the pods, or containerd's own configuration; none belongs in here.",
    ]
    certificates = on_trust(making, choice, "have it at that path, or change ca below")
    document = toml_with(comments(making, choice, *more, *certificates))
    document["server"] = url_of(upstream.host, trust)
    if trust.ca_file:
        document["ca"] = trust.ca_file
    hosts = tomlkit.table(is_super_table=True)
    for one in in_order(choice, upstream):
        prefix = "" if one.place == upstream.place else _prefix(one, upstream)
        if prefix is not None and (one.place == upstream.place or one.host != upstream.host):
            base = url_of(one.host, making.trust_of(one))
            hosts.append(f"{base}/v2/{prefix}" if prefix else base, _host(making, one, upstream, prefix))
    if len(hosts):
        document["host"] = hosts
    return document


def _host(making: Making, one: Candidate, upstream: Candidate, prefix: str) -> Table:
    table = tomlkit.table()
    doubts = list(_doubts(one, upstream))
    table.add(tomlkit.comment(about(one)))
    for doubt in doubts:
        table.add(tomlkit.comment(f'No "resolve": {doubt}.'))
    values: Iterator[tuple[str, Any]] = chain(
        [("capabilities", ["pull"] if doubts else ["pull", "resolve"])],
        [("override_path", True)] if prefix else [],
        [("ca", ca)] if (ca := making.trust_of(one).ca_file) else [],
        [("dial_timeout", DIAL_TIMEOUT)],
    )
    for key, value in values:
        table.add(key, value)
    return table


def _doubts(one: Candidate, upstream: Candidate) -> Iterator[str]:
    if one.place == upstream.place:
        return
    if one.is_shared:
        yield _SHARED.format(host=upstream.host)
    if one.unresolved:
        yield one.unresolved
