from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

import registry.realm
from registry.credentials import Credential
from registry.dialing import ForbiddenAddress
from registry.errors import (
    Refused,
    RegistryError,
    Throttled,
    Transient,
    Unauthorized,
    Unreachable,
    Unsafe,
)
from registry.tokenserver import DEFAULT_LIFETIME_S
from tests.support.token_wire import (
    ANN,
    ANN_BASIC,
    OTHER,
    PULL,
    Reply,
    Wire,
    answering,
    authorizer,
    learned,
    refusal,
)


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("time.monotonic", lambda: self.now)


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture(autouse=True)
def _no_look_ups(monkeypatch: pytest.MonkeyPatch) -> None:
    """test_realm.py is about addresses."""
    monkeypatch.setattr(registry.realm, "_check_address", lambda *_: None)


class TestLifetime:
    def seconds_of_use(self, wire: Wire, clock: Clock) -> float:
        """For how long the first token is sent."""
        authority = authorizer(wire)
        learned(authority)
        for second in range(1, 1000):
            clock.now += 1
            if authority.header(PULL) != "Bearer t1":
                return second
        return 1000

    @pytest.mark.parametrize(
        ("document", "seconds"),
        [
            ({"expires_in": 300}, 285),
            ({"expires_in": 20}, 15),
            ({"expires_in": None}, DEFAULT_LIFETIME_S - 15),
            ({"expires_in": "soon"}, DEFAULT_LIFETIME_S - 15),
            ({"expires_in": -5}, DEFAULT_LIFETIME_S - 15),
            ({"expires_in": True}, DEFAULT_LIFETIME_S - 15),
            ({"expires_in": 10**400}, 1000),
        ],
    )
    def test_a_token_is_renewed_shortly_before_it_expires(
        self, wire: Wire, monkeypatch: pytest.MonkeyPatch, document: dict[str, Any], seconds: float
    ) -> None:
        wire.document = document

        assert self.seconds_of_use(wire, Clock(monkeypatch)) == seconds

    @pytest.mark.parametrize(
        ("issued_at", "seconds"),
        [
            ("2026-01-01T11:59:00Z", 225),
            ("2026-01-01T11:59:00.123456789+00:00", 226),
            ("2026-01-01T12:30:00Z", 285),
            ("0001-01-01T00:00:00Z", 285),
            ("2026-01-01T12:00:00", 285),
            ("yesterday", 285),
        ],
    )
    def test_the_age_of_a_token_counts_by_the_token_servers_clock(
        self, wire: Wire, monkeypatch: pytest.MonkeyPatch, issued_at: str, seconds: float
    ) -> None:
        numbers = iter(range(1, 1000))
        date = "Thu, 01 Jan 2026 12:00:00 GMT"
        wire.reply = lambda _: httpx.Response(
            200,
            json={"token": f"t{next(numbers)}", "expires_in": 300, "issued_at": issued_at},
            headers={"Date": date},
        )

        assert self.seconds_of_use(wire, Clock(monkeypatch)) == seconds

    def test_expired_tokens_are_forgotten(self, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = Clock(monkeypatch)
        authority = authorizer(wire)
        learned(authority)
        for number in range(50):
            authority.header((f"repository:many/{number}:pull",))
        clock.now += 300
        authority.header(OTHER)

        assert len(authority._cache._tokens) == 1


class TestTokenServer:
    @pytest.mark.parametrize(
        ("reply", "credential", "kind", "text"),
        [
            (answering(401), ANN, Unauthorized, "its token server auth.acme.example refused user ann (401)"),
            (answering(403), ANN, Unauthorized, "refused user ann"),
            (
                answering(400, b'{"error":"invalid_grant"}'),
                Credential("", "", "x"),
                Unauthorized,
                "identity token",
            ),
            (answering(401), None, Unauthorized, "no credentials for r.acme.example in the fleet file"),
            (answering(400), ANN, Refused, "gives no token"),
            (answering(404), None, Refused, "gives no token"),
            (answering(500), None, Transient, "is unwell"),
            (answering(503), None, Transient, "is unwell"),
            (answering(429), None, Throttled, "asks for patience"),
            (answering(200, b"<html>"), None, Refused, "its answer is not JSON"),
            (answering(200, b"[]"), None, Refused, "not a JSON object"),
            (answering(200, b"{}"), None, Refused, "holds no token"),
            (answering(200, b'{"token": ["x"]}'), None, Refused, "holds no token"),
            (answering(200, b'{"token": "x\\r\\nHost: evil"}'), None, Refused, "holds no token"),
            (answering(200, b'{"token": "\\u00e4"}'), None, Refused, "holds no token"),
            (answering(200, b"[" * 60_000), None, Refused, "its answer is not JSON"),
        ],
    )
    def test_its_failure_is_named_with_its_host(
        self, wire: Wire, reply: Reply, credential: Credential | None, kind: type[RegistryError], text: str
    ) -> None:
        wire.reply = reply

        with pytest.raises(RegistryError) as caught:
            learned(authorizer(wire, credential))

        assert type(caught.value) is kind
        assert text in str(caught.value)
        assert str(caught.value).startswith("r.acme.example/a/b: its token server auth.acme.example")

    @pytest.mark.parametrize(
        ("headers", "seconds"),
        [
            ({"retry-after": "7200"}, 7200.0),
            ({"retry-after": "Thu, 01 Jan 2026 12:01:30 GMT", "date": "Thu, 01 Jan 2026 12:00:00 GMT"}, 90.0),
            ({"retry-after": "Thu, 01 Jan 2015 12:01:30 GMT"}, 0.0),
            ({"retry-after": "later"}, None),
            ({}, None),
        ],
    )
    def test_its_wish_for_patience_is_passed_on(
        self, wire: Wire, headers: dict[str, str], seconds: float | None
    ) -> None:
        wire.reply = answering(429, headers=headers)

        with pytest.raises(Throttled) as caught:
            learned(authorizer(wire))

        assert caught.value.retry_after_s == seconds

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_its_redirects_are_never_followed(self, wire: Wire, status: int) -> None:
        wire.reply = answering(status, headers={"location": "https://evil.example/"})

        with pytest.raises(Unsafe, match="redirect, which is never followed"):
            learned(authorizer(wire, ANN))
        assert wire.count == 1

    def test_a_body_above_64_kib_is_not_read(self, wire: Wire) -> None:
        wire.reply = answering(200, json.dumps({"token": "t", "x": "y" * 65536}).encode())

        with pytest.raises(Refused, match="larger than 64 KiB"):
            learned(authorizer(wire))

    @pytest.mark.parametrize(
        "realm",
        [
            "http://auth.acme.example/",
            "https://u:p@auth.acme.example/",
            "https://evil.example/",
            "https://10.0.0.1/",
            "",
        ],
    )
    def test_a_realm_that_rule_1_forbids_gets_no_request_at_all(self, wire: Wire, realm: str) -> None:
        authority = authorizer(wire, ANN)

        with pytest.raises(Unsafe, match=r"its token server .* may not be asked"):
            authority.challenged(refusal(f'Bearer realm="{realm}",service="s"'), PULL, None)
        assert wire.count == 0
        assert authority.header(PULL) is None

    def test_a_forbidden_address_found_while_connecting_is_unsafe(self, wire: Wire) -> None:
        def dial(_: httpx.Request) -> httpx.Response:
            raise ForbiddenAddress("auth.acme.example is at no public address")

        wire.reply = dial

        with pytest.raises(Unsafe, match="no public address"):
            learned(authorizer(wire, ANN))

    def test_a_token_server_that_cannot_be_reached_is_worth_another_attempt(self, wire: Wire) -> None:
        def cut(_: httpx.Request) -> httpx.Response:
            raise httpx.ConnectError("https://u:s3cr3tValue@auth.acme.example refused")

        wire.reply = cut

        with pytest.raises(Unreachable, match=r"its token server auth\.acme\.example: ") as caught:
            learned(authorizer(wire, ANN))
        assert "s3cr3tValue" not in str(caught.value)

    def test_docker_hub_is_asked_at_its_auth_host(self, wire: Wire) -> None:
        challenge = 'Bearer realm="https://auth.docker.io/token",service="registry.docker.io"'

        assert learned(authorizer(wire, ANN, "docker.io"), challenge=challenge) == "Bearer t1"
        assert wire.requests[0].headers["authorization"] == ANN_BASIC
