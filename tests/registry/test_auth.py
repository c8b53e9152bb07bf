from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, parse_qsl

import httpx
import pytest

import registry.realm
from registry.auth import Authorizer
from registry.credentials import Credential, MissingCredential
from registry.endpoint import Endpoint
from registry.errors import Denied, RegistryError, Transient, Unauthorized
from tests.support.token_wire import (
    ANN,
    ANN_BASIC,
    BEARER,
    HOST,
    OTHER,
    PULL,
    PUSH,
    REALM,
    Held,
    Reply,
    Wire,
    answering,
    authorizer,
    learned,
    refusal,
)
from tests.support.waiting import until


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture(autouse=True)
def _no_look_ups(monkeypatch: pytest.MonkeyPatch) -> None:
    """test_realm.py is about addresses."""
    monkeypatch.setattr(registry.realm, "_check_address", lambda *_: None)


class TestBearer:
    def test_nothing_is_sent_before_the_registry_asks(self, wire: Wire) -> None:
        assert authorizer(wire, ANN).header(PULL) is None
        assert wire.count == 0

    def test_an_anonymous_token_is_asked_for_as_the_specification_says(self, wire: Wire) -> None:
        assert learned(authorizer(wire), (*PUSH, "repository:c/d:pull")) == "Bearer t1"

        (request,) = wire.requests
        assert (request.method, request.url.host, request.url.path) == ("GET", "auth.acme.example", "/token")
        assert parse_qsl(request.url.query.decode()) == [
            ("service", HOST),
            ("scope", "repository:a/b:pull,push"),
            ("scope", "repository:c/d:pull"),
        ]
        assert "authorization" not in request.headers
        assert request.extensions["timeout"]["read"] == 60.0

    def test_an_account_is_named_and_its_password_goes_to_the_token_server_alone(self, wire: Wire) -> None:
        assert learned(authorizer(wire, ANN)) == "Bearer t1"

        (request,) = wire.requests
        assert request.headers["authorization"] == ANN_BASIC
        assert parse_qs(request.url.query.decode())["account"] == ["ann"]

    def test_an_identity_token_is_exchanged_by_post_and_stays_out_of_the_url(self, wire: Wire) -> None:
        credential = Credential("0000", "", "refresh-me")

        assert learned(authorizer(wire, credential), (*PUSH, *OTHER)) == "Bearer t1"

        (request,) = wire.requests
        assert (request.method, str(request.url)) == ("POST", REALM)
        assert "authorization" not in request.headers
        assert dict(parse_qsl(request.content.decode())) == {
            "grant_type": "refresh_token",
            "service": HOST,
            "client_id": "sealift",
            "scope": "repository:a/b:pull,push repository:c/d:pull",
            "refresh_token": "refresh-me",
        }

    def test_a_realm_keeps_its_own_query(self, wire: Wire) -> None:
        learned(authorizer(wire), challenge=f'Bearer realm="{REALM}?tenant=1#x"')

        assert str(wire.requests[0].url) == f"{REALM}?tenant=1&scope=repository:a/b:pull"

    def test_an_access_token_is_a_token_too(self, wire: Wire) -> None:
        wire.reply = answering(200, b'{"access_token": "other"}')

        assert learned(authorizer(wire)) == "Bearer other"

    def test_once_the_challenge_is_known_new_repositories_cost_no_refusal(self, wire: Wire) -> None:
        authority = authorizer(wire)
        learned(authority)

        assert authority.header(OTHER) == "Bearer t2"
        assert authority.header(OTHER) == "Bearer t2"
        assert wire.scopes() == [list(PULL), list(OTHER)]

    def test_a_token_for_more_serves_less_and_not_the_other_way_round(self, wire: Wire) -> None:
        authority = authorizer(wire)
        mount = (*PUSH, *OTHER)

        assert learned(authority, mount) == "Bearer t1"
        assert [authority.header(s) for s in (PULL, PUSH, OTHER, mount[::-1])] == ["Bearer t1"] * 4
        assert authority.header(("repository:c/d:pull,push",)) == "Bearer t2"

    def test_tokens_of_two_accounts_are_not_mixed(self, wire: Wire) -> None:
        held = Held(ANN)
        authority = Authorizer(Endpoint(HOST), held, wire)
        assert learned(authority) == "Bearer t1"

        held.credential = Credential("bob", "pw")

        assert authority.header(PULL) == "Bearer t2"

    def test_a_realm_per_repository_is_remembered(self, wire: Wire) -> None:
        authority = authorizer(wire)
        realms = {scopes: f"{REALM}/{scopes[0][-6]}" for scopes in (PULL, OTHER)}
        for scopes, realm in realms.items():
            learned(authority, scopes, f'Bearer realm="{realm}"')
        wire.document = {"expires_in": 1}
        for scopes, realm in realms.items():
            authority._cache._tokens.clear()
            authority.header(scopes)
            assert str(wire.requests[-1].url).startswith(f"{realm}?")

    def test_bearer_goes_before_basic_where_both_are_offered(self, wire: Wire) -> None:
        authority = authorizer(wire, ANN)

        assert authority.challenged(refusal('Basic realm="r"', BEARER), PULL, None)
        assert authority.header(PULL) == "Bearer t1"


