"""The listing APIs of registries whose catalog says nothing: Docker Hub, Quay, GitLab, Harbor.

Sources: Docker Hub's ``/v2/repositories/`` as Harbor's adapter for it asks (``page_size`` at most 100);
Quay's ``endpoints/api/repository.py`` (a namespace comes whole, a ``next_page`` is followed where there is
one); GitLab's "Container registry API"; Harbor's API 2.0. Each page is one exchange, addressed by us: of what
the answer says about the next page only a number or a token is used, never a URL.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import quote

from registry.catalog import PAGE_NAMES, Asked, catalog_page
from registry.connections import Connections
from registry.credentials import CredentialError, CredentialSource
from registry.endpoint import ListingKind, ListingTerms
from registry.errors import Denied, NotFound, Refused, RegistryError, Unauthorized
from registry.exchange import Registry
from registry.redact import redacted
from registry.reference import Wildcard
from registry.repository import RepositoryPage
from registry.tokenserver import basic_header


class Lists:
    """Lists the repositories of registries, each in its own way. Thread-safe."""

    def __init__(
        self,
        connections: Connections,
        accounts: CredentialSource,
        tokens: CredentialSource,
        terms: Callable[[str], ListingTerms] = ListingTerms.usual,
    ) -> None:
        """``accounts`` are those of registries, ``tokens`` (as passwords) those that their APIs want."""
        self._connections, self._accounts, self._tokens, self._terms = connections, accounts, tokens, terms

    def page(self, below: Wildcard, cursor: str = "") -> RepositoryPage:
        """One page of what is ``below``; ``cursor`` is empty or what the page before says is ``following``.

        Raises:
            NotFound, Unauthorized, Denied, Refused: they cannot be listed so; the text says what to do.
            Unsafe: the list breaks the rules of the registry client, or has no end.
            Transient: as any exchange.
        """
        terms = self._terms(below.host)
        try:
            if terms.kind == "catalog":
                return catalog_page(self._connections.registry(below.host), below, cursor)
            return _APIS[terms.kind](self._api(below.host, terms), below, cursor)
        except (NotFound, Unauthorized, Denied, Refused) as error:
            raise _advised(error, below, terms.kind) from error

    def _api(self, host: str, terms: ListingTerms) -> Registry:
        return self._connections.api(terms.host, f"listing {host}", _ApiAccount(self, host, terms))

    def header(self, host: str, terms: ListingTerms) -> str | None:
        """Authorization for the API of ``host``. A registry's own account stays at its own host."""
        token = self._tokens.lookup(host)
        if token is not None:
            return f"Bearer {token.password}"
        account = self._accounts.lookup(host) if terms.kind == "harbor" and terms.host == host else None
        return basic_header(account) if account is not None and account.password else None


@dataclass(frozen=True, slots=True)
class _ApiAccount:
    """These APIs challenge nobody: what there is goes along with the first request."""

    lists: Lists
    host: str
    terms: ListingTerms

    def header(self, _: tuple[str, ...]) -> str | None:
        try:
            return self.lists.header(self.host, self.terms)
        except CredentialError as error:
            raise Unauthorized(self.terms.host, "", redacted(str(error))) from error

    def challenged(self, *_: object) -> bool:
        return False


def _advised(error: RegistryError, below: Wildcard, kind: ListingKind) -> RegistryError:
    way = "its catalog" if kind == "catalog" else f"the API of {kind}"
    advice = f"say how under registries, {below.host}, listing; or give a list of references"
    reason = f"its repositories cannot be listed by {way}: {error.reason}; {advice}"
    return type(error)(error.end, f"{below.prefix}*", reason, error.status, error.code)


def _dockerhub(api: Registry, below: Wildcard, cursor: str) -> RepositoryPage:
    namespace = _first_part(below, "one namespace")
    number = _number(cursor)
    page = Asked(api, below, f"/v2/repositories/{namespace}/?page={number}&page_size={PAGE_NAMES}")
    document = page.json_object()
    names = page.checked([f"{namespace}/{one.get('name')}" for one in page.entries(document.get("results"))])
    return page.result(names, page.numbered(number, has_next=bool(document.get("next"))))


def _quay(api: Registry, below: Wildcard, cursor: str) -> RepositoryPage:
    namespace = _first_part(below, "one namespace")
    after = f"&next_page={quote(cursor, safe='')}" if cursor else ""
    page = Asked(api, below, f"/api/v1/repository?namespace={namespace}&public=true{after}")
    document = page.json_object()
    images = [one for one in page.entries(document.get("repositories")) if one.get("kind") in {None, "image"}]
    token = document.get("next_page")
    if token is not None and (not isinstance(token, str) or token == cursor):
        raise page.malformed()
    return page.result(page.checked([f"{namespace}/{one.get('name')}" for one in images]), token or None)


def _gitlab(api: Registry, below: Wildcard, cursor: str) -> RepositoryPage:
    """The prefix is a group or a project, or in a project; the cursor says which was found to be one."""
    known, _, at = cursor.partition(":")
    places = _gitlab_places(below)
    number = _number(at)
    for place in range(int(known or 0), len(places)):
        try:
            page = Asked(api, below, f"/api/v4/{places[place]}?per_page={PAGE_NAMES}&page={number}")
        except NotFound:
            if known or place + 1 == len(places):
                raise
            continue
        names = page.checked([one.get("path") for one in page.entries(page.json_list())])
        has_next = page.has_link or bool(page.headers.get("x-next-page", ""))
        following = page.numbered(number, has_next=has_next)
        return page.result(names, following and f"{place}:{following}")
    raise Refused(api.host, f"{below.prefix}*", "GitLab lists one group or project at a time")


def _gitlab_places(below: Wildcard) -> list[str]:
    """Groups hold projects, projects do not hold groups: what is above the prefix can only be a project."""
    _first_part(below, "one group or project")
    parts = below.prefix.rstrip("/").split("/")
    above = ["/".join(parts[:count]) for count in range(len(parts), 1, -1)]
    projects = [f"projects/{quote(path, safe='')}/registry/repositories" for path in above]
    return [*projects[:1], f"groups/{quote('/'.join(parts), safe='')}/registry/repositories", *projects[1:]]


def _harbor(api: Registry, below: Wildcard, cursor: str) -> RepositoryPage:
    project, number = below.prefix.partition("/")[0], _number(cursor)
    place = f"projects/{project}/repositories" if project else "repositories"
    page = Asked(api, below, f"/api/v2.0/{place}?page={number}&page_size={PAGE_NAMES}")
    names = page.checked([one.get("name") for one in page.entries(page.json_list())])
    return page.result(names, page.numbered(number, has_next=page.has_link))


def _first_part(below: Wildcard, unit: str) -> str:
    """The namespace; Refused where the wildcard is the whole registry."""
    if not below.prefix:
        reason = f"lists {unit} at a time; write {below.host}/NAME/*"
        raise Refused(below.host, "*", reason)
    return below.prefix.partition("/")[0]


def _number(cursor: str) -> int:
    return int(cursor) if cursor.isascii() and cursor.isdecimal() else 1


_APIS: Mapping[ListingKind, Callable[[Registry, Wildcard, str], RepositoryPage]] = {
    "dockerhub": _dockerhub,
    "quay": _quay,
    "gitlab": _gitlab,
    "harbor": _harbor,
}
