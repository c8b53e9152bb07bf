"""What a Kustomize file reaches: it finds images by name, in its bases and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import yaml

from mirror.rewrite.nodes import fields_of

NAMES = ("kustomization.yaml", "kustomization.yml", "Kustomization")
_BASES = ("resources", "bases", "components")


@dataclass
class Reach:
    """Files that a kustomization is applied to."""

    files: set[Path] = field(default_factory=set)
    is_whole: bool = True
    """Whether all of it is here; a base may be in a repository elsewhere."""


def reach(kustomization: Path) -> Reach:
    """Follow its bases, and theirs."""
    found = Reach()
    _follow(kustomization.resolve(), found)
    return found


def _follow(kustomization: Path, found: Reach) -> None:
    if kustomization in found.files:
        return
    found.files.add(kustomization)
    for base in _bases(kustomization):
        path = (kustomization.parent / base).resolve()
        if path.is_dir():
            inner = [path / name for name in NAMES if (path / name).is_file()]
            found.is_whole = found.is_whole and bool(inner)
            for one in inner:
                _follow(one, found)
        elif path.is_file():
            found.files.add(path)
        else:
            found.is_whole = False


def _bases(kustomization: Path) -> list[str]:
    try:
        text = kustomization.read_text(errors="replace")
        document: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError:
        return []
    fields = fields_of(document) if document else {}
    lists = (fields.get(name) for name in _BASES)
    return [str(item.value) for one in lists if isinstance(one, yaml.SequenceNode) for item in one.value]