class TestRefusal:
    def test_a_cached_token_that_is_refused_is_replaced_once(self, wire: Wire) -> None:
        authority = authorizer(wire, ANN)
        learned(authority)
        cached = authority.header(PULL)

        assert authority.challenged(refusal(BEARER), PULL, cached)
        fresh = authority.header(PULL)
        assert (cached, fresh) == ("Bearer t1", "Bearer t2")
        with pytest.raises(Denied):
            authority.challenged(refusal(BEARER), PULL, fresh)
        assert wire.count == 2

    def test_a_token_that_worked_may_be_replaced_again_and_again(self, wire: Wire) -> None:
        authority = authorizer(wire, ANN)
        learned(authority)
        for number in range(2, 6):
            assert authority.challenged(refusal(BEARER), PULL, authority.header(PULL))
            assert authority.header(PULL) == f"Bearer t{number}"

    def test_without_credentials_a_refused_fresh_token_says_where_they_are_looked_for(
        self, wire: Wire
    ) -> None:
        authority = authorizer(wire)
        fresh = learned(authority, PUSH)

        with pytest.raises(Unauthorized) as caught:
            authority.challenged(refusal(BEARER), PUSH, fresh)

        assert str(caught.value) == (
            "r.acme.example/a/b: not everybody may pull, push a/b: no credentials for r.acme.example in the "
            "fleet file, docker's config.json or its credential helpers (401)"
        )
        assert wire.count == 1

    def test_a_token_fetched_before_the_request_is_fresh_as_well(self, wire: Wire) -> None:
        authority = authorizer(wire, ANN)
        learned(authority)
        mount = ("repository:c/d:pull", "repository:e/f:pull,push")
        fresh = authority.header(mount)

        with pytest.raises(Denied) as caught:
            authority.challenged(refusal(BEARER), mount, fresh)

        assert str(caught.value) == f"{HOST}/e/f: user ann may not pull c/d and pull, push e/f (401)"
        assert wire.count == 2

    def test_a_fresh_token_of_a_realm_that_has_moved_is_replaced(self, wire: Wire) -> None:
        authority = authorizer(wire, ANN)
        learned(authority)
        sent = authority.header(OTHER)
        moved = BEARER.replace("/token", "/new")

        assert authority.challenged(refusal(moved), OTHER, sent)
        with pytest.raises(Denied):
            authority.challenged(refusal(BEARER), OTHER, authority.header(OTHER))

    def test_a_registry_that_does_not_trust_its_token_server_is_blamed(self, wire: Wire) -> None:
        authority = authorizer(wire, ANN)
        fresh = learned(authority)

        with pytest.raises(Unauthorized, match="does not accept the token of its own token server"):
            authority.challenged(refusal(f'{BEARER},error="invalid_token"'), PULL, fresh)

    @pytest.mark.parametrize("challenges", [(), ("Negotiate",), ("Digest realm=x, nonce=y", "NTLM")])
    def test_a_challenge_of_another_kind_is_named(self, wire: Wire, challenges: tuple[str, ...]) -> None:
        with pytest.raises(Unauthorized, match="no supported way to authenticate"):
            authorizer(wire, ANN).challenged(refusal(*challenges), PULL, None)

    @pytest.mark.parametrize("challenge", [BEARER, 'Basic realm="r"'])
    def test_credentials_that_cannot_be_had_are_named(self, wire: Wire, challenge: str) -> None:
        authority = authorizer(wire, MissingCredential("environment variable TOKEN is not set"))

        with pytest.raises(Unauthorized, match="environment variable TOKEN is not set"):
            authority.challenged(refusal(challenge), PULL, None)


