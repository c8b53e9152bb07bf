from __future__ import annotations

import httpx
import pytest

from registry.urls import at, plain_at, plain_of

BASES = ("http://127.0.0.1:5000", "https://ghcr.io", "http://[::1]:5000", "https://registry-1.docker.io")


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize(
    "target",
    [
        "/v2/team/app/manifests/1.0-rc.1_x",
        f"/v2/a.b/c__d/blobs/sha256:{'0a' * 32}",
        "/v2/app/blobs/uploads/",
        f"/v2/app/blobs/uploads/?mount=sha256:{'0a' * 32}&from=other/app",
        "/v2/app/blobs/uploads/1f-2e?_state=aB-_3%3D%3D&x=a%2fb+c&empty=",
        "/v2/x?",
        "/",
    ],
)
def test_a_plain_url_is_what_httpx_would_have_made_of_it(base: str, target: str) -> None:
    built, parsed = at(base, target), httpx.URL(base + target)

    assert plain_at(base, target) == built == parsed
    assert plain_of(base, base + target) == parsed
    assert str(built) == str(parsed)
    assert (built.raw_path, built.netloc, built.query) == (parsed.raw_path, parsed.netloc, parsed.query)
    assert hash(built) == hash(parsed)


@pytest.mark.parametrize(
    "target",
    ["/a/../b", "/./a", "//evil.example/x", "/a b", "/a#part", "/a?b#c", "/a?b=%zz", "/ü", "/a\n", "x", "",
     "/a%2e%2e/b", "/a\\b", "/" + "a" * 9000],
)  # fmt: skip
def test_a_url_that_is_not_plain_is_left_to_the_parser(target: str) -> None:
    assert plain_at("https://ghcr.io", target) is None


@pytest.mark.parametrize(
    "location",
    [
        "https://ghcr.io.evil.example/x",
        "https://ghcr.io@evil.example/x",
        "https://ghcr.io:444/x",
        "http://ghcr.io/x",
        "HTTPS://ghcr.io/x",
        "https://ghcr.io",
        "https://ghcr.io//evil.example/x",
        "/v2/x",
    ],
)
def test_only_the_very_same_host_is_recognised_without_the_parser(location: str) -> None:
    assert plain_of("https://ghcr.io", location) is None
