"""The fleet file's ``webhooks``: who may tell that a tag was pushed, and how each proves who it is."""

from __future__ import annotations

import base64
import re
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
IN_ADDRESS: frozenset[WebhookKind] = frozenset({"dockerhub", "quay"})
"""Senders that can be given nothing but an address: the secret is its last part."""
SIGNING_TOKEN = "whsec_"  # noqa: S105 - what one begins with
"""Of GitLab: base64 of a key follows, with which deliveries are signed (Standard Webhooks)."""
_AS_IT_IS_IN_AN_ADDRESS = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@-]+")
"""RFC 3986, 3.3 ("pchar") without what is encoded: senders differ in whether they do that."""
_AS_IT_IS_IN_A_HEADER = re.compile(r"[!-~](?:[ -~]*[!-~])?")
"""RFC 9110, 5.5: blanks around a value are none of it, and beyond ASCII nothing is sure."""


def secret_fault(kind: WebhookKind, secret: str) -> str:
    """Why no sender of that kind could prove to know the secret, and what to do; empty: it can."""
    if len(secret) < LEAST_SECRET:
        return f"the secret there is shorter than {LEAST_SECRET} characters; take a longer one"
    if kind in IN_ADDRESS and not _AS_IT_IS_IN_AN_ADDRESS.fullmatch(secret):
        return "the secret there cannot end an address as it is; take one of letters, digits, '-' and '_'"
    if kind == "gitlab" and secret.startswith(SIGNING_TOKEN):
        try:
            signing_key(secret)
        except ValueError:
            return f"what follows {SIGNING_TOKEN} there is not base64; copy the signing token again"
        return ""
    if kind in {"distribution", "gitlab", "harbor"} and not _AS_IT_IS_IN_A_HEADER.fullmatch(secret):
        return "the secret there cannot be a header as it is; take one of ASCII characters without blanks"
    return ""


def signing_key(token: str) -> bytes:
    """What a signing token stands for. Raises ValueError if it is none."""
    return base64.b64decode(token.removeprefix(SIGNING_TOKEN), validate=True)


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
