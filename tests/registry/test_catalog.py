"""Which repositories a registry has below a prefix: its catalog, real and scripted, and APIs of their own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import pytest

from registry.catalog import MAX_PAGE_BYTES, PAGE_NAMES
from registry.connections import Connections
from registry.credentials import Credential, CredentialEntry, CredentialSource, ExplicitCredentials
from registry.endpoint import Endpoint, ListingKind, ListingTerms
from registry.errors import Denied, NotFound, Refused, RegistryError, Unauthorized, Unsafe
from registry.images import build_image
from registry.listings import Lists
from registry.reference import Wildcard
from tests.support.opening import QUICK, Nobody, Someone
from tests.support.pushing import push
from tests.support.registries import DockerRegistry
from tests.support.wire import Call, Script, Wire, answering, in_turn, routed

IMAGE = build_image({"app.txt": b"one"})
SECRET = "the token of the API"


@dataclass
class Reader:
    """Lists what is below ``host/prefix/*`` on given terms."""

    host: str
    kind: ListingKind = "catalog"
    api_host: str = ""
    accounts: CredentialSource = field(default_factory=Nobody)
    token: str = ""

    def pages(self, prefix: str = "") -> list[list[str]]:
        """Names page by page, each asked for as if nothing but the cursor were known."""
        found, cursor = [], ""
        while True:
            page = self.page(prefix, cursor)
            found.append(list(page.names))
            if page.following is None:
                return found
            cursor = page.following

    def page(self, prefix: str, cursor: str) -> Any:
        with self._lists() as lists:
            return lists.page(Wildcard(self.host, prefix), cursor)

    @contextmanager
    def _lists(self) -> Iterator[Lists]:
        connections = Connections(lambda host: Endpoint(host, timeouts=QUICK), self.accounts)
        entries = {self.host: CredentialEntry("", self.token)} if self.token else {}
        terms = ListingTerms(self.kind, self.api_host or self.host)
        with closing(connections):
            yield Lists(connections, self.accounts, ExplicitCredentials(entries), lambda _: terms)


def as_json(document: Any, headers: Mapping[str, str] | None = None) -> Script:
    return answering(200, json.dumps(document), headers)


def paged(each: Callable[[int, int], tuple[Any, Mapping[str, str]]]) -> Script:
    """Answers by the page that is asked for and the size of one."""

    def script(call: Call) -> None:
        query = {name: values[0] for name, values in parse_qs(call.query).items()}
        size = int(query.get("page_size") or query.get("per_page") or 0)
        document, headers = each(int(query.get("page", "1")), size)
        as_json(document, headers)(call)

    return script


def catalog(*names: str, link: str = "") -> Script:
    headers = {"Link": f'<{link}>; rel="next"'} if link else {}
    return as_json({"repositories": list(names)}, headers)


# -- the catalog -----------------------------------------------------------------------------------


def test_the_catalog_of_a_real_registry_is_read_page_by_page(tmp_path: Any) -> None:
    names = sorted([f"team/{number:03}" for number in range(PAGE_NAMES + 20)] + ["other/app", "team-two/app"])
    with DockerRegistry(tmp_path) as registry:
        for name in names:
            push(f"{registry.host}/{name}", IMAGE, "1.0")
        everything, below = Reader(registry.host).pages(), Reader(registry.host).pages("team/")

    assert sorted(name for page in everything for name in page) == names
    assert len(everything) == 2
    assert {name for page in below for name in page} == {n for n in names if n.startswith("team/")}


def test_the_cursor_is_what_the_link_says_and_stays_on_the_host(wire: Wire) -> None:
    wire.script = in_turn(catalog("a/b", link="/v2/_catalog?next_page=gAAA%3D&n=100"), catalog("a/c"))

    assert Reader(wire.host).pages("a/") == [["a/b"], ["a/c"]]
    assert [call.target for call in wire.calls] == [
        f"/v2/_catalog?n={PAGE_NAMES}",
        "/v2/_catalog?next_page=gAAA%3D&n=100",
    ]


def test_a_full_page_without_a_link_is_gone_on_behind(wire: Wire) -> None:
    full = [f"a/{number:03}" for number in range(PAGE_NAMES)]
    wire.script = in_turn(catalog(*full), catalog("a/zz"))

    assert Reader(wire.host).pages() == [full, ["a/zz"]]
    assert wire.calls[1].query == f"n={PAGE_NAMES}&last=a/{PAGE_NAMES - 1:03}"


def test_a_registry_that_ignores_where_to_go_on_is_read_once(wire: Wire) -> None:
    full = [f"a/{number:03}" for number in range(PAGE_NAMES)]
    wire.script = catalog(*full)

    assert Reader(wire.host).pages() == [full, []]
    assert len(wire.calls) == 2


@pytest.mark.parametrize(
    "script",
    [
        catalog("a/b", link="http://127.0.0.2:1/v2/_catalog?n=1"),
        catalog("a/b", link="http://user:pw@127.0.0.1/v2/_catalog"),
        catalog("a/b", link=f"/v2/_catalog?n={PAGE_NAMES}"),
        catalog("a/b", link=f"/v2/_catalog?next_page={'x' * 5000}"),
        catalog("a/../b"),
        catalog("A/b"),
        catalog("a/b?x=1"),
        as_json({"repositories": [{"name": "a/b"}]}),
        answering(200, b" " * (MAX_PAGE_BYTES + 1)),
    ],
    ids=["host", "userinfo", "circle", "long", "dots", "capital", "query", "object", "size"],
)
def test_a_catalog_that_leads_elsewhere_or_names_no_repository_is_refused(wire: Wire, script: Script) -> None:
    wire.script = script

    with pytest.raises(Unsafe):
        Reader(wire.host).pages()

    assert len(wire.calls) == 1


@pytest.mark.parametrize("body", ["nonsense", "[]", '{"repositories": 7}', '{"repositories": {"a": 1}}'])
def test_what_is_no_catalog_is_refused(wire: Wire, body: str) -> None:
    wire.script = answering(200, body)

    with pytest.raises(Refused, match="malformed"):
        Reader(wire.host).pages()


def test_an_empty_registry_has_no_repositories(wire: Wire) -> None:
    wire.script = as_json({"repositories": None})

    assert Reader(wire.host).pages() == [[]]


@pytest.mark.parametrize(
    ("status", "error"), [(401, Unauthorized), (403, Denied), (404, NotFound), (405, Refused)]
)
def test_a_catalog_that_is_not_shown_says_what_to_do(
    wire: Wire, status: int, error: type[RegistryError]
) -> None:
    wire.script = answering(status, b"", {"WWW-Authenticate": 'Basic realm="registry"'})

    with pytest.raises(error) as caught:
        Reader(wire.host).pages("org/")

    assert str(caught.value).startswith(
        f"{wire.host}/org/*: its repositories cannot be listed by its catalog"
    )
    assert f"say how under registries, {wire.host}, listing; or give a list of references" in str(
        caught.value
    )


def test_the_catalog_is_asked_for_with_a_scope_of_its_own(wire: Wire) -> None:
    bearer = f'Bearer realm="{wire.url}/token",service="registry"'
    refusing = answering(401, b"", {"WWW-Authenticate": bearer})

    def listing(call: Call) -> None:
        (catalog("a/b") if call.headers.get("authorization") == "Bearer good" else refusing)(call)

    token = as_json({"token": "good"})
    wire.script = routed({("GET", "/v2/_catalog"): listing, ("GET", "/token"): token})

    assert Reader(wire.host, accounts=Someone()).pages() == [["a/b"]]
    (asked,) = [call for call in wire.calls if call.path == "/token"]
    assert "scope=registry:catalog:%2A" in asked.query


# -- APIs of their own -----------------------------------------------------------------------------


def numbered(prefix: str, page: int, size: int, count: int) -> list[str]:
    return [f"{prefix}{number:03}" for number in range((page - 1) * size, min(page * size, count))]


def hub(page: int, size: int) -> tuple[Any, Mapping[str, str]]:
    names = numbered("app", page, size, 150)
    more = f"https://hub.docker.com/v2/repositories/kuzudb/?page={page + 1}" if page * size < 150 else None
    return {"count": 150, "next": more, "results": [{"name": n, "namespace": "kuzudb"} for n in names]}, {}


def test_docker_hub_is_listed_by_namespace(wire: Wire) -> None:
    wire.script = routed({("GET", "/v2/repositories/kuzudb/"): paged(hub)})

    found = Reader("docker.io", "dockerhub", wire.host).pages("kuzudb/")

    assert [len(page) for page in found] == [100, 50]
    assert found[0][0] == "kuzudb/app000"
    assert [call.query for call in wire.calls] == ["page=1&page_size=100", "page=2&page_size=100"]


def test_quay_is_listed_by_namespace_and_its_applications_are_no_images(wire: Wire) -> None:
    def page(*names: str, following: str | None = None) -> Script:
        images = [{"namespace": "org", "name": name, "kind": "image"} for name in names]
        application = {"namespace": "org", "name": "chart", "kind": "application"}
        return as_json({"repositories": [*images, application], "next_page": following})

    wire.script = in_turn(page("app", "team/app", following="gAAA="), page("db"))

    assert Reader(wire.host, "quay").pages("org/") == [["org/app", "org/team/app"], ["org/db"]]
    assert wire.calls[0].target == "/api/v1/repository?namespace=org&public=true"
    assert wire.calls[1].query == "namespace=org&public=true&next_page=gAAA%3D"
    wire.script = page("app", "team/app")
    assert Reader(wire.host, "quay").pages("org/team/") == [["org/team/app"]]


def gitlab(page: int, size: int) -> tuple[Any, Mapping[str, str]]:
    paths = numbered("group/project/image", page, size, 130)
    more = str(page + 1) if page * size < 130 else ""
    return [{"id": 1, "name": "", "path": path} for path in paths], {"X-Next-Page": more}


@pytest.mark.parametrize("place", ["projects/group%2Fproject", "groups/group%2Fproject"])
def test_gitlab_is_listed_by_project_or_group(wire: Wire, place: str) -> None:
    wire.script = routed({("GET", f"/api/v4/{place}/registry/repositories"): paged(gitlab)})

    found = Reader("registry.example", "gitlab", wire.host).pages("group/project/")

    assert [len(page) for page in found] == [100, 30]
    asked = [call.target for call in wire.calls]
    assert asked[-1] == f"/api/v4/{place}/registry/repositories?per_page=100&page=2"
    assert len(asked) == (2 if place.startswith("projects") else 3), "found once, it is not looked for again"


def test_in_gitlab_what_is_below_a_project_is_found_in_it(wire: Wire) -> None:
    listed = as_json([{"path": "group/project"}, {"path": "group/project/a/b"}, {"path": "group/project/c"}])
    wire.script = routed({("GET", "/api/v4/projects/group%2Fproject/registry/repositories"): listed})

    assert Reader(wire.host, "gitlab").pages("group/project/a/") == [["group/project/a/b"]]


def test_in_gitlab_what_is_neither_project_nor_group_is_not_there(wire: Wire) -> None:
    with pytest.raises(NotFound, match="by the API of gitlab"):
        Reader(wire.host, "gitlab").pages("group/")

    assert [call.path for call in wire.calls] == ["/api/v4/groups/group/registry/repositories"]


def harbor(page: int, size: int) -> tuple[Any, Mapping[str, str]]:
    names = numbered("project/app", page, size, 110)
    link = f'</api/v2.0/projects/project/repositories?page={page + 1}>; rel="next"'
    return [{"name": name} for name in names], {"Link": link} if page * size < 110 else {}


@pytest.mark.parametrize(("prefix", "place"), [("project/", "projects/project/"), ("", "")])
def test_harbor_is_listed_by_project_or_as_a_whole(wire: Wire, prefix: str, place: str) -> None:
    wire.script = routed({("GET", f"/api/v2.0/{place}repositories"): paged(harbor)})

    assert [len(page) for page in Reader(wire.host, "harbor").pages(prefix)] == [100, 10]


KINDS: tuple[ListingKind, ...] = ("dockerhub", "quay", "gitlab", "harbor")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("body", ["nonsense", "7", "[7]", '{"results": 7}', '{"repositories": [7]}', '"a"'])
def test_an_api_that_says_something_else_is_refused(wire: Wire, kind: ListingKind, body: str) -> None:
    wire.script = answering(200, body)

    with pytest.raises(Refused, match="malformed"):
        Reader(wire.host, kind).pages("org/")


@pytest.mark.parametrize("kind", KINDS)
def test_a_name_that_is_none_is_refused(wire: Wire, kind: ListingKind) -> None:
    entry = {"name": "../etc", "path": "../etc", "namespace": "org"}
    both = {"results": [entry], "repositories": [entry], "next": None}
    wire.script = as_json([entry] if kind in {"gitlab", "harbor"} else both)

    with pytest.raises(Unsafe):
        Reader(wire.host, kind).pages("org/")


@pytest.mark.parametrize("kind", ["dockerhub", "quay", "gitlab"])
def test_what_is_listed_by_namespace_is_not_listed_as_a_whole(wire: Wire, kind: ListingKind) -> None:
    with pytest.raises(Refused, match=r"at a time; write .*/NAME/\*"):
        Reader(wire.host, kind).pages()

    assert not wire.calls


