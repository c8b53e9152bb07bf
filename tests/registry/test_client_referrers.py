"""The client against scripted registries: referrers by the API and by tag."""

from __future__ import annotations

import json
from typing import Any

import pytest

from registry.client import RemoteRepository
from registry.descriptor import OCI_INDEX, OCI_MANIFEST, Descriptor, digest_of
from registry.errors import (
    Refused,
)
from tests.support.scripted import (
    APP,
    MANIFEST,
    MANIFEST_HEADERS,
    refusing,
)
from tests.support.wire import Script, Wire, answering, in_turn, routed


def index_of(*entries: Descriptor) -> bytes:
    return json.dumps(
        {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry.document() for entry in entries]}
    ).encode()


SIGNATURE = Descriptor(
    OCI_MANIFEST,
    digest_of(b"signature"),
    9,
    artifact_type="application/vnd.example.signature",
    annotations=(("made", "today"),),
)
SBOM = Descriptor(OCI_MANIFEST, digest_of(b"sbom"), 4, artifact_type="application/spdx+json")
REFERRERS = f"{APP}/referrers/{MANIFEST.digest}"
FALLBACK = f"{APP}/manifests/{MANIFEST.digest.replace(':', '-')}"


def listing(content: bytes, **headers: str) -> Script:
    return answering(200, content, {"Content-Type": OCI_INDEX, **headers})


def test_referrers_come_from_the_api_in_pages(repository: RemoteRepository, wire: Wire) -> None:
    link = f'<{REFERRERS}?page=2>; rel="next"'
    wire.script = in_turn(listing(index_of(SIGNATURE), Link=link), listing(index_of(SBOM)))

    found = repository.referrers(MANIFEST.digest)

    assert [(one.digest, one.artifact_type) for one in found] == [
        (SIGNATURE.digest, SIGNATURE.artifact_type),
        (SBOM.digest, SBOM.artifact_type),
    ]


def test_a_registry_without_the_api_is_asked_by_tag_and_remembered(
    repository: RemoteRepository, wire: Wire
) -> None:
    wire.script = routed({("GET", FALLBACK): listing(index_of(SIGNATURE))})

    for _ in range(2):
        assert repository.referrers(MANIFEST.digest) == [SIGNATURE]

    assert [call.path for call in wire.calls] == [REFERRERS, FALLBACK, FALLBACK]


def test_a_tag_that_is_known_not_to_be_there_is_not_asked_for(
    repository: RemoteRepository, wire: Wire
) -> None:
    wire.script = routed({})

    for _ in range(2):
        assert repository.referrers(MANIFEST.digest, has_tag=False) == []

    assert [call.path for call in wire.calls] == [REFERRERS]


@pytest.mark.parametrize(
    "answer", [refusing(404, "NAME_UNKNOWN"), answering(200, "<html>", {"Content-Type": "text/html"})]
)
def test_an_answer_about_the_content_says_nothing_about_the_api(
    repository: RemoteRepository, wire: Wire, answer: Script
) -> None:
    wire.script = routed({("GET", REFERRERS): answer})

    for _ in range(2):
        assert repository.referrers(MANIFEST.digest) == []

    assert [call.path for call in wire.calls] == [REFERRERS, FALLBACK] * 2


def stored(wire: Wire) -> dict[str, Any]:
    put = next(call for call in wire.calls if call.method == "PUT")
    assert put.path == FALLBACK
    assert put.headers["content-type"] == OCI_INDEX
    document: dict[str, Any] = json.loads(put.body())
    return document


def test_a_first_referrer_makes_the_index(repository: RemoteRepository, wire: Wire) -> None:
    wire.script = routed({("PUT", FALLBACK): answering(201)})

    repository.add_referrer(MANIFEST.digest, SIGNATURE)

    assert stored(wire)["manifests"] == [SIGNATURE.document()]


def test_a_further_referrer_leaves_the_others_as_they_are(repository: RemoteRepository, wire: Wire) -> None:
    existing = json.loads(index_of(SBOM))
    existing["manifests"][0]["x-unknown"] = {"kept": True}
    existing["annotations"] = {"kept": "too"}
    wire.script = routed(
        {("GET", FALLBACK): listing(json.dumps(existing).encode()), ("PUT", FALLBACK): answering(201)}
    )

    repository.add_referrer(MANIFEST.digest, SIGNATURE)

    existing["manifests"].append(SIGNATURE.document())
    assert stored(wire) == existing


def test_a_referrer_that_is_listed_is_not_listed_twice(repository: RemoteRepository, wire: Wire) -> None:
    wire.script = routed({("GET", FALLBACK): listing(index_of(SIGNATURE))})

    repository.add_referrer(MANIFEST.digest, SIGNATURE)

    assert [call.method for call in wire.calls] == ["GET"]


def test_a_tag_that_is_something_else_is_not_overwritten(repository: RemoteRepository, wire: Wire) -> None:
    wire.script = routed({("GET", FALLBACK): answering(200, MANIFEST.content, MANIFEST_HEADERS)})

    with pytest.raises(Refused, match="index"):
        repository.add_referrer(MANIFEST.digest, SIGNATURE)
