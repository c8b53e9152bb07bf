"""Which repositories a registry has below a prefix, a page at a time: by its catalog or by an API of its own.

``/v2/_catalog`` is the distribution API's (docker's registry documentation, "Listing Repositories"); the
specification has no such endpoint, and the large registries answer it with 404 or an empty list. For those
:mod:`registry.listings` knows their own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

import httpx

from registry.errors import Refused, Unsafe
from registry.exchange import Call, Registry
from registry.locations import ForbiddenLocation, next_page
from registry.paging import MAX_PAGES, read_page
from registry.reference import MalformedReference, Wildcard, check_repository
from registry.repository import RepositoryPage
from registry.urls import at

PAGE_NAMES = 100
"""Asked for at once: what registries serve by default, and none refuses."""
MAX_PAGE_BYTES = 32 * 2**20
"""As of a page of tags: registries that do not page send every name at once."""
MAX_CURSOR = 4096
"""Characters of what leads to the next page: the ledger keeps it."""
_SCOPES = ("registry:catalog:*",)


def catalog_page(registry: Registry, below: Wildcard, cursor: str) -> RepositoryPage:
    """One page of ``/v2/_catalog``; ``cursor`` is empty or what the page before says is ``following``.

    One exchange. Raises Unsafe for what is no list of repositories of this host, and what the registry
    answers where it has no catalog or shows it to nobody (NotFound, Unauthorized, Denied, Refused).
    """
    target = cursor or f"/v2/_catalog?n={PAGE_NAMES}"
    page = Asked(registry, below, target, _SCOPES)
    names = page.checked(page.json_object().get("repositories") or [])
    following = page.link()
    if following is None and len(names) == PAGE_NAMES:  # full and without a Link: an old registry, or its end
        following = f"/v2/_catalog?n={PAGE_NAMES}&last={quote(names[-1], safe='/')}"
        if following == cursor:
            return RepositoryPage((), None)  # a registry that ignores ``last`` says the same again
    return page.result(names, following)


class Asked:
    """The answer to one request for a page of repositories, its body read and capped."""

    def __init__(
        self, registry: Registry, below: Wildcard, target: str, scopes: tuple[str, ...] = ()
    ) -> None:
        """``target`` is a path with a query at the registry's own host."""
        self._registry, self._below, self._target = registry, below, target
        self._what = f"{below.prefix}*"
        self._url = at(registry.base, target)
        call = Call("GET", "catalog", self._url, self._what, scopes, (("Accept", "application/json"),))
        with registry.exchange(call) as response:
            content = read_page(registry, call, response, MAX_PAGE_BYTES)
            self.headers: httpx.Headers = response.headers
            self._link = response.links.get("next", {}).get("url")
        try:
            self._document = json.loads(content)
        except (ValueError, RecursionError):
            self._document = None

    def json_object(self) -> dict[str, Any]:
        """The body; Refused where it is anything else."""
        if not isinstance(self._document, dict):
            raise self.malformed()
        return self._document

    def json_list(self) -> list[Any]:
        """The same for an API that sends the list itself."""
        if not isinstance(self._document, list):
            raise self.malformed()
        return self._document

    def entries(self, listed: object) -> list[dict[str, Any]]:
        """``listed`` as what it should be, objects; Refused."""
        if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
            raise self.malformed()
        return listed

    def malformed(self) -> Refused:
        return Refused(self._registry.host, self._what, "its list of repositories is malformed")

    @property
    def has_link(self) -> bool:
        return bool(self._link)

    def link(self) -> str | None:
        """Path and query of the next page, which must be on the registry's own host (Unsafe)."""
        if not self._link:
            return None
        try:
            url = next_page(self._registry.endpoint, self._url, self._link)
        except ForbiddenLocation as error:
            raise self._unsafe(str(error)) from error
        return url.raw_path.decode("ascii")

    def numbered(self, number: int, *, has_next: bool) -> str | None:
        """The page after the one of that number; Unsafe where there seems to be no end to them."""
        if has_next and number >= MAX_PAGES:
            raise self._unsafe("its list of repositories has no end")
        return str(number + 1) if has_next else None

    def checked(self, names: object) -> list[str]:
        """Names that fit the grammar of repositories; Unsafe for any other: they become parts of URLs."""
        if not isinstance(names, list):
            raise self.malformed()
        found = [str(name) for name in names]
        try:
            for name in found:
                check_repository(name, name[:200], self._registry.host)
        except MalformedReference as error:
            raise self._unsafe(f"its list of repositories: {str(error)[:300]}") from error
        return found

    def result(self, names: Iterable[str], following: str | None) -> RepositoryPage:
        """The page as far as it is below the prefix. Unsafe where what follows is this page again."""
        if following is not None and (following == self._target or len(following) > MAX_CURSOR):
            raise self._unsafe("its list of repositories has no end")
        prefix = self._below.prefix
        below = dict.fromkeys(name for name in names if name.startswith(prefix) and name != prefix)
        return RepositoryPage(tuple(below), following)

    def _unsafe(self, reason: str) -> Unsafe:
        return Unsafe(self._registry.host, self._what, reason)