@pytest.mark.parametrize("kind", KINDS)
def test_a_token_goes_to_the_api_it_is_for_and_no_account_with_it(wire: Wire, kind: ListingKind) -> None:
    wire.script = answering(401, b"", {"WWW-Authenticate": 'Basic realm="give me"'})

    with pytest.raises(Unauthorized) as caught:
        Reader("registry.example", kind, wire.host, accounts=Someone(), token=SECRET).pages("org/")

    assert {call.headers.get("authorization") for call in wire.calls} == {f"Bearer {SECRET}"}
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_registry_s_account_goes_to_no_other_host(wire: Wire, kind: ListingKind) -> None:
    wire.script = answering(401, b"", {"WWW-Authenticate": 'Basic realm="give me"'})

    with pytest.raises(Unauthorized):
        Reader("registry.example", kind, wire.host, accounts=Someone()).pages("org/")

    assert {call.headers.get("authorization") for call in wire.calls} == {None}


def test_harbor_knows_us_by_our_account_at_once(wire: Wire) -> None:
    def script(call: Call) -> None:
        as_json([{"name": "org/app"}] if "authorization" in call.headers else [])(call)

    wire.script = script

    assert Reader(wire.host, "harbor", accounts=Someone()).pages("org/") == [["org/app"]]
    assert len(wire.calls) == 1


def test_an_api_is_not_followed_elsewhere(wire: Wire) -> None:
    wire.script = answering(307, b"", {"Location": "http://127.0.0.1:1/"})

    with pytest.raises(Refused):
        Reader(wire.host, "harbor", accounts=Someone()).pages("org/")

    assert len(wire.calls) == 1


class Broken:
    """An account whose password cannot be had."""

    def lookup(self, host: str) -> Credential | None:
        from registry.credentials import MissingCredential

        raise MissingCredential(f"registry {host}: environment variable TOKEN is not set; export it")


def test_a_token_that_cannot_be_had_is_named(wire: Wire) -> None:
    with pytest.raises(Unauthorized, match="TOKEN is not set"):
        Reader(wire.host, "harbor", accounts=Broken()).pages("org/")
