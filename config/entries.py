"""What the entries of the fleet file have in common: unknown keys are refused, values stay as they are."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from config.checks import SIZE, SPAN, matching

Span = Annotated[
    str,
    AfterValidator(matching(SPAN, "a number and its unit: 90s, 15m, 1h or 2d")),
    Field(json_schema_extra={"pattern": f"^{SPAN}$"}),
]
Size = Annotated[
    str,
    AfterValidator(matching(SIZE, "a number and its unit: 500MB, 20GB or 64MiB")),
    Field(json_schema_extra={"pattern": f"^{SIZE}$"}),
]


class Entry(BaseModel):
    """An entry of the fleet file."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
