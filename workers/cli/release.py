"""Which version this is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def release() -> str:
    """The installed version."""
    try:
        return version("sealift")
    except PackageNotFoundError:
        return "unknown"
