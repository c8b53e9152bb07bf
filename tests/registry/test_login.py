"""Real registries that want to know who asks: with passwords of their own, and with a token server."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from registry.connections import Connections
from registry.credentials import Credential
from registry.errors import Denied, NotFound, RegistryError, Throttled, Transient, Unauthorized, Unreachable
from registry.images import Image, build_image, push
from registry.repository import Repository
from tests.conftest import RegistryFactory
from tests.support.registries import DockerRegistry, RegistryOptions
from tests.support.token_server import LEEWAY_S, Answer, LoopbackTokenServer, User
from tests.support.token_wire import Held
from tests.support.waiting import until

ANN = Credential("ann", "s3cr3t:Value")
BOB = Credential("bob", "pw")
IMAGE = build_image({"hello": b"hello"})

Repositories = Callable[[str], Repository]
LogIn = Callable[..., Repositories]


@pytest.fixture
def log_in() -> Iterator[LogIn]:
    """``log_in(registry, credential)("a/b")``: one worker's repositories, which share what was learned."""
    with ExitStack() as stack:

        def connect(registry: DockerRegistry, credential: Credential | None = None) -> Repositories:
            connections = Connections({}, Held(credential, registry.host))
            stack.callback(connections.close)
            return lambda path: connections.open(f"{registry.host}/{path}")

        yield connect


def refusals(registry: DockerRegistry) -> int:
    return sum(request.status == 401 for request in registry.requests())


def pulled(repository: Repository, image: Image, tag: str = "1.0") -> None:
    manifest = repository.manifest(tag)
    assert manifest.digest == image.digest
    for blob in image.blobs:
        with repository.open_blob(blob.descriptor) as chunks:
            assert b"".join(bytes(chunk) for chunk in chunks) == b"".join(blob.open())


class TestPasswords:
    @pytest.fixture
    def registry(self, registry_factory: RegistryFactory) -> DockerRegistry:
        return registry_factory(RegistryOptions(users=((ANN.username, ANN.password),)))

    def test_an_image_is_pushed_and_pulled_after_one_refusal(
        self, registry: DockerRegistry, log_in: LogIn
    ) -> None:
        repositories = log_in(registry, ANN)

        push(repositories("a/b"), IMAGE, "1.0")
        pulled(repositories("a/b"), IMAGE)
        push(repositories("c/d"), IMAGE, "1.0")

        assert refusals(registry) == 1

    def test_a_wrong_password_is_refused_by_name(self, registry: DockerRegistry, log_in: LogIn) -> None:
        with pytest.raises(Unauthorized, match=rf"{registry.host}/a/b: user ann was refused"):
            log_in(registry, Credential("ann", "wrong"))("a/b").resolve("1.0")
        assert refusals(registry) == 2

    def test_without_credentials_the_error_says_where_they_are_looked_for(
        self, registry: DockerRegistry, log_in: LogIn
    ) -> None:
        with pytest.raises(Unauthorized, match=rf"no credentials for {registry.host} in the fleet file"):
            log_in(registry)("a/b").resolve("1.0")


