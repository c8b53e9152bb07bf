"""Images in commands of docker and its kin, wherever these stand: scripts, makefiles, pipelines' ``run``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from mirror.rewrite.spots import Role
from mirror.rewrite.words import LATEST, Found, reference_at

_TOOLS = re.compile(
    r"(?<![\w./-])(?:/usr/bin/)?(?:docker|podman|nerdctl|buildah|kubectl|oc|crictl|ctr|kind|minikube|skopeo|crane"
    r"|regctl|oras|cosign|trivy|grype|syft|apptainer|singularity)(?![\w./:-])"
)
_COPIERS = frozenset({"skopeo", "crane", "regctl", "oras", "cosign"})
_BY_OPTION = frozenset({"kubectl", "oc"})
"""Their words may be ``deploy/app``: an image stands behind ``--image=`` or ``app=``."""
_COPYING = frozenset({"copy", "cp", "sync"})
_WORD = re.compile(r"[^\s\"'`\\()<>]+")
_BETWEEN = re.compile(r"&&|\|\|?|;|\$\(|(?<![\\`])\n")
"""What ends a command; a line that goes on ends in a backslash (or, on Windows, a backtick)."""
_VALUED = frozenset(
    {"-u", "--user", "-p", "--publish", "-v", "--volume", "--name", "-e", "--env", "-w", "--workdir", "-h"}
    | {"--hostname", "--network", "--net", "--entrypoint", "-l", "--label", "-f", "--file", "--target"}
)
_HOST_AND_PORT = re.compile(r"[\w-]+(?:\.[\w-]+)+:\d+")
_AS_TAG = ("-t", "--tag")
_PREFIX = re.compile(r"(?:[\w.-]+=)*(?:(?:docker|docker-image|oci)://)?")
"""What may stand before a reference in its word, as in ``--image=`` and ``app=``."""


@dataclass(frozen=True, slots=True)
class Named:
    """An image that a command names."""

    found: Found
    role: Role


def images_in_commands(text: str, start: int, end: int) -> Iterator[Named]:
    """Every word between ``start`` and ``end`` that is an image to a command there."""
    at = start
    for mark in (*_BETWEEN.finditer(text, start, end), None):
        until = mark.start() if mark else end
        tool = _TOOLS.search(text, at, until)
        if tool:
            yield from _images(text, tool.end(), until, tool[0].rpartition("/")[2])
        at = mark.end() if mark else end


def untagged(found: Found) -> str | None:
    """To a command no tag means one; a name alone may be anything."""
    return None if found.has_variable else LATEST


def _images(text: str, start: int, end: int, tool: str) -> Iterator[Named]:
    words = list(_WORD.finditer(text, start, end))
    said = {word[0] for word in words}
    copies = tool in _COPIERS and bool(said & _COPYING)
    named: list[Named] = []
    by_option = tool in _BY_OPTION
    before = ""
    for word in words:
        role: Role = "published" if copies or "push" in said or before in _AS_TAG else "used"
        is_option = "=" in word[0] or before == "--image"
        if before not in _VALUED and (is_option or not by_option) and (found := _image(text, word)):
            named.append(Named(found, role))
        before = word[0]
    if "tag" in said and len(named) > 1:  # docker tag OLD NEW
        named[-1] = Named(named[-1].found, "published")
    yield from named


def _image(text: str, word: re.Match[str]) -> Found | None:
    prefix = _PREFIX.match(text, word.start(), word.end())
    at = prefix.end() if prefix else word.start()
    found = reference_at(text, at)
    if found is None or (found.end < word.end() and not found.has_variable):
        return None
    name = found.name.text
    is_known = found.tag or found.digest or found.has_variable
    says_so = "/" in name or (is_known and not name.isdigit() and not _HOST_AND_PORT.fullmatch(word[0]))
    return found if says_so else None
