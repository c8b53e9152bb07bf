"""The fleet file's ``probe``: how often each region measures how it reaches the registries."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, PositiveInt

from config.checks import bytes_of, seconds_of
from config.entries import Entry, Size, Span

LEAST_S, MOST_BYTES = 10, 256 * 2**20


def _not_too_often(span: str) -> str:
    if seconds_of(span) < LEAST_S:
        raise ValueError(f"is more often than every {LEAST_S}s; write {LEAST_S}s or more")
    return span


def _not_too_much(size: str) -> str:
    if bytes_of(size) > MOST_BYTES:
        raise ValueError("is more than a probe should cost; write 256MiB or less")
    return size


class ProbeRules(Entry):
    """Probes of all registries of all mirrors."""

    every: Annotated[Span, AfterValidator(_not_too_often)] | None = Field(
        default=None, description="How often beat has each region probe them; unset: only when asked."
    )
    bytes: Annotated[Size, AfterValidator(_not_too_much)] = Field(
        default="4MiB", description="How much of a layer is read to measure speed."
    )
    failures: PositiveInt = Field(
        default=2, le=100, description="How many failed probes in a row are an outage."
    )