class TestTokens:
    @pytest.fixture
    def server(self, scratch: Path) -> Iterator[LoopbackTokenServer]:
        users = {
            "ann": User(ANN.password, {"*": "pull,push,delete"}, identity_token="refresh-me"),
            "bob": User(BOB.password, {"a/*": "pull"}),
        }
        with LoopbackTokenServer(scratch, users) as server:
            server.anonymous = {"public/*": "pull"}
            yield server

    @pytest.fixture
    def registry(self, registry_factory: RegistryFactory, server: LoopbackTokenServer) -> DockerRegistry:
        return registry_factory(RegistryOptions(token=server.auth))

    @pytest.mark.parametrize(
        "credential", [ANN, Credential("", "", "refresh-me")], ids=["password", "identity"]
    )
    def test_an_image_is_pushed_and_pulled_after_one_refusal(
        self, registry: DockerRegistry, server: LoopbackTokenServer, log_in: LogIn, credential: Credential
    ) -> None:
        repositories = log_in(registry, credential)

        push(repositories("a/b"), IMAGE, "1.0")
        pulled(repositories("a/b"), IMAGE)
        push(repositories("c/d"), IMAGE, "1.0")

        assert refusals(registry) == 1
        assert {asked.user for asked in server.asked} == {"ann"}
        assert len(server.asked) == len({asked.scopes for asked in server.asked})

    def test_everybody_may_pull_what_is_public(self, registry: DockerRegistry, log_in: LogIn) -> None:
        push(log_in(registry, ANN)("public/a"), IMAGE, "1.0")

        pulled(log_in(registry)("public/a"), IMAGE)
        with pytest.raises(Unauthorized, match="not everybody may pull, push public/a: no credentials"):
            push(log_in(registry)("public/a"), build_image({"other": b""}), "2.0")

    def test_a_blob_is_mounted_from_another_repository(
        self, registry: DockerRegistry, server: LoopbackTokenServer, log_in: LogIn
    ) -> None:
        repositories = log_in(registry, ANN)
        push(repositories("a/b"), IMAGE, "1.0")
        layer = IMAGE.layers[0].descriptor
        target = repositories("c/d")

        assert target.start_upload(layer, mount_from="a/b") is None

        assert target.blob_size(layer.digest) == layer.size
        assert set(server.asked[-1].scopes) == {"repository:a/b:pull", "repository:c/d:pull,push"}

    def test_who_may_only_pull_is_denied_the_push_and_told_so(
        self, registry: DockerRegistry, server: LoopbackTokenServer, log_in: LogIn
    ) -> None:
        push(log_in(registry, ANN)("a/b"), IMAGE, "1.0")
        repository = log_in(registry, BOB)("a/b")
        pulled(repository, IMAGE)
        before = len(server.asked)

        with pytest.raises(Denied, match=rf"{registry.host}/a/b.*: user bob may not pull, push a/b"):
            repository.start_upload(IMAGE.config.descriptor)
        assert len(server.asked) == before + 1

    def test_a_wrong_password_is_refused_by_name(
        self, registry: DockerRegistry, server: LoopbackTokenServer, log_in: LogIn
    ) -> None:
        with pytest.raises(
            Unauthorized, match=rf"its token server 127\.0\.0\.1:{server.port} refused user ann"
        ):
            log_in(registry, Credential("ann", "wrong"))("a/b").resolve("1.0")
        assert len(server.asked) == 1

    def test_a_token_that_the_registry_no_longer_takes_is_replaced_in_the_middle_of_a_run(
        self, registry: DockerRegistry, server: LoopbackTokenServer, log_in: LogIn
    ) -> None:
        push(log_in(registry, ANN)("a/b"), IMAGE, "1.0")
        registry.forget_requests()
        server.asked.clear()
        server.life_s = 2 - LEEWAY_S
        repository = log_in(registry, ANN)("a/b")
        repository.resolve("1.0")
        stale = server.issued[-1]
        until(lambda: status(registry, "a/b", stale) == 401, 5, "the token's end")
        server.life_s = 300
        registry.forget_requests()

        pulled(repository, IMAGE)

        assert refusals(registry) == 1
        assert len(server.asked) == 2

    @pytest.mark.parametrize(("answer", "kind"), [(Answer(429), Throttled), (Answer(502), Transient)])
    def test_a_token_server_that_is_unwell_is_no_refusal(
        self,
        registry: DockerRegistry,
        server: LoopbackTokenServer,
        log_in: LogIn,
        answer: Answer,
        kind: type[RegistryError],
    ) -> None:
        repository = log_in(registry, ANN)("a/b")
        server.answer = answer
        with pytest.raises(kind):
            repository.resolve("1.0")
        server.answer = None

        with pytest.raises(NotFound):
            repository.resolve("1.0")

    def test_a_token_server_that_is_gone_is_worth_another_attempt(
        self, registry: DockerRegistry, server: LoopbackTokenServer, log_in: LogIn
    ) -> None:
        server.stop()

        with pytest.raises(Unreachable, match="its token server"):
            log_in(registry, ANN)("a/b").resolve("1.0")

    def test_a_redirect_of_the_token_server_leads_nowhere(
        self, registry: DockerRegistry, server: LoopbackTokenServer, log_in: LogIn
    ) -> None:
        server.answer = Answer(307, headers={"Location": f"{server.realm}?elsewhere"})

        with pytest.raises(RegistryError, match="never followed"):
            log_in(registry, ANN)("a/b").resolve("1.0")
        assert len(server.asked) == 1


def status(registry: DockerRegistry, path: str, token: str) -> int:
    """What the registry answers to the bare token."""
    connection = http.client.HTTPConnection(registry.host, timeout=5)
    try:
        connection.request("GET", f"/v2/{path}/tags/list", headers={"Authorization": f"Bearer {token}"})
        return connection.getresponse().status
    finally:
        connection.close()
