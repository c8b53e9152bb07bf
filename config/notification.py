"""The fleet file's ``notify``: who is told of what happens, and of what."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PositiveInt

from config.checks import MIRROR_NAME, check_receiver, matching

EventName = Literal[
    "failed",
    "recovered",
    "split",
    "conflict",
    "registry_down",
    "registry_back",
    "budget",
    "backfill_done",
    "damage",
    "repaired",
    "no_workers",
]


class Receiver(BaseModel):
    """One place that messages are sent to."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: Annotated[
        str,
        AfterValidator(matching(MIRROR_NAME, "small letters, digits, '.', '_' and '-', at most 100")),
        Field(json_schema_extra={"pattern": f"^{MIRROR_NAME}$"}),
    ] = Field(description="Names the receiver in commands, logs and metrics; once in the file.")
    to: Annotated[str, AfterValidator(check_receiver)] = Field(
        description="Its address, a URL as Apprise knows them: env:NAME or file:PATH. Only json://, form:// "
        "and xml:// addresses without account, path and query may stand here themselves."
    )
    on: tuple[EventName, ...] = Field(default=(), description="What it is told of; empty: everything.")
    mirrors: tuple[str, ...] = Field(
        default=("*",),
        description="Globs, one of which the mirror must match; what is of no mirror is told in any case.",
    )
    per_hour: PositiveInt = Field(
        default=10, le=1000, description="Most messages in an hour; what comes then is told later, as one."
    )
