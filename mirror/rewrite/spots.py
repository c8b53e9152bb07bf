"""Where in a text an image is referred to, and how that place is written anew without touching the rest."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from registry.reference import Reference

Role = Literal["used", "published", "matched", "mirrored"]
"""``published``: pushed to, so for its owner to decide. ``matched``: names what is used elsewhere.
``mirrored``: where a mirror reads or writes."""
STAYS: dict[Role, str] = {
    "published": "is built or published under this name; change it by hand, with its account",
    "mirrored": "says where a mirror reads or writes; change it by hand if the mirror is to end",
}
"""What is never changed, which is no failure, and why."""
BY_VARIABLES = "its name is put together of variables; change it by hand"
UNSURE = "nothing here says that it is an image; change it by hand if it is one"


@dataclass(frozen=True, slots=True)
class Edit:
    """Characters from ``start`` to ``end`` (excluded) become ``text``."""

    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Span:
    """Characters of the text, without quotes, and what they say."""

    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Whole:
    """A reference in one piece: its repository, and where it ends, tag and digest included."""

    name: Span
    end: int
    is_pinnable: bool = True
    has_tag: bool = True

    def edits(self, new: Reference, pin: str | None) -> list[Edit]:
        """What makes it ``new``, and its digest ``pin`` where one is wished and can stand here."""
        found = [Edit(self.name.start, self.name.end, new.name)]
        if pin and self.is_pinnable:
            tag = "" if self.has_tag else f":{new.tag}"
            found.append(Edit(self.end, self.end, f"{tag}@{pin}"))
        return found


@dataclass(frozen=True, slots=True)
class Split:
    """A reference in several values, as charts have it: ``registry``, ``repository``, ``tag``, ``digest``."""

    repository: Span
    registry: Span | None = None
    tag: Span | None = None
    digest: Span | None = None
    is_pinnable: bool = True

    def edits(self, new: Reference, pin: str | None) -> list[Edit]:
        """As of Whole. Where nothing else has room for it, a digest stands behind the tag."""
        found = []
        if self.registry and self.registry.text:
            registry, repository = self._divided(new)
            found.append(Edit(self.registry.start, self.registry.end, registry))
        else:
            repository = new.name
        found.append(Edit(self.repository.start, self.repository.end, repository))
        if pin and self.is_pinnable:
            if self.digest:
                found.append(Edit(self.digest.start, self.digest.end, pin))
            elif self.tag and self.tag.text:
                found.append(Edit(self.tag.end, self.tag.end, f"@{pin}"))
        return found

    @property
    def places(self) -> tuple[Span, ...]:
        """What is edited to move it."""
        return (self.repository, self.registry) if self.registry else (self.repository,)

    @property
    def versions(self) -> tuple[Span, ...]:
        """What may be edited to pin it."""
        return tuple(span for span in (self.tag, self.digest) if span)

    def _divided(self, new: Reference) -> tuple[str, str]:
        """The repository keeps as many components as it has: a registry's value may hold a path, too."""
        if new.name.endswith(f"/{self.repository.text}"):
            return new.name.removesuffix(f"/{self.repository.text}"), self.repository.text
        return new.host, new.repository


@dataclass(frozen=True, slots=True)
class Spot:
    """One reference to an image at an old place."""

    start: int
    line: int
    """From 1."""
    shown: str
    """As it is written."""
    old: Reference
    """With its digest, its tag, or neither: what stands there may then become any tag."""
    new: Reference
    writing: Whole | Split | None
    """None: it cannot be edited here; ``why_not`` says the reason."""
    why_not: str = ""
    role: Role = "used"
    must_prove: bool = True

    @property
    def is_unsure(self) -> bool:
        """Whether whoever knows more about its place knows better."""
        return self.why_not == UNSURE

    @property
    def places(self) -> set[int]:
        """Where what is edited to move it begins."""
        if isinstance(self.writing, Split):
            return {span.start for span in self.writing.places}
        return {self.start} if self.writing else set()

    @property
    def versions(self) -> set[int]:
        """Where what may be edited to pin it begins, if that is apart from its name."""
        return {span.start for span in self.writing.versions} if isinstance(self.writing, Split) else set()

    def edits(self, pin: str | None) -> list[Edit]:
        return self.writing.edits(self.new, pin) if self.writing else []


def edited(text: str, edits: Iterable[Edit]) -> str:
    """``text`` with all ``edits``, which must not overlap."""
    parts: list[str] = []
    at = 0
    for edit in sorted(set(edits), key=lambda one: (one.start, one.end)):
        if edit.start < at:
            raise ValueError("two edits overlap")
        parts += (text[at : edit.start], edit.text)
        at = edit.end
    return "".join([*parts, text[at:]])
