"""The fleet file's ``registries``: who we are at each, and on what terms it is asked."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    model_validator,
)

from config.checks import check_proxy, check_secret, check_username


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Account(_Model):
    """One of several accounts at one registry."""

    username: Annotated[str, AfterValidator(check_username)] = Field(
        description="The account: a text, env:NAME or file:PATH."
    )
    password: Annotated[str, AfterValidator(check_secret)] = Field(
        description="Its password or token: env:NAME or file:PATH, never the secret itself."
    )


class RegistryConfig(_Model):
    """One registry: who we are there, and how it is reached."""

    username: Annotated[str, AfterValidator(check_username)] | None = Field(
        default=None, description="The account: a text, env:NAME or file:PATH."
    )
    password: Annotated[str, AfterValidator(check_secret)] | None = Field(
        default=None,
        description="Its password or token: env:NAME or file:PATH, never the secret itself. Unset: docker's "
        "config.json and credential helpers are read.",
    )
    accounts: tuple[Account, ...] = Field(
        default=(),
        description="Instead of username and password: several, each with both, that share the reading.",
    )
    plain_http: bool | None = Field(
        default=None, description="HTTP without TLS; unset: only for loopback hosts, as docker does."
    )
    ca_file: str | None = Field(
        default=None, description="PEM file of the authorities to trust, beside the system's."
    )
    client_cert: str | None = Field(default=None, description="PEM file of a client certificate.")
    client_key: str | None = Field(default=None, description="PEM file of its key.")
    proxy: Annotated[str, AfterValidator(check_proxy)] | None = Field(
        default=None,
        description="http:// or https:// proxy, or env:NAME; a proxy with a password only as env:NAME.",
    )
    token_hosts: tuple[str, ...] = Field(
        default=(), description="Hosts of other sites that may issue this registry's tokens."
    )
    upload_hosts: tuple[str, ...] = Field(
        default=(), description="Other hosts that upload and download locations may name."
    )
    max_concurrency: PositiveInt = Field(default=16, le=1000, description="Requests at a time, per process.")
    requests_per_minute: PositiveInt | None = Field(
        default=None, description="Most requests of the whole fleet in a minute; unset: no limit of our own."
    )
    reserve_percent: NonNegativeInt = Field(
        default=10,
        le=90,
        description="Of the pulls that the registry says it allows: what only the release lane may use.",
    )

    listing: Literal["catalog", "dockerhub", "quay", "gitlab", "harbor"] | None = Field(
        default=None,
        description="How its repositories are listed for a wildcard; unset: as Docker Hub, quay.io and "
        "gitlab.com are known to, others by their catalog.",
    )
    listing_host: str | None = Field(
        default=None, description="Where the API for that is; unset: at the registry's own host."
    )
    listing_token: Annotated[str, AfterValidator(check_secret)] | None = Field(
        default=None, description="What that API wants to be shown: env:NAME or file:PATH."
    )

    @model_validator(mode="after")
    def _pairs(self) -> Self:
        for one, other in (("username", "password"), ("client_cert", "client_key")):
            if (getattr(self, one) is None) != (getattr(self, other) is None):
                given, lacking = (one, other) if getattr(self, one) is not None else (other, one)
                raise ValueError(f"{given} without {lacking}; give both or neither")
        if self.accounts and self.username is not None:
            raise ValueError("accounts beside username; put that one into accounts too")
        if len({account.username for account in self.accounts}) < len(self.accounts):
            raise ValueError("accounts with the same username; keep one of them")
        return self
