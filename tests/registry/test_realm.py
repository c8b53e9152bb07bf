from __future__ import annotations

import socket
from typing import Any

import pytest

from registry.endpoint import Endpoint
from registry.realm import ForbiddenRealm, check_realm

PUBLIC, PRIVATE = "93.184.216.34", "10.0.0.5"


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Names and their addresses; every other name is public."""
    known: dict[str, str] = {}

    def resolve(host: str, port: int, **_: Any) -> list[Any]:
        address = known.get(host, PUBLIC)
        if address == "unknown":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return [(family, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return known


@pytest.mark.parametrize(
    ("host", "realm"),
    [
        ("ghcr.io", "https://ghcr.io/token"),
        ("ghcr.io", "https://ghcr.io:8443/token"),
        ("docker.io", "https://auth.docker.io/token"),
        ("registry.gitlab.com", "https://gitlab.com/jwt/auth"),
        ("lscr.io", "https://ghcr.io/token"),
        ("quay.io", "https://quay.io/v2/auth"),
        ("us-docker.pkg.dev", "https://us-docker.pkg.dev/v2/token"),
        ("acme.azurecr.io", "https://acme.azurecr.io/oauth2/token"),
        ("registry.acme.co.uk", "https://auth.acme.co.uk/token"),
        ("registry.acme.example:5000", "https://auth.acme.example/token"),
        ("10.0.0.5:5000", "https://10.0.0.5:5001/token"),
        ("[fd00::5]:5000", "https://[fd00::5]/token"),
        ("localhost:5000", "http://localhost:5001/token"),
        ("127.0.0.1:5000", "http://localhost:5001/token"),
        ("localhost:5000", "https://127.0.0.1:5001/token"),
    ],
)
def test_a_realm_of_the_same_site_or_a_known_one_is_asked(host: str, realm: str) -> None:
    assert check_realm(realm, Endpoint(host)) == realm


@pytest.mark.parametrize(
    ("host", "realm", "complaint"),
    [
        ("ghcr.io", "http://ghcr.io/token", "not https"),
        ("ghcr.io", "ftp://ghcr.io/token", "not https"),
        ("ghcr.io", "file:///etc/passwd", "names no host"),
        ("ghcr.io", "//ghcr.io/token", "without a scheme"),
        ("ghcr.io", "", "names no host"),
        ("ghcr.io", "https://user:pw@ghcr.io/token", "user name or a password"),
        ("ghcr.io", "https://@ghcr.io/token", "user name or a password"),
        ("ghcr.io", "https://ghcr.io@evil.example/token", "user name or a password"),
        ("ghcr.io", "https://evil.example/token", "add evil.example to token_hosts"),
        ("ghcr.io", "https://ghcr.io.evil.example/token", "another site"),
        ("ghcr.io", "https://evilghcr.io/token", "another site"),
        ("ghcr.io", "https://evil.io/token", "another site"),
        ("ghcr.io", "https://evil.example\\@ghcr.io/token", "no URL has"),
        ("ghcr.io", "https://ghcr.io\r\nX: y/token", "no URL has"),
        ("ghcr.io", "https://ghcr.io:port/token", "malformed"),
        ("ghcr.io", "https://gḣcr.io/token", "no URL has"),
        ("registry.acme.co.uk", "https://auth.evil.co.uk/token", "another site"),
        ("acme.azurecr.io", "https://evil.azurecr.io/token", "another site"),
        ("us-docker.pkg.dev", "https://evil.pkg.dev/token", "another site"),
        ("docker.io", "https://ghcr.io/token", "another site"),
        ("ghcr.io", "https://127.0.0.1/token", "another site"),
        ("ghcr.io", "https://169.254.169.254/latest/meta-data", "another site"),
        ("ghcr.io", "https://[::1]/token", "another site"),
        ("ghcr.io", "https://0.0.0.0/token", "another site"),
        ("10.0.0.5:5000", "https://10.0.0.6/token", "another site"),
        ("10.0.0.5:5000", "https://10.9.0.5/token", "another site"),
        ("registry", "https://auth/token", "another site"),
    ],
)
def test_a_realm_that_rule_1_forbids_is_refused_with_the_reason(
    host: str, realm: str, complaint: str
) -> None:
    with pytest.raises(ForbiddenRealm, match=complaint):
        check_realm(realm, Endpoint(host, token_hosts=("auth.trusted.example",)))


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        PRIVATE,
        "169.254.169.254",
        "0.0.0.0",
        "::1",
        "fe80::1",
        "fd00::1",
        "::ffff:10.0.0.5",
        "100.64.0.1",
    ],
)
def test_a_name_of_the_same_site_that_leads_inside_the_network_is_refused(
    names: dict[str, str], address: str
) -> None:
    names["auth.acme.example"] = address

    with pytest.raises(ForbiddenRealm, match="not at a public address"):
        check_realm("https://auth.acme.example/token", Endpoint("registry.acme.example"))


def test_a_loopback_realm_is_refused_even_for_a_plain_registry_elsewhere() -> None:
    with pytest.raises(ForbiddenRealm, match="another site"):
        check_realm("http://localhost/token", Endpoint("registry.acme.example", plain_http=True))


def test_a_plain_registry_may_have_a_plain_realm() -> None:
    endpoint = Endpoint("registry.acme.example:5000", plain_http=True)

    assert check_realm("http://registry.acme.example:5001/token", endpoint)


def test_the_registrys_own_host_may_be_inside_the_network(names: dict[str, str]) -> None:
    names["registry.acme.example"] = PRIVATE

    assert check_realm("https://registry.acme.example/token", Endpoint("registry.acme.example"))


@pytest.mark.parametrize("listed", ["auth.other.example", "AUTH.other.example", "auth.other.example:8443"])
def test_a_listed_host_may_be_of_another_site_and_inside_the_network(
    names: dict[str, str], listed: str
) -> None:
    names["auth.other.example"] = PRIVATE
    endpoint = Endpoint("registry.acme.example", token_hosts=(listed,))

    assert check_realm("https://auth.other.example:8443/token", endpoint)


def test_a_listed_host_with_a_port_is_that_port_alone() -> None:
    endpoint = Endpoint("registry.acme.example", token_hosts=("auth.other.example:8443",))

    with pytest.raises(ForbiddenRealm, match="another site"):
        check_realm("https://auth.other.example/token", endpoint)


def test_a_name_that_only_a_proxy_knows_is_left_to_it(names: dict[str, str]) -> None:
    names["auth.acme.example"] = "unknown"

    assert check_realm("https://auth.acme.example/token", Endpoint("registry.acme.example"))
