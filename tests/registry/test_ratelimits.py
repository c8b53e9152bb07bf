"""What registries say about the pulls that are left."""

from __future__ import annotations

import httpx
import pytest

from registry.ratelimits import RateLimits, rate_limits

HUB = {
    "ratelimit-limit": "100;w=21600",
    "ratelimit-remaining": "76;w=21600",
    "docker-ratelimit-source": "203.0.113.7",
}


def test_docker_hubs_headers_are_read() -> None:
    assert rate_limits(httpx.Headers(HUB)) == RateLimits(100, 76, 21600, "203.0.113.7")


def test_names_of_headers_may_be_spelled_in_any_case() -> None:
    spelled = {"RateLimit-Limit": "200; w=60", "RateLimit-Remaining": " 0 ; w = 60 "}

    assert rate_limits(httpx.Headers(spelled)) == RateLimits(200, 0, 60)


def test_no_header_is_no_limit() -> None:
    assert rate_limits(httpx.Headers({"content-length": "3"})) is None


@pytest.mark.parametrize(
    "remaining",
    [
        "",
        "many",
        "-1;w=60",
        "76",
        "76;w=",
        "76;w=0",
        "7.5;w=60",
        "76;w=60;x=1",
        "76,76;w=60",
        "9" * 30 + ";w=60",
    ],
)
def test_junk_is_not_believed(remaining: str) -> None:
    assert rate_limits(httpx.Headers({**HUB, "ratelimit-remaining": remaining})) is None


def test_a_limit_that_is_junk_is_at_least_what_is_left() -> None:
    limits = rate_limits(httpx.Headers({**HUB, "ratelimit-limit": "lots"}))

    assert limits == RateLimits(76, 76, 21600, "203.0.113.7")


@pytest.mark.parametrize("source", ["two words", "x" * 129, "tab\there"])
def test_a_source_that_could_be_anything_is_none(source: str) -> None:
    limits = rate_limits(httpx.Headers({**HUB, "docker-ratelimit-source": source}))

    assert limits is not None
    assert limits.source == ""
