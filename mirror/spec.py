"""One mirror as the engine needs it: plain values that travel through the ledger; never a secret."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from fnmatch import fnmatchcase
from typing import Any, Literal

DEFAULT_REGION = "local"
Lane = Literal["release", "backfill"]
Finalize = Literal["all", "each"]
ANY = "*"
EVERYWHERE = ANY
"""The source of a mirror whose references are given: repositories of any registry."""
ReadFrom = Literal["targets", "source"]
TARGETS = "="
"""The source of a run that has none: what it is about is read, by digest, from any target that holds it."""
ALL_TARGETS = f"{TARGETS}/{ANY}"
"""The same where the targets are wildcards: a repository is then known by what these stand for there."""
Delete = Literal["never", "mirror"]
Kind = Literal["mirror", "two_way", "rollback", "verify", "repair"]
"""What a run does with its tags: ``mirror`` brings them from the source to the targets."""


@dataclass(frozen=True, slots=True)
class Verification:
    """How a run of the kind ``verify`` looks, and what follows from it."""

    sample: int = 0
    """Only so many tags of each repository, others in each run; 0: all."""
    deep: bool = False
    """Bytes are read and hashed, too."""
    most_bytes: int = 0
    """... so many of them in the whole run at most; 0: all."""
    bytes_per_s: int = 0
    """... so fast in the whole fleet at most; 0: as fast as they come."""
    repairs: bool = False
    """When it has ended, a run begins that mends what it found."""


@dataclass(frozen=True, slots=True)
class Target:
    """One repository to write, and the region whose workers write it."""

    repository: str
    """``host/repository`` or ``oci:DIR``."""
    region: str = DEFAULT_REGION


@dataclass(frozen=True, slots=True)
class MirrorSpec:
    """A source repository, its targets, which tags, on what terms (the fleet file's ``mirrors`` entry).

    With a wildcard (``host/prefix/*``) as source and in every target it stands for the mirrors of many
    repositories: one run covers them all, each batch is of one of them, and :meth:`of` says on what terms.
    """

    name: str
    source: str
    targets: tuple[Target, ...]
    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    newest: int | None = None
    newest_by: Literal["semver", "created"] = "semver"
    platforms: tuple[str, ...] = ()
    """Empty: all. An index keeps its bytes and digest either way."""
    referrers: bool = True
    finalize: Finalize = "all"
    read_from: ReadFrom | None = None
    """Where blobs come from: targets that hold them before the source, or the source alone.

    None: targets first where the source gives only so much.
    """
    trust_s: int = 0
    """How long the ledger is believed about what a tag is in a target; 0: it is asked in every run."""
    refs: tuple[tuple[str, str], ...] = ()
    """Exact (target tag, source tag or digest) pairs; where given, nothing is listed or selected."""
    keep: int | None = None
    """How many of the digests that a tag had stay safe from the targets' garbage collection.

    None: no entry of a fleet file says; nothing more is kept, and what is kept stays.
    """
    repositories: tuple[str, ...] = (ANY,)
    """Of a wildcard: globs about what it stands for, one of which must match."""
    not_repositories: tuple[str, ...] = ()
    """... and none of which may."""
    given: str = ""
    """The digest of a list of references that is in the ledger: then no repositories are listed."""
    kind: Kind = "mirror"
    verification: Verification | None = None
    """Of the kinds ``verify`` and ``repair``."""
    pin: bool = False
    """Of a rollback: runs of the mirror leave its tags where it puts them. Tags that were pinned stay so."""
    delete: Delete = "never"
    """Whether tags that we put somewhere and the source has no more are deleted there; of a two-way mirror,
    those that a side has deleted."""
    delete_share: int = 10
    """Of all tags that we put in a target: the most that one run deletes, in percent; one in any case."""
    delete_after_s: int = 7 * 86400
    """For how long the source has to lack a tag; at least from one run to another."""
    two_way: bool = False
    """Whether the targets are sides that are kept equal, whatever a run of theirs does."""
    rule: Literal["hold", "newest", "prefer"] = "hold"
    """Of a two-way mirror: what becomes of tags that moved apart."""
    prefer: str = ""
    """... the target that then wins."""
    immutable: tuple[str, ...] = ()
    """... patterns of tags that never move once all have them."""
    take: str = ""
    """... the target whose tags are taken everywhere: a person's decision about what was left alone."""
    ad_hoc: bool = False
    """Whether a command says what it is and no fleet file has it: how it stands is nobody's to follow."""
    rest: str = ""
    """Of one of the repositories of a wildcard: what the wildcard stands for."""

    @property
    def is_wildcard(self) -> bool:
        return self.source == EVERYWHERE or self.source.endswith(f"/{ANY}")

    @property
    def is_two_way(self) -> bool:
        """Whether sides are asked what its tags are to be: no source says so, nor the run itself."""
        return self.two_way and self.kind != "rollback"

    @property
    def carries_deletions(self) -> bool:
        """Whether what one side has deleted is to go from the others, too."""
        return self.is_two_way and self.delete == "mirror" and not self.verifies

    @property
    def verifies(self) -> bool:
        """Whether a run only looks: nothing of it moves, and nothing is written to a registry."""
        return self.kind == "verify"

    @property
    def is_whole(self) -> bool:
        """Whether a run on these terms is about all tags of the mirror, or a sample of them.

        Else it is about some by name, or one of a wildcard's repositories, as a batch of any run is.
        """
        return not (self.refs or self.given or self.rest or self.kind in {"rollback", "repair"})

    @property
    def looks_for_extra(self) -> bool:
        """Whether a run compares lists of tags, too: where it is about all that the mirror has."""
        exact = self.refs or (self.verification and self.verification.sample)
        return self.verifies and not exact and not self.reads_targets  # a tag of one side is one of all

    @property
    def reads_targets(self) -> bool:
        """Whether there is no source but the targets."""
        return self.source in {TARGETS, ALL_TARGETS}

    @property
    def mirror(self) -> str:
        """The name of the mirror that this is, or that it is one repository of."""
        return self.name.removesuffix(f"/{self.rest}") if self.rest else self.name

    @property
    def known_as(self) -> str:
        """As what events and totals have it: the mirror, or what no fleet file has by what it writes.

        That is never a mirror's name, which holds no slash.
        """
        if not self.ad_hoc:
            return self.mirror
        return above(self.targets[0].repository, self.rest).removesuffix(f"/{ANY}")

    @property
    def has_many(self) -> bool:
        """Whether a run has a list of repositories, and each batch its own."""
        return self.is_wildcard or bool(self.given)

    def rest_of(self, repository: str) -> str:
        """What the wildcard stands for in ``host/repository``; empty where it is not below the prefix."""
        if self.source == EVERYWHERE:
            return repository.partition("/")[2]
        prefix = self.source.removesuffix(ANY)
        return repository.removeprefix(prefix) if repository.startswith(prefix) else ""

    def takes(self, rest: str) -> bool:
        """Whether a repository is one of the wildcard's, by what the wildcard stands for."""
        return any(fnmatchcase(rest, glob) for glob in self.repositories) and not any(
            fnmatchcase(rest, glob) for glob in self.not_repositories
        )

    def of(self, repository: str) -> MirrorSpec:
        """The mirror of one of the repositories: its own source, targets and name.

        Itself where it names one repository anyway, or ``repository`` is not one of its own.
        """
        rest = self.rest_of(repository) if self.is_wildcard else ""
        if not rest:
            return self
        targets = tuple(
            replace(one, repository=f"{one.repository.removesuffix(ANY)}{rest}") for one in self.targets
        )
        return replace(
            self,
            name=f"{self.name}/{rest}",
            source=TARGETS if self.reads_targets else repository,
            targets=targets,
            prefer=_below(self.prefer, rest),
            take=_below(self.take, rest),
            given="",
            rest=rest,
        )

    @property
    def listed_as(self) -> str:
        """Of one of a wildcard's repositories: what a run of them all has it as, and :meth:`of` takes."""
        return f"{TARGETS}/{self.rest}" if self.rest and self.reads_targets else self.source

    @property
    def origin(self) -> str:
        """What is read, for people: where there is no source, the targets."""
        if not self.reads_targets:
            return self.source
        return ", ".join(target.repository for target in self.targets)

    def place_of(self, repository: str) -> str:
        """One of its targets: as the wildcard has it, where this is one of a wildcard's repositories."""
        return above(repository, self.rest)

    @property
    def places(self) -> tuple[str, ...]:
        """Everything that is read or written, in full."""
        source = () if self.reads_targets else (self.source,)
        return (*source, *(target.repository for target in self.targets))

    @property
    def regions(self) -> tuple[str, ...]:
        """Each region once, in the targets' order."""
        return tuple(dict.fromkeys(target.region for target in self.targets))

    def targets_of(self, region: str) -> tuple[Target, ...]:
        return tuple(target for target in self.targets if target.region == region)

    def document(self) -> dict[str, Any]:
        """As JSON values, for the ledger: what is not as by default.

        So a process that does not know a term yet is in the way of no run but those that need it.
        """
        return _told(self) | {
            "targets": [_told(target) for target in self.targets],
            **({} if self.verification is None else {"verification": _told(self.verification)}),
        }

    @classmethod
    def parse(cls, document: dict[str, Any]) -> MirrorSpec:
        """The inverse of :meth:`document`. A term that is not known is a TypeError: none is guessed."""
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in document.items()}
        values["targets"] = tuple(Target(**target) for target in document["targets"])
        if (how := document.get("verification")) is not None:
            values["verification"] = Verification(**how)
        values["refs"] = tuple((tag, ref) for tag, ref in document.get("refs") or ())
        return cls(**values)


def one_of(spec: MirrorSpec, rest: str) -> MirrorSpec:
    """The mirror of one of a wildcard's repositories, by what it stands for there; else ``spec`` itself."""
    if not spec.is_wildcard:
        return spec
    return spec.of(name_of(spec, rest))


def name_of(spec: MirrorSpec, rest: str) -> str:
    """The name under which a run of a wildcard has one of its repositories, by what it stands for there."""
    prefix = "any/" if spec.source == EVERYWHERE else spec.source.removesuffix(ANY)
    return f"{prefix}{rest}"


def _told(one: MirrorSpec | Target | Verification) -> dict[str, Any]:
    return {
        known.name: value for known in fields(one) if (value := getattr(one, known.name)) != known.default
    }


def above(repository: str, rest: str) -> str:
    """A target of one of a wildcard's repositories as the wildcard has it; any other stays."""
    return f"{repository.removesuffix(rest)}{ANY}" if rest else repository


def _below(target: str, rest: str) -> str:
    """One of a wildcard's repositories; what is none stays."""
    return f"{target.removesuffix(ANY)}{rest}" if target.endswith(f"/{ANY}") else target