class TestThreads:
    def run(self, count: int, act: Callable[[], object]) -> list[object]:
        results: list[object] = []

        def collect() -> None:
            try:
                results.append(act())
            except (RegistryError, KeyboardInterrupt) as error:
                results.append(error)

        threads = [threading.Thread(target=collect) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        return results

    def answered_last(
        self, authority: Authorizer, wire: Wire, followers: int, reply: Reply, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Have ``wire`` reply only when ``followers`` threads wait for the one that asks it."""
        waiting: list[int] = []
        follow = authority._follow

        def noted(*given: Any) -> object:
            waiting.append(1)
            return follow(*given)

        def slow(request: httpx.Request) -> httpx.Response:
            until(lambda: len(waiting) == followers, 10, "the other threads")
            return reply(request)

        monkeypatch.setattr(authority, "_follow", noted)
        wire.reply = slow

    def test_many_threads_fetch_one_token(self, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
        authority = authorizer(wire, ANN)
        learned(authority)
        cached = authority.header(PULL)
        self.answered_last(authority, wire, 7, answering(200, b'{"token": "new"}'), monkeypatch)

        def refused() -> object:
            assert authority.challenged(refusal(BEARER), PULL, cached)
            return authority.header(PULL)

        assert self.run(8, refused) == ["Bearer new"] * 8
        assert wire.count == 2

    def test_a_thread_that_is_refused_late_takes_what_another_has_fetched(self, wire: Wire) -> None:
        authority = authorizer(wire, ANN)
        learned(authority)
        cached = authority.header(PULL)

        def refused() -> object:
            assert authority.challenged(refusal(BEARER), PULL, cached)
            return authority.header(PULL)

        assert self.run(1, refused) + self.run(1, refused) == ["Bearer t2"] * 2
        assert wire.count == 2

    def test_those_who_wait_for_a_token_get_its_failure_as_their_own(
        self, wire: Wire, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        authority = authorizer(wire, ANN)
        learned(authority)
        self.answered_last(authority, wire, 3, answering(503), monkeypatch)

        errors = self.run(4, lambda: authority.header(OTHER))

        assert [type(error) for error in errors] == [Transient] * 4
        assert len({id(error) for error in errors}) == 4
        assert wire.count == 2

    def test_when_the_one_that_asks_is_interrupted_the_others_may_try_again(
        self, wire: Wire, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupted(_: httpx.Request) -> httpx.Response:
            raise KeyboardInterrupt

        authority = authorizer(wire, ANN)
        learned(authority)
        self.answered_last(authority, wire, 2, interrupted, monkeypatch)

        errors = self.run(3, lambda: authority.header(OTHER))

        assert sorted(type(error).__name__ for error in errors) == [
            "KeyboardInterrupt",
            "Transient",
            "Transient",
        ]
        wire.reply = None
        assert authority.header(OTHER) == "Bearer t3"


class TestBasic:
    CHALLENGE = 'Basic realm="registry"'

    def test_the_password_is_sent_after_the_registrys_own_challenge_and_from_then_on(
        self, wire: Wire
    ) -> None:
        authority = authorizer(wire, ANN)

        assert learned(authority, challenge=self.CHALLENGE) == ANN_BASIC
        assert authority.header(OTHER) == ANN_BASIC
        assert wire.count == 0

    def test_a_refused_password_is_not_sent_again(self, wire: Wire) -> None:
        authority = authorizer(wire, ANN)
        sent = learned(authority, challenge=self.CHALLENGE)

        with pytest.raises(Unauthorized, match=r"r\.acme\.example/a/b: user ann was refused") as caught:
            authority.challenged(refusal(self.CHALLENGE), PULL, sent)
        assert "s3cr3tValue" not in repr(caught.value)

    def test_a_password_that_was_changed_meanwhile_is_tried(self, wire: Wire) -> None:
        held = Held(ANN)
        authority = Authorizer(Endpoint(HOST), held, wire)
        sent = learned(authority, challenge=self.CHALLENGE)

        held.credential = Credential("ann", "new")

        assert authority.challenged(refusal(self.CHALLENGE), PULL, sent)
        assert authority.header(PULL) != sent

    @pytest.mark.parametrize(
        ("credential", "complaint"),
        [(None, "no credentials for r.acme.example in"), (Credential("", "", "x"), "only an identity token")],
    )
    def test_without_a_password_there_is_nothing_to_send(
        self, wire: Wire, credential: Credential | None, complaint: str
    ) -> None:
        authority = authorizer(wire, credential)

        with pytest.raises(Unauthorized, match=complaint):
            authority.challenged(refusal(self.CHALLENGE), PULL, None)
        assert authority.header(PULL) is None
