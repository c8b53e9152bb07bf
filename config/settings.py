"""Every ``SEALIFT_*`` environment variable, once: described, bounded, its unit in its name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from platformdirs import user_state_path
from pydantic import (
    AfterValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SecretStr,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from config.redis_url import parse_redis_url


def _is_redis_url(value: SecretStr) -> SecretStr:
    parse_redis_url(value.get_secret_value())
    return value


class Settings(BaseSettings):
    """What a process is told by its environment; the fleet file says what to mirror."""

    # A value that is refused may hold a password, and processes end with pydantic's text.
    model_config = SettingsConfigDict(
        env_prefix="SEALIFT_", frozen=True, extra="ignore", hide_input_in_errors=True
    )

    redis_url: Annotated[SecretStr, AfterValidator(_is_redis_url)] | None = Field(
        default=None,
        description="Broker, results and ledger: redis://, rediss://, redis+socket:// or sentinel://. "
        "Unset: the fleet file's redis_url, else an embedded server for the command's duration.",
    )
    fleet_file: Path = Field(
        default=Path("sealift.yaml"), description="The fleet file: registries and mirrors."
    )
    state_dir: Path = Field(
        default_factory=lambda: user_state_path("sealift"),
        description="Where the embedded fleet keeps its data.",
    )
    heartbeat_file: Path | None = Field(
        default=None,
        description="The file that a worker or beat renews while it is well; probes look at its age.",
    )
    redis_prefix: str = Field(
        default="sealift:",
        description="Before every key and queue of this fleet, so that fleets can share a server.",
    )
    transport: Literal["direct", "httpx"] = Field(
        default="direct", description="How bulk data moves: Sealift's own transport, or httpx's stock one."
    )
    batch_tags: PositiveInt = Field(
        default=32,
        le=500,
        description="Tags of one repository that travel together at most; fewer where a short list is spread "
        "over several workers.",
    )
    window_batches: PositiveInt = Field(default=16, description="Batches of one run in flight at most.")
    copy_threads: PositiveInt = Field(
        default=6,
        le=64,
        description="Blobs that one task copies at a time; raise it where round trips are long.",
    )
    haul_mib: PositiveInt = Field(
        default=256, description="A blob above this size travels as a task of its own."
    )
    tee_kib: PositiveInt = Field(
        default=1024,
        description="A blob above this size is sent to several targets while it is read; "
        "a smaller one, up to 1 MiB, is read into memory for all of them.",
    )
    attempts: PositiveInt = Field(default=5, description="Attempts at one exchange before its tag fails.")
    retry_budget_s: PositiveFloat = Field(
        default=60.0, description="Longest that one exchange is tried again."
    )
    outage_s: NonNegativeFloat = Field(
        default=600.0,
        description="How long a registry's outage is waited out before its tags fail; 0: not at all. "
        "A Retry-After is waited for however long it is.",
    )
    proof_s: PositiveFloat = Field(
        default=300.0,
        description="How old the proof that a target holds a tag's content may be when the tag moves.",
    )
    confirm_replicas: NonNegativeInt | None = Field(
        default=None,
        description="Redis replicas that must have written down what tags were before they move; "
        "unset: 1 with Sentinels, else 0.",
    )
    history_flips: NonNegativeInt = Field(
        default=10,
        le=1000,
        description="Moves of each tag that are remembered, for `history` and `rollback`; 0: none.",
    )
    connect_timeout_s: PositiveFloat = Field(default=10.0, description="Longest wait for a connection.")
    read_timeout_s: PositiveFloat = Field(default=60.0, description="Longest silence while reading.")
    commit_timeout_s: PositiveFloat = Field(
        default=300.0, description="Longest wait for a registry to accept an upload after its last byte."
    )
    present_ttl_s: PositiveInt = Field(
        default=300,
        description="How long a blob seen in a repository counts as being there without another look.",
    )
    mount_ttl_s: PositiveInt = Field(
        default=86400, description="How long a repository is remembered as a place to mount a blob from."
    )
    visibility_timeout_s: PositiveInt = Field(
        default=3600,
        description="When Redis gives a silent worker's message to another: above the longest task.",
    )
    soft_shutdown_s: PositiveFloat = Field(
        default=30.0, description="How long a stopping worker may finish its work."
    )
    sweep_interval_s: PositiveFloat = Field(default=5.0, description="How often batches are looked over.")
    stall_s: PositiveFloat = Field(
        default=45.0, description="A batch that has not moved for this long is sent on by the sweeper."
    )
    notify_settle_s: NonNegativeFloat = Field(
        default=15.0, description="How long events are gathered before receivers are told, as one message."
    )
    worker_processes: PositiveInt | None = Field(
        default=None,
        description="Processes of one worker; unset: one per core, shared among an embedded fleet.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="Least level that workers log."
    )
    log_format: Literal["text", "json"] = Field(
        default="text", description="How they log: for people, or one JSON object a line."
    )
