"""The fleet file's ``webhooks``: who may tell that a tag was pushed, and how each proves who it is."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from config.checks import MIRROR_NAME, check_secret, matching

WebhookKind = Literal["distribution", "dockerhub", "github", "gitlab", "harbor", "quay"]
USUAL_REGISTRIES: dict[WebhookKind, str] = {
    "dockerhub": "docker.io",
    "github": "ghcr.io",
    "quay": "quay.io",
}
"""The registry that a kind of sender speaks of, unless said."""
LEAST_SECRET = 16
"""Characters. Shorter ones are guessed: an attacker may try as often as the network lets him."""


class Webhook(BaseModel):
    """One sender of webhooks, at ``/hooks/NAME``."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: Annotated[
        str,
        AfterValidator(matching(MIRROR_NAME, "small letters, digits, '.', '_' and '-', at most 100")),
        Field(json_schema_extra={"pattern": f"^{MIRROR_NAME}$"}),
    ] = Field(description="The last part of its address, /hooks/NAME; once in the file.")
    kind: WebhookKind = Field(description="Who sends it, which says how it is read and authenticated.")
    secret: Annotated[str, AfterValidator(check_secret)] = Field(
        description="What the sender proves to know, at least 16 characters: env:NAME or file:PATH, "
        "never the secret itself."
    )
    registry: str | None = Field(
        default=None,
        description="The registry it speaks of, as references name it. Unset: docker.io, ghcr.io or quay.io "
        "by its kind; the other kinds need it.",
    )

    @model_validator(mode="after")
    def _has_registry(self) -> Self:
        if self.registry is None and self.kind not in USUAL_REGISTRIES:
            raise ValueError(f"a {self.kind} webhook needs registry: the host as references name it")
        return self

    @property
    def host(self) -> str:
        """The registry as references name it."""
        return self.registry or USUAL_REGISTRIES[self.kind]
