"""One mirror as the engine needs it: plain values that travel through the ledger; never a secret."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

DEFAULT_REGION = "local"
Lane = Literal["release", "backfill"]
Finalize = Literal["all", "each"]
ReadFrom = Literal["targets", "source"]


@dataclass(frozen=True, slots=True)
class Target:
    """One repository to write, and the region whose workers write it."""

    repository: str
    """``host/repository`` or ``oci:DIR``."""
    region: str = DEFAULT_REGION


@dataclass(frozen=True, slots=True)
class MirrorSpec:
    """A source repository, its targets, which tags, on what terms (the fleet file's ``mirrors`` entry)."""

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

    @property
    def regions(self) -> tuple[str, ...]:
        """Each region once, in the targets' order."""
        return tuple(dict.fromkeys(target.region for target in self.targets))

    def targets_of(self, region: str) -> tuple[Target, ...]:
        return tuple(target for target in self.targets if target.region == region)

    def document(self) -> dict[str, Any]:
        """As JSON values, for the ledger."""
        return asdict(self)

    @classmethod
    def parse(cls, document: dict[str, Any]) -> MirrorSpec:
        """The inverse of :meth:`document`."""
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in document.items()}
        values["targets"] = tuple(Target(**target) for target in document["targets"])
        values["refs"] = tuple((tag, ref) for tag, ref in document.get("refs") or ())
        return cls(**values)
