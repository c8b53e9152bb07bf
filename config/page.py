"""The fleet file's ``page``: what the status page shows to everybody."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, PositiveInt

from config.entries import Entry

MOST_TAGS, LONGEST_TITLE = 100, 100


def _one_line(title: str) -> str:
    if not title.strip() or len(title) > LONGEST_TITLE or not title.isprintable():
        raise ValueError(f"must be one line of up to {LONGEST_TITLE} characters")
    return title.strip()


def _address(url: str) -> str:
    if not url.startswith(("https://", "http://")) or not url.isprintable() or " " in url:
        raise ValueError("must be the page's address, as https://status.example.org/")
    return f"{url.rstrip('/')}/"


class PageRules(Entry):
    """The status page: by `sealift page` and `sealift serve`."""

    title: Annotated[str, AfterValidator(_one_line)] = Field(
        default="Image mirrors", description="The page's heading."
    )
    url: Annotated[str, AfterValidator(_address)] | None = Field(
        default=None, description="Where the page is published; the feed of incidents links there."
    )
    mirrors: tuple[str, ...] = Field(
        default=("*",), description="Globs about names of mirrors, one of which must match; [] hides all."
    )
    hidden: tuple[str, ...] = Field(
        default=(), description="Globs about hosts of registries that are left off the page."
    )
    tags: PositiveInt = Field(
        default=10, le=MOST_TAGS, description="How many of each mirror's tags are shown, the newest first."
    )
