"""JSON of the ledger that a newer version has written: processes of two versions work side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def own_fields(kind: type[DataclassInstance], document: Mapping[str, Any]) -> dict[str, Any]:
    """What this version knows of it: what it could not say is no reason to read nothing."""
    names = _names(kind)
    return {name: value for name, value in document.items() if name in names}


@cache
def _names(kind: type[DataclassInstance]) -> frozenset[str]:
    return frozenset(one.name for one in fields(kind))
