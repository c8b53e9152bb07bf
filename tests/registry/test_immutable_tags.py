"""Tags that may not move, as registries say so; nothing else is taken for one."""

from __future__ import annotations

import pytest

from registry.client import RemoteRepository
from registry.errors import Denied, Permanent, Refused, TagImmutable
from registry.images import build_image
from registry.memory import MemoryRegistry
from tests.support.opening import Opener
from tests.support.scripted import MANIFEST, refusing
from tests.support.wire import Wire

ECR = (
    "The image tag '1.0' already exists in the 'app' repository and cannot be overwritten because the {} is "
    "immutable."
)
HARBOR = "Failed to process request due to 'team/app:1.0' configured as immutable."
GOOGLE = "cannot update tag 1.0. The repository has enabled tag immutability"
AZURE = (
    "The operation is disallowed on this registry, repository or image. View troubleshooting steps at "
    "https://aka.ms/acr/faq/"
)


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (400, "TAG_INVALID", ECR.format("tag")),
        (400, "TAG_INVALID", ECR.format("repository")),
        (412, "PRECONDITION", HARBOR),
        (400, "MANIFEST_INVALID", GOOGLE),
        (405, "REGISTRY_DISALLOWED_OPERATION", AZURE),
        (409, "TAG_IMMUTABLE", ""),
        (403, "DENIED", "tag 1.0 is immutable"),
    ],
)
def test_a_tag_that_may_not_move_is_named(
    repository: RemoteRepository, wire: Wire, status: int, code: str, message: str
) -> None:
    wire.script = refusing(status, code, message)

    with pytest.raises(TagImmutable) as caught:
        repository.put_manifest("1.0", MANIFEST)

    assert isinstance(caught.value, Refused)
    assert message[:100] in str(caught.value)
    assert len(wire.asked()) == 1


@pytest.mark.parametrize(
    ("status", "code", "message", "kind"),
    [
        (403, "DENIED", "requested access to the resource is denied", Denied),
        (400, "TAG_INVALID", "manifest tag did not match URI", Refused),
        (403, "DENIED", "quota exceeded", Refused),
    ],
)
def test_other_refusals_stay_what_they_are(
    repository: RemoteRepository, wire: Wire, status: int, code: str, message: str, kind: type[Permanent]
) -> None:
    wire.script = refusing(status, code, message)

    with pytest.raises(kind) as caught:
        repository.put_manifest("1.0", MANIFEST)

    assert type(caught.value) is kind


def test_an_immutable_tag_of_the_memory_registry_is_one(open_at: Opener) -> None:
    with MemoryRegistry(immutable_tags=True) as registry:
        registry.hold("team/app", build_image({"app": b"1"}), "1.0")
        newer = build_image({"app": b"2"})
        registry.hold("team/app", newer)

        with pytest.raises(TagImmutable):
            open_at(registry.host).put_manifest("1.0", newer.manifest)
