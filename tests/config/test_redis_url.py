"""What a Redis URL may say, and that a wrong one is refused without a word of what may be a secret."""

from __future__ import annotations

import pytest

from config.redis_url import RedisServer, Tls, parse_redis_url
from config.settings import Settings

SENTINELS = (("one", 26379), ("two", 26380), ("::1", 26379))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://cache", RedisServer((("cache", 6379),))),
        ("redis://cache:1/2", RedisServer((("cache", 1),), 2)),
        ("redis://:p%2Fw@cache", RedisServer((("cache", 6379),), password="p/w")),
        ("redis://me:pw@cache", RedisServer((("cache", 6379),), username="me", password="pw")),
        ("rediss://cache", RedisServer((("cache", 6379),), tls=Tls())),
        ("redis+socket:///run/v.sock?virtual_host=3", RedisServer((), 3, socket="/run/v.sock")),
        ("unix:///run/v.sock?db=3", RedisServer((), 3, socket="/run/v.sock")),
    ],
)
def test_a_server_is_found_in_its_url(url: str, expected: RedisServer) -> None:
    assert parse_redis_url(url) == expected


def test_sentinels_are_a_list_and_what_one_of_them_says_holds_for_all() -> None:
    found = parse_redis_url(
        "sentinel://me:pw@one;sentinel://two:26380;sentinel://[::1]/4"
        "?master_name=fleet&sentinel_username=s&sentinel_password=s%3Bw"
    )

    assert found == RedisServer(SENTINELS, 4, "me", "pw", None, "fleet", "s", "s;w")
    assert found.celery_url == (
        "sentinel://me:pw@one:26379/4;sentinel://me:pw@two:26380/4;sentinel://me:pw@[::1]:26379/4"
    )
    assert parse_redis_url(f"{found.celery_url}?master_name=fleet").hosts == SENTINELS


@pytest.mark.parametrize(
    "url",
    [
        "rediss://cache/0?ssl_ca_certs=/ca.pem&ssl_certfile=/c.pem&ssl_keyfile=/k.pem",
        "sentinel://one?master_name=m&ssl_ca_certs=/ca.pem&ssl_certfile=/c.pem&ssl_keyfile=/k.pem",
    ],
)
def test_tls_takes_the_options_that_redis_py_takes(url: str) -> None:
    assert parse_redis_url(url).tls == Tls("/ca.pem", "/c.pem", "/k.pem")


@pytest.mark.parametrize("reqs", ["none", "CERT_NONE"])
def test_a_certificate_that_is_not_looked_at_is_not_asked_for_its_name_either(reqs: str) -> None:
    tls = parse_redis_url(f"rediss://cache?ssl_cert_reqs={reqs}").tls

    assert tls is not None
    assert (tls.cert_reqs, tls.check_hostname) == ("none", False)


def test_sentinels_may_have_tls_without_files() -> None:
    assert parse_redis_url("sentinel://one?master_name=m&ssl=true").tls == Tls()
    assert parse_redis_url("sentinel://one?master_name=m&ssl=false").tls is None


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "not a Redis URL"),
        ("hunter2", "not a Redis URL"),
        ("http://:hunter2@cache", "not a Redis URL"),
        ("redis://:hunter2@", "no host"),
        ("redis://:hunter2@cache:x", "cannot be read"),
        ("redis://:hun?ter2@cache", "write : /"),
        ("redis://:hun#ter2@cache", "write : /"),
        ("redis://:hun;ter2@cache", "write : /"),
        ("redis://:hunter2@cache/0?hunter2=1", "an unknown option"),
        ("redis://:hunter2@cache/0?ssl_ca_certs=/x", "an unknown option"),
        ("redis://:hunter2@cache/hunter2", "is a number"),
        ("redis://:hunter2@a;redis://b", "only sentinel://"),
        ("sentinel://:hunter2@a;redis://b?master_name=m", "only sentinel://"),
        ("sentinel://:hunter2@a", r"\?master_name=NAME"),
        ("sentinel://:hunter2@a;sentinel://:hunter3@b?master_name=m", "more than one password"),
        ("sentinel://:hunter2@a/1;sentinel://b/2?master_name=m", "more than one database"),
        ("sentinel://a?master_name=m;sentinel://b?master_name=n", "master_name stands there twice"),
        ("sentinel://a?master_name=m&ssl=perhaps", "ssl is true or false"),
        ("rediss://:hunter2@cache?ssl_cert_reqs=hunter2", "one of required, optional, none"),
        ("redis+socket://?virtual_host=0", "needs its path"),
    ],
)
def test_a_url_that_is_wrong_is_refused_and_not_repeated(
    url: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=why) as caught:
        parse_redis_url(url)
    assert "hun" not in str(caught.value)

    monkeypatch.setenv("SEALIFT_REDIS_URL", url)
    with pytest.raises(ValueError, match=why):
        Settings()


def test_no_password_is_in_what_people_are_shown() -> None:
    found = parse_redis_url(
        "sentinel://me:hunter2@one;sentinel://two?master_name=m&sentinel_password=hunter3"
    )

    assert str(found) == "sentinel://one:26379/0;sentinel://two:26379/0 (m)"
    assert "hunter" not in f"{found} {found!r} {found.bare_url}"
