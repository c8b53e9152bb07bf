"""What senders say, by payloads as they document them (distribution's as docker-registry 2.8 sent it)."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from config.webhooks import USUAL_REGISTRIES, WebhookKind, secret_fault
from tasks.pushes import Push
from workers.serve.proofs import OLDEST_S, Refused, check_body, check_sender
from workers.serve.senders import MOST_ID, MOST_PUSHES, Malformed, Told, few, read

PAYLOADS = Path(__file__).parent / "webhooks"
DIGEST = "sha256:97582095046f54fb5ec67a053851aac68034ea010482aee091f7d986c52575be"
SECRET = "0123456789abcdef-unlike"
SIGNING = f"whsec_{base64.b64encode(b'a key of thirty-two bytes, or so').decode()}"
NOW = 1_800_000_000.0
PACKAGE = {"x-github-event": "registry_package"}


def payload(name: str) -> bytes:
    return (PAYLOADS / f"{name}.json").read_bytes()


def told(kind: WebhookKind, name: str, headers: Mapping[str, str] = PACKAGE) -> tuple[Push, ...]:
    return read(kind, USUAL_REGISTRIES.get(kind, "r.example"), payload(name), headers).pushes


@pytest.mark.parametrize(
    ("kind", "name", "host", "digest"),
    [
        ("distribution", "distribution", "r.example", DIGEST),
        ("dockerhub", "dockerhub", "docker.io", ""),
        ("github", "github", "ghcr.io", DIGEST),
        ("harbor", "harbor", "r.example", DIGEST),
        ("harbor", "harbor-cloudevents", "r.example", DIGEST),
        ("quay", "quay", "quay.io", ""),
    ],
)
def test_a_push_is_read_from_what_each_sender_documents(
    kind: WebhookKind, name: str, host: str, digest: str
) -> None:
    (push,) = told(kind, name)
    assert (push.repository, push.tag, push.digest) == (f"{host}/team/app", "v1", digest)
    assert not push.travels


def test_github_tells_the_same_by_either_of_its_events() -> None:
    (one,) = told("github", "github")
    (other,) = told("github", "github-package", {"x-github-event": "package"})
    assert (one.repository, one.tag) == (other.repository, other.tag) == ("ghcr.io/team/app", "v1")
    assert told("github", "github", {"x-github-event": "ping"}) == ()


def test_a_pipeline_of_gitlab_stands_for_all_repositories_of_its_project() -> None:
    (push,) = told("gitlab", "gitlab")
    assert (push.repository, push.tag, push.has_below) == ("r.example/team/app", "", True)


def test_pulls_mounts_and_pushes_of_blobs_are_no_news() -> None:
    assert told("distribution", "distribution-pull") == ()


def changed(name: str, *where: str | int, to: object) -> bytes:
    document: Any = json.loads(payload(name))
    part = document
    for key in where[:-1]:
        part = part[key]
    part[where[-1]] = to
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("harbor", b'{"type": "SCANNING_COMPLETED", "event_data": 3}'),
        ("harbor", b'{"type": "DELETE_ARTIFACT", "event_data": {}}'),
        ("quay", b'{"build_id": "1", "repository": "team/app"}'),
        ("gitlab", b'{"object_kind": "push", "project": 3}'),
        ("gitlab", changed("gitlab", "object_attributes", "status", to="failed")),
        ("gitlab", changed("gitlab", "project", "path_with_namespace", to="team/_app")),
        ("github", changed("github", "registry_package", "package_type", to="npm")),
        ("github", changed("github", "registry_package", "package_version", to=None)),
        ("github", changed("github", "action", to="deleted")),
    ],
)
def test_other_news_of_a_sender_is_none_of_ours(kind: WebhookKind, body: bytes) -> None:
    assert read(kind, "r.example", body, PACKAGE) == Told()


@pytest.mark.parametrize(
    ("kind", "body", "names"),
    [
        ("distribution", b"", "JSON"),
        ("distribution", b"[]", "object"),
        ("distribution", b'{"events": 3}', "events"),
        ("distribution", b'{"events": [{"action": "push"}]}', "events.0: target"),
        ("distribution", changed("distribution", "events", 0, "target", "tag", to=7), "events.0: target.tag"),
        (
            "distribution",
            changed("distribution", "events", 0, "target", "repository", to="../etc"),
            "repository",
        ),
        ("distribution", changed("distribution", "events", 0, "target", "tag", to="a b"), "tag"),
        ("distribution", changed("distribution", "events", 0, "target", "digest", to="sha1:0"), "digest"),
        ("dockerhub", changed("dockerhub", "push_data", to={}), "push_data.tag"),
        ("dockerhub", changed("dockerhub", "repository", "repo_name", to="evil.example/x@y"), "repository"),
        ("dockerhub", changed("dockerhub", "repository", "repo_name", to="team/app:v2"), "repository"),
        ("github", b'{"action": "published"}', "registry_package"),
        ("github", changed("github", "registry_package", "name", to=None), "registry_package.name"),
        ("harbor", b'{"type": "PUSH_ARTIFACT"}', "event_data"),
        (
            "harbor",
            changed("harbor", "event_data", "repository", to={}),
            "event_data.repository.repo_full_name",
        ),
        ("quay", changed("quay", "updated_tags", to="v1"), "updated_tags"),
        ("gitlab", b'{"object_kind": "pipeline"}', "project"),
        ("quay", b'{"updated_tags": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "recursion"),
        ("quay", b'{"updated_tags": ["\xff"]}', "JSON"),
        ("quay", b'{"updated_tags": [], "n": ' + b"9" * 10_000 + b"}", "number"),
    ],
)
def test_a_body_that_cannot_be_read_is_refused_with_one_line_that_names_the_field(
    kind: WebhookKind, body: bytes, names: str
) -> None:
    with pytest.raises(Malformed) as caught:
        read(kind, "r.example", body, PACKAGE)
    text = str(caught.value)
    assert names in text
    assert "\n" not in text
    assert len(text) < 400


def several(name: str, *where: str, bad: object) -> bytes:
    """A delivery with what cannot be read before what can."""
    document: Any = json.loads(payload(name))
    part = document
    for key in where:
        part = part[key]
    part.insert(0, bad)
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("kind", "body", "fault"),
    [
        ("distribution", several("distribution", "events", bad=3), "events.0: "),
        (
            "distribution",
            several(
                "distribution",
                "events",
                bad={"action": "push", "target": {"repository": "a" * 255, "tag": "v1"}},
            ),
            "events.0: the repository's name: ",
        ),
        (
            "harbor",
            several("harbor", "event_data", "resources", bad={"tag": "a b"}),
            "resources.0: the tag: ",
        ),
        ("quay", several("quay", "updated_tags", bad=7), "updated_tags.0: "),
    ],
)
def test_what_cannot_be_read_takes_no_other_news_of_its_delivery_along(
    kind: WebhookKind, body: bytes, fault: str
) -> None:
    told = read(kind, "r.example", body, PACKAGE)
    assert [(one.repository, one.tag) for one in told.pushes] == [("r.example/team/app", "v1")]
    (line,) = told.faults
    assert line.startswith(fault)


@pytest.mark.parametrize("tag", [f"sha256-{'0' * 64}.sig", "sealift-keep.1.v1", f"sha256-{'0' * 64}"])
def test_signatures_and_keeper_tags_travel_with_others(tag: str) -> None:
    assert Push("r.example/app", tag).travels


def test_of_many_pushes_at_once_all_tags_of_each_repository_are_run_and_none_is_left_out() -> None:
    one: Any = json.loads(payload("distribution"))["events"][0]
    events = [
        {**one, "target": {**one["target"], "repository": name, "tag": f"v{number}"}}
        for number in range(MOST_PUSHES)
        for name in ("team/app", "team/other")
    ]
    body = json.dumps({"events": events}).encode()
    pushes = few(read("distribution", "r.example", body, {}).pushes)
    assert list(pushes) == [Push("r.example/team/app"), Push("r.example/team/other")]
    body = json.dumps({"events": events[:MOST_PUSHES]}).encode()
    assert len(few(read("distribution", "r.example", body, {}).pushes)) == MOST_PUSHES


def test_no_id_is_kept_that_is_longer_than_one_of_ours() -> None:
    def of(own: str) -> str:
        (push,) = read(
            "distribution", "r.example", changed("distribution", "events", 0, "id", to=own), {}
        ).pushes
        return push.delivery

    assert len(of("x" * 100_000)) == MOST_ID
    assert of("x" * 100_000) != of("x" * 100_001)
    assert of("x" * MOST_ID) == "x" * MOST_ID


def test_only_what_names_its_push_is_known_again() -> None:
    """Two pushes of a tag may be told by Docker Hub and Quay in the very same words."""
    assert told("distribution", "distribution")[0].delivery == "b72efd84-bdbe-4697-ae8a-d208a2cb55ae"
    assert [told(kind, kind)[0].delivery == "" for kind in ("dockerhub", "quay")] == [True, True]
    assert told("github", "github")[0].delivery == told("github", "github")[0].delivery != ""


# -- who it is from


def proof(kind: WebhookKind, body: bytes, secret: str, at: float | str = NOW) -> tuple[dict[str, str], str]:
    """Headers, and the end of the address."""
    if kind in {"dockerhub", "quay"}:
        return {}, secret
    if kind == "github":
        return {"x-hub-signature-256": f"sha256={hmac.new(secret.encode(), body, 'sha256').hexdigest()}"}, ""
    if kind == "gitlab" and secret.startswith("whsec_"):
        stamp = at if isinstance(at, str) else str(int(at))
        key = base64.b64decode(secret.removeprefix("whsec_"))
        mac = hmac.new(key, b"id-1." + stamp.encode() + b"." + body, "sha256").digest()
        signature = f"v1,{base64.b64encode(mac).decode()}"
        return {
            "webhook-id": "id-1",
            "webhook-timestamp": stamp,
            "webhook-signature": f"v1,other {signature}",
        }, ""
    if kind == "gitlab":
        return {"x-gitlab-token": secret}, ""
    return {"authorization": f"Bearer {secret}"}, ""


def check(kind: WebhookKind, secret: str, brought: tuple[dict[str, str], str], body: bytes) -> None:
    headers, in_address = brought
    check_sender(kind, secret, headers, in_address)
    check_body(kind, secret, headers, body, NOW)


UNFIT_ENDS = [f"{SECRET}{one}x" for one in ("/", "?", "#", "%", " ", "\n", "\\", "ü")]
UNFIT_HEADERS = [f"{SECRET}ü", f" {SECRET}", f"{SECRET}\n", f"{SECRET}\tx"]
WAYS: list[tuple[WebhookKind, str]] = [
    ("distribution", SECRET),
    ("dockerhub", SECRET),
    ("github", f"{SECRET} ü"),
    ("gitlab", SECRET),
    ("gitlab", SIGNING),
    ("harbor", SECRET),
    ("quay", SECRET),
]


@pytest.mark.parametrize(("kind", "secret"), WAYS)
def test_each_sender_proves_who_it_is_in_its_own_way(kind: WebhookKind, secret: str) -> None:
    body = b"{}"
    check(kind, secret, proof(kind, body, secret), body)
    with pytest.raises(Refused) as caught:
        check(kind, secret, ({}, ""), body)
    assert caught.value.status == 401
    wrong = f"{secret[:-8]}AAAAAAA=" if secret == SIGNING else f"{secret}x"
    with pytest.raises(Refused) as caught:
        check(kind, secret, proof(kind, body, wrong), body)
    assert caught.value.status == 403
    assert secret not in str(caught.value)


@pytest.mark.parametrize(("kind", "secret"), [("github", SECRET), ("gitlab", SIGNING)])
def test_a_signature_is_about_one_body(kind: WebhookKind, secret: str) -> None:
    with pytest.raises(Refused):
        check(kind, secret, proof(kind, b"{}", secret), b"{} ")


def test_a_time_that_is_signed_has_to_be_about_now() -> None:
    body = b"{}"
    check("gitlab", SIGNING, proof("gitlab", body, SIGNING, NOW - OLDEST_S), body)
    for at in (NOW - OLDEST_S - 1, NOW + OLDEST_S + 1, "9" * 400, "9" * 5000):
        with pytest.raises(Refused, match="webhook-timestamp"):
            check("gitlab", SIGNING, proof("gitlab", body, SIGNING, at), body)


@pytest.mark.parametrize(
    ("kind", "secret"),
    [
        *((kind, secret) for kind in ("dockerhub", "quay") for secret in UNFIT_ENDS),
        *((kind, secret) for kind in ("distribution", "gitlab", "harbor") for secret in UNFIT_HEADERS),
        ("gitlab", "whsec_not base64 at all"),
        ("gitlab", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS"),
        ("gitlab", "whsec_MfKQ9r8GKYqrTwjüPD8ILPZIo2LaLaSw"),
        ("github", "too short"),
    ],
)
def test_a_secret_that_nobody_could_prove_to_know_is_none(kind: WebhookKind, secret: str) -> None:
    fault = secret_fault(kind, secret)
    assert "; " in fault
    assert secret not in fault


@pytest.mark.parametrize(("kind", "secret"), WAYS)
def test_a_secret_that_can_be_proved_to_be_known_is_one(kind: WebhookKind, secret: str) -> None:
    assert secret_fault(kind, secret) == ""


def test_a_signing_token_is_never_taken_as_a_plain_one() -> None:
    with pytest.raises(Refused):
        check("gitlab", SIGNING, ({"x-gitlab-token": SIGNING}, ""), b"{}")


def test_harbor_may_send_the_secret_alone_and_whatever_address_it_says_it_has_counts_for_nothing() -> None:
    check("harbor", SECRET, ({"authorization": SECRET}, ""), b"{}")
    check("harbor", f"Bearer {SECRET}", ({"authorization": f"Bearer {SECRET}"}, ""), b"{}")
    with pytest.raises(Refused):
        check("harbor", SECRET, ({"x-forwarded-for": "127.0.0.1", "forwarded": "for=127.0.0.1"}, ""), b"{}")
    with pytest.raises(Refused):
        check("harbor", SECRET, ({"authorization": SECRET}, SECRET), b"{}")
