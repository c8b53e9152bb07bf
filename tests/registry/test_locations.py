from __future__ import annotations

import httpx
import pytest

from registry.endpoint import Endpoint
from registry.locations import (
    ForbiddenLocation,
    is_same_origin,
    next_page,
    redirected,
    upload_location,
    with_query,
)

GHCR = Endpoint("ghcr.io", upload_hosts=("storage.example", "minio.example:9000"))
HERE = httpx.URL("https://ghcr.io/v2/team/app/blobs/uploads/")


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("/v2/x?y=%2F%3D", "https://ghcr.io/v2/x?y=%2F%3D"),
        ("abc?y=z", "https://ghcr.io/v2/team/app/blobs/uploads/abc?y=z"),
        ("https://ghcr.io:443/v2/x", "https://ghcr.io/v2/x"),
        ("HTTPS://GHCR.IO/v2/x#part", "https://ghcr.io/v2/x"),
        ("//ghcr.io/v2/x", "https://ghcr.io/v2/x"),
        ("http://ghcr.io/v2/x", "https://ghcr.io/v2/x"),  # as behind a TLS proxy that does not say so
    ],
)
def test_an_upload_on_the_same_host_goes_on_with_credentials(location: str, expected: str) -> None:
    assert upload_location(GHCR, HERE, location) == (httpx.URL(expected), True)


@pytest.mark.parametrize(
    "location",
    ["https://storage.example/x?sig=1", "https://storage.example:444/", "https://minio.example:9000/x"],
)
def test_an_upload_to_a_configured_host_goes_on_without(location: str) -> None:
    assert upload_location(GHCR, HERE, location) == (httpx.URL(location), False)


@pytest.mark.parametrize(
    "location",
    [
        "https://evil.example/x",
        "https://ghcr.io.evil.example/x",
        "https://ghcr.io:444/x",
        "http://ghcr.io:8080/x",
        "http://storage.example/x",
        "https://minio.example/x",
        "https://ghcr.io@evil.example/x",
        "https://someone:secret@ghcr.io/x",
        "ftp://ghcr.io/x",
        "https://gh cr.io/x",
    ],
)
def test_an_upload_anywhere_else_is_refused(location: str) -> None:
    with pytest.raises(ForbiddenLocation) as caught:
        upload_location(GHCR, HERE, location)

    assert "secret" not in str(caught.value)


def test_a_redirect_may_leave_the_host_but_not_tls() -> None:
    assert redirected(HERE, "https://cdn.example/x?sig=a%2Bb") == httpx.URL("https://cdn.example/x?sig=a%2Bb")
    assert redirected(httpx.URL("http://a.example/"), "https://b.example/").host == "b.example"
    for location in ("http://cdn.example/x", "http://ghcr.io/x"):
        with pytest.raises(ForbiddenLocation, match="from https to http"):
            redirected(HERE, location)


def test_a_next_page_stays_on_the_host() -> None:
    assert next_page(GHCR, HERE, "/v2/x?last=b") == httpx.URL("https://ghcr.io/v2/x?last=b")
    assert next_page(GHCR, HERE, "http://ghcr.io/v2/x") == httpx.URL("https://ghcr.io/v2/x")
    for link in ("https://storage.example/x", "https://ghcr.io:444/v2/x", "//evil.example/x"):
        with pytest.raises(ForbiddenLocation):
            next_page(GHCR, HERE, link)


def test_credentials_are_bound_to_scheme_host_and_port() -> None:
    base = httpx.URL("https://ghcr.io")

    assert is_same_origin(httpx.URL("https://ghcr.io:443/x"), base)
    for other in ("http://ghcr.io", "https://ghcr.io:444", "https://a.ghcr.io"):
        assert not is_same_origin(httpx.URL(other), base)


def test_a_signed_query_is_kept_byte_for_byte() -> None:
    signed = httpx.URL("https://ghcr.io/x?_state=a%2Fb%3D%3d+c&d")

    assert with_query(signed, "digest=sha256:ab").query == signed.query + b"&digest=sha256:ab"
    assert with_query(httpx.URL("https://ghcr.io/x"), "digest=sha256:ab").query == b"digest=sha256:ab"
