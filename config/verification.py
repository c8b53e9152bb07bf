"""The fleet file's ``verify``: how and when a mirror is verified."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, PositiveInt

from config.cron import check_cron
from config.entries import Entry, Size


class VerifyRules(Entry):
    """How a mirror is verified, by its schedule and where the command line says nothing else."""

    schedule: Annotated[str, AfterValidator(check_cron)] | None = Field(
        default=None,
        description="When beat verifies it: five cron fields, in UTC; unset: only when asked. "
        "These runs are in the backfill lane.",
    )
    deep: bool = Field(default=False, description="Whether bytes are read and hashed too.")
    sample: PositiveInt | None = Field(
        default=None, description="Only so many tags of each repository, others each time; unset: all."
    )
    bytes: Size | None = Field(
        default=None,
        description="With deep: most bytes that one run reads; the next ones go on from there. Unset: all.",
    )
    rate: Size | None = Field(
        default=None, description="With deep: most bytes that the whole fleet reads in a second."
    )
    repair: bool = Field(default=False, description="Whether what is found to be wrong is repaired at once.")
