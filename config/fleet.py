"""The fleet file (``sealift.yaml``) as frozen models; every error names file, line and key.

Here: structure, types, names. What needs the grammar of references and tag patterns is checked by
``tasks.terms.check_fleet``, with the lines that a Fleet remembers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    NonNegativeInt,
    PositiveInt,
    PrivateAttr,
    SecretStr,
    ValidationError,
)
from pydantic_core import CoreSchema

from config.checks import (
    MIRROR_NAME,
    PLATFORM,
    REGION_NAME,
    check_redis_url,
    matching,
    not_reserved,
)
from config.cron import check_cron
from config.entries import Entry, Span
from config.lines import Lines, YamlProblem, read_yaml
from config.modes import mode_problems
from config.notification import Receiver
from config.page import PageRules
from config.probing import ProbeRules
from config.problems import FleetError, Problem, explain
from config.registries import RegistryConfig
from config.twins import twin_problems
from config.verification import VerifyRules
from config.webhooks import Webhook

DEFAULT_REGION = "local"

RegionName = Annotated[
    str,
    AfterValidator(matching(REGION_NAME, "small letters, digits and '-', at most 63, no '-' in front")),
    AfterValidator(not_reserved),
    Field(json_schema_extra={"pattern": f"^{REGION_NAME}$"}),
]
MirrorName = Annotated[
    str,
    AfterValidator(matching(MIRROR_NAME, "small letters, digits, '.', '_' and '-', at most 100")),
    Field(json_schema_extra={"pattern": f"^{MIRROR_NAME}$"}),
]
PlatformName = Annotated[
    str,
    AfterValidator(matching(PLATFORM, "os/architecture or os/architecture/variant, as linux/arm64")),
    Field(json_schema_extra={"pattern": f"^{PLATFORM}$"}),
]


class TargetConfig(Entry):
    """One repository to write, and the region whose workers write it."""

    repository: str = Field(
        description="host/repository, or oci:DIR for an image layout folder; with the wildcard of the source."
    )
    region: RegionName = Field(default=DEFAULT_REGION, description="The region whose workers write it.")

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"type": "string"}, handler.resolve_ref_schema(handler(core))]}


class TagRules(Entry):
    """Which tags of the source: any include, no exclude, then the newest."""

    include: tuple[str, ...] = Field(default=("*",), description="Patterns, one of which a tag must match.")
    exclude: tuple[str, ...] = Field(default=(), description="Patterns, none of which a tag may match.")
    newest: PositiveInt | None = Field(default=None, description="Only so many of the newest; unset: all.")
    newest_by: Literal["semver", "created"] = Field(default="semver", description="What makes a tag newer.")

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        patterns = {"type": "array", "items": {"type": "string"}}
        return {"anyOf": [patterns, handler.resolve_ref_schema(handler(core))]}


class RepositoryRules(Entry):
    """Which repositories of a wildcard: any include, no exclude."""

    include: tuple[str, ...] = Field(
        default=("*",), description="Globs about what the wildcard stands for, one of which must match."
    )
    exclude: tuple[str, ...] = Field(default=(), description="Globs, none of which may match.")

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        globs = {"type": "array", "items": {"type": "string"}}
        return {"anyOf": [globs, handler.resolve_ref_schema(handler(core))]}


def _target(value: object) -> object:
    return {"repository": value} if isinstance(value, str) else value


def _some(targets: tuple[TargetConfig, ...]) -> tuple[TargetConfig, ...]:
    if not targets:
        raise ValueError("is empty; name at least one")
    return targets


def _rules(value: object) -> object:
    if isinstance(value, str):
        raise ValueError(f"must be a list or a mapping; write [{value}]")  # noqa: TRY004 - pydantic's protocol
    return {"include": value} if isinstance(value, list) else value


class Mirror(Entry):
    """A source repository and its targets, or targets that are kept equal; which tags, on what terms."""

    model_config = ConfigDict(
        json_schema_extra={
            "if": {"required": ["mode"], "properties": {"mode": {"const": "two_way"}}},
            "else": {"required": ["source"]},
        }
    )

    name: MirrorName = Field(description="Names the mirror in commands and reports; once in the file.")
    mode: Literal["mirror", "two_way"] = Field(
        default="mirror",
        description="mirror: from the source to the targets; two_way: the targets are kept equal, whichever "
        "was pushed to, and there is no source.",
    )
    source: str | None = Field(
        default=None,
        description="host/repository to read, without tag; or oci:DIR; or host/prefix/* for all below it. "
        "Not with mode: two_way.",
    )
    targets: Annotated[
        tuple[Annotated[TargetConfig, BeforeValidator(_target)], ...], AfterValidator(_some)
    ] = Field(
        json_schema_extra={"minItems": 1},
        description="Repositories to write: each a text (region local), or region and repository.",
    )
    tags: Annotated[TagRules, BeforeValidator(_rules)] = Field(
        default_factory=TagRules, description="A list of patterns, or include, exclude, newest, newest_by."
    )
    repositories: Annotated[RepositoryRules, BeforeValidator(_rules)] = Field(
        default_factory=RepositoryRules,
        description="Of wildcards: a list of globs, or include and exclude.",
    )
    platforms: tuple[PlatformName, ...] = Field(
        default=(), description="Which images of an index are copied; empty: all. The index keeps its digest."
    )
    referrers: bool = Field(
        default=True, description="Whether signatures, attestations and SBOMs are copied too."
    )
    finalize: Literal["all", "each"] = Field(
        default="all",
        description="all: no target's tag moves before every target holds everything; each: on its own.",
    )
    read_from: Literal["targets", "source"] | None = Field(
        default=None,
        description="targets: those that hold a blob serve it to the others, and the source is read once; "
        "source: each region reads it there, and nowhere else; unset: targets, where the source gives only "
        "so much, else the nearest.",
    )
    keep: NonNegativeInt = Field(
        default=0,
        le=100,
        description="How many of the images that a tag was stay safe from the targets' garbage collection, "
        "for `rollback`; 0: none are.",
    )
    trust_ledger_for: Span | None = Field(
        default=None,
        description="How long a target is not asked again what a tag is there; unset: every run asks.",
    )
    delete: Literal["never", "mirror"] = Field(
        default="never",
        description="mirror: what Sealift put into a target is deleted there once the source has it no more.",
    )
    delete_share: PositiveInt = Field(
        default=10,
        le=100,
        description="Percent of the tags that Sealift put into a target: if more are due, none is deleted.",
    )
    delete_after: Span = Field(
        default="7d", description="How long the source has to lack a tag before it is deleted."
    )
    conflicts: Literal["hold", "newest"] = Field(
        default="hold",
        description="Of two_way, where a tag moved on several sides: hold: it is left alone until somebody "
        "decides; newest: the image that was made last wins.",
    )
    prefer: str | None = Field(
        default=None, description="Of two_way: the target (or its host) that wins conflicts instead."
    )
    immutable: tuple[str, ...] = Field(
        default=(), description="Of two_way: patterns of tags that never move once all sides have them."
    )
    deletes: Literal["hold", "propagate"] = Field(
        default="hold",
        description="Of two_way, where a side has deleted a tag: hold: it is left alone until somebody "
        "decides; propagate: it is deleted on the others too, by delete_share and delete_after.",
    )
    schedule: Annotated[str, AfterValidator(check_cron)] | None = Field(
        default=None, description="When beat runs it: five cron fields, in UTC; unset: only when asked."
    )
    lane: Literal["release", "backfill"] = Field(
        default="release", description="The lane of its scheduled runs: backfill gives way to release."
    )
    verify: VerifyRules = Field(
        default_factory=VerifyRules, description="How and when its targets are verified."
    )


class Fleet(Entry):
    """The whole file; remembers on which line everything stands."""

    redis_url: Annotated[SecretStr, AfterValidator(check_redis_url)] | None = Field(
        default=None,
        description="Broker, results and ledger, or env:NAME, or file:PATH; SEALIFT_REDIS_URL goes first. "
        "Unset: an embedded server.",
    )
    registries: dict[str, RegistryConfig] = Field(
        default_factory=dict, description="Registries by host, as references name them."
    )
    mirrors: tuple[Mirror, ...] = Field(default=(), description="What to keep identical.")
    notify: tuple[Receiver, ...] = Field(default=(), description="Who is told of what happens.")
    webhooks: tuple[Webhook, ...] = Field(default=(), description="Who may tell that a tag was pushed.")
    probe: ProbeRules = Field(
        default_factory=ProbeRules, description="How registries are probed from each region, and how often."
    )
    page: PageRules = Field(default_factory=PageRules, description="What the status page shows.")
    _path: Path = PrivateAttr(Path("sealift.yaml"))
    _lines: Lines = PrivateAttr(default_factory=Lines)

    @property
    def path(self) -> Path:
        return self._path

    def line_of(self, *where: str | int) -> str:
        """``FILE:LINE`` of a key; of what is around it if the file leaves it out."""
        return f"{self._path}:{self._lines.of(where)}"

    def problem(self, where: tuple[str | int, ...], text: str) -> Problem:
        """What is wrong at ``where``, spelled as the file spells it."""
        return Problem(str(self._path), self._lines.of(where), self._lines.nearest(where), text)

    def mirror(self, name: str) -> Mirror:
        """FleetError, with the nearest name, if there is none."""
        for mirror in self.mirrors:
            if mirror.name == name:
                return mirror
        names = ", ".join(mirror.name for mirror in self.mirrors) or "none"
        raise FleetError((self.problem(("mirrors",), f"there is no mirror {name!r}; there is: {names}"),))

    def resolve(self, path: str) -> str:
        """A path of the file as an absolute one: relative paths start at the file's own folder.

        Links stay links: Kubernetes swaps secrets by moving one.
        """
        return str(self._path.absolute().parent / Path(path).expanduser())


def load_fleet(path: Path) -> Fleet:
    """Read and check the fleet file. Raises FleetError."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        reason = "there is no such file; write one, or name it with SEALIFT_FLEET_FILE"
        raise FleetError((Problem(str(path), 0, (), reason),)) from None
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise FleetError((Problem(str(path), 0, (), f"cannot be read: {why}"),)) from error
    return parse_fleet(text, path)


def parse_fleet(text: str, path: Path = Path("sealift.yaml")) -> Fleet:
    """The fleet that ``text`` describes; ``path`` is for messages and relative paths. Raises FleetError."""
    try:
        document, lines = read_yaml(text)
    except YamlProblem as problem:
        raise FleetError((Problem(str(path), problem.line, problem.where, problem.text),)) from problem
    try:
        fleet = Fleet.model_validate({} if document is None else document)
    except ValidationError as error:
        # Not `from error`: pydantic's own text may show values, and one of them may be a password.
        raise FleetError(explain(error, Fleet, str(path), lines)) from None
    fleet._path, fleet._lines = path, lines  # noqa: SLF001 - set once, at birth
    if twins := tuple(twin_problems(fleet)):
        raise FleetError(twins)
    if unfit := tuple(mode_problems(fleet)):
        raise FleetError(unfit)
    return fleet


def fleet_schema() -> dict[str, Any]:
    """The fleet file as JSON Schema, for editors (``sealift config schema``)."""
    schema = Fleet.model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "Sealift fleet file",
    }
