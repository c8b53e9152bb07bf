"""Which files are looked at, and how each kind of them is read."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePath

from mirror.rewrite.dockerfiles import Dockerfile
from mirror.rewrite.moves import Moves
from mirror.rewrite.spots import Spot
from mirror.rewrite.texts import Manner, spots_in_fences, spots_in_text
from mirror.rewrite.yamls import NotYaml, Yaml

MAX_BYTES = 8 * 2**20
"""A file that is larger was not written by people."""
SKIPPED_FOLDERS = frozenset(
    {".git", ".hg", ".svn", "node_modules", ".venv", "venv", "__pycache__", ".terraform", ".tox", ".cache"}
)
_DOCKERFILE = re.compile(r"(?i)(?:Docker|Container)file(?:[.-].*)?|.*\.(?:docker|container)file")
_YAML = frozenset({".yaml", ".yml"})
_LISTS = frozenset({".txt", ".list", ".lst"})
_MARKDOWN = frozenset({".md", ".markdown"})
_WITH_SLASHES = frozenset({".json", ".jsonc", ".json5", ".groovy"})
_TEMPLATES = frozenset({".tpl", ".gotmpl", ".tmpl", ".j2", ".jinja"})
_WITH_HASHES = frozenset(
    {
        ".sh",
        ".bash",
        ".zsh",
        ".ps1",
        ".mk",
        ".env",
        ".hcl",
        ".tf",
        ".tfvars",
        ".nomad",
        ".toml",
        ".ini",
        ".cfg",
    }
    | {".conf", ".properties", ".service", ".container"}
)
_NAMED = frozenset({"makefile", "gnumakefile", "justfile", "vagrantfile", "procfile", ".env", "tiltfile"})


def is_looked_at(path: PurePath) -> bool:
    """Whether a file of a folder is of a kind that refers to images; one named by itself always is."""
    name, suffix = path.name.lower(), path.suffix.lower()
    known = _YAML | _LISTS | _MARKDOWN | _WITH_SLASHES | _TEMPLATES | _WITH_HASHES
    is_named = name in _NAMED or name.startswith((".env.", "jenkinsfile"))
    return suffix in known or is_named or _DOCKERFILE.fullmatch(path.name) is not None


def files_in(path: Path) -> Iterator[Path]:
    """A file itself, or those of a folder that are looked at, in order; links are not followed there."""
    if not path.is_dir():
        yield path
        return
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(set(folders) - SKIPPED_FOLDERS)
        for name in sorted(names):
            file = Path(folder, name)
            if is_looked_at(file) and file.is_file() and not file.is_symlink():
                yield file


def is_text(content: bytes) -> bool:
    return len(content) <= MAX_BYTES and b"\0" not in content


def spots_in(path: Path, text: str, moves: Moves) -> list[Spot]:
    """Every reference of the file to an image at an old place, in order."""
    return spots_as(path.name, text, moves, app_version_beside(path))


def spots_as(name: str, text: str, moves: Moves, app_version: str | None = None) -> list[Spot]:
    """As spots_in, of what a file of this name holds; ``app_version``: what a chart's empty tag means."""
    needles = moves.needles
    if needles is not None and not any(needle in text for needle in needles):
        return []
    suffix = PurePath(name).suffix.lower()
    if _DOCKERFILE.fullmatch(name):
        return Dockerfile(text, moves).spots()
    if suffix in _YAML:
        try:
            return Yaml(text, moves, app_version).spots()
        except NotYaml:
            suffix = ".tpl"
    if suffix in _MARKDOWN:
        return list(spots_in_fences(text, moves))
    return list(spots_in_text(text, moves, _manner(name.lower(), suffix)))


def app_version_beside(path: Path) -> str | None:
    """What an empty tag in a chart's values stands for."""
    chart = path.with_name("Chart.yaml")
    if not path.name.startswith("values") or not chart.is_file():
        return None
    found = re.search(
        r"""^appVersion:[ \t]*["']?([\w.-]+)""", chart.read_text(errors="replace"), re.MULTILINE
    )
    return found[1] if found else None


def _manner(name: str, suffix: str) -> Manner:
    if suffix in _LISTS:
        return Manner("#", is_list=True, names_alone="image" in name)
    if suffix in _WITH_SLASHES and "bake" in name:
        return Manner("//", is_bake=True)
    if suffix in _WITH_SLASHES or name.startswith("jenkinsfile"):
        return Manner("//")
    if suffix == ".hcl" or "bake" in name:
        return Manner("#", is_bake=True)
    return Manner("#", lone_names=suffix in _TEMPLATES)
