"""What each kind of sender says, read from its documented payload. No I/O.

Only pushes of tags matter. A field that is missing or of the wrong type is named; what is not needed is not
looked at, since senders add to their payloads.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, TypeAdapter, ValidationError

from config.webhooks import WebhookKind
from registry.descriptor import is_digest
from registry.reference import MalformedReference, Reference, check_tag
from tasks.pushes import Push

MOST_PUSHES = 500
"""Of one delivery that are followed one by one."""
MOST_ID = 64
"""Letters of a sender's own id that are kept as they are: a UUID, and room."""
PERSISTENT: frozenset[WebhookKind] = frozenset({"distribution"})
"""Senders that send again for ever what is answered by an error, and keep all later news until it is taken
(distribution's notifications/http.go: any status from 200 to 399 takes it)."""
TELL_ALL: frozenset[WebhookKind] = frozenset({"distribution", "gitlab"})
"""Senders that tell of more than mirrors read, and to which an error is more than one: GitLab turns a webhook
off after some in a row, and that of a group tells of all its projects."""
Headers = Mapping[str, str]
_T = TypeVar("_T")


class Malformed(ValueError):
    """The body is not what this kind of sender sends; the message names the field."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a delivery says was pushed; and, a line each, what of it cannot be read, where other news can."""

    pushes: tuple[Push, ...] = ()
    faults: tuple[str, ...] = ()


def _or_empty(value: object) -> object:
    return "" if value is None else value


Text = Annotated[str, BeforeValidator(_or_empty)]


class _Target(BaseModel):
    repository: Text = ""
    tag: Text = ""
    digest: Text = ""


class _Event(BaseModel):
    id: Text = ""
    action: str
    target: _Target


class _Envelope(BaseModel):
    """distribution: docs/content/about/notifications.md, "Events" and "Envelope"."""

    events: list[Any]


def _distribution(body: bytes, headers: Headers, host: str) -> Told:
    del headers

    def push_of(told: object) -> Push | None:
        event = _valid(_Event.model_validate, told)
        if event.action != "push" or not event.target.tag:
            return None
        target = event.target
        return _push(host, target.repository, target.tag, target.digest, _by_id(event.id))

    return _each("events", _read(_Envelope, body).events, push_of)


class _HubPush(BaseModel):
    tag: str


class _HubRepository(BaseModel):
    repo_name: str


class _Hub(BaseModel):
    """Docker Hub: docs.docker.com, "Webhooks", "Example webhook payload"."""

    push_data: _HubPush
    repository: _HubRepository


def _dockerhub(body: bytes, headers: Headers, host: str) -> Told:
    """Known by nothing: two pushes of a tag within a second are told in the same words."""
    del headers
    told = _read(_Hub, body)
    return Told((_push(host, told.repository.repo_name, told.push_data.tag),))


class _Login(BaseModel):
    login: str


class _PackageTag(BaseModel):
    name: Text = ""
    digest: Text = ""


class _Container(BaseModel):
    tag: _PackageTag | None = None


class _Version(BaseModel):
    container_metadata: _Container | None = None


class _Package(BaseModel):
    name: str
    namespace: Text = ""
    owner: _Login | None = None
    package_type: str
    package_version: _Version | None = None


class _GitHub(BaseModel):
    """GitHub: "Webhook events and payloads", events ``package`` and ``registry_package``."""

    action: str
    package: _Package | None = None
    registry_package: _Package | None = None


def _github(body: bytes, headers: Headers, host: str) -> Told:
    event = headers.get("x-github-event", "")
    if event not in {"package", "registry_package"}:
        return Told()
    told = _read(_GitHub, body)
    package = told.registry_package or told.package
    if package is None:
        raise Malformed(f"{event}: is missing")
    version = package.package_version
    tag = version.container_metadata.tag if version and version.container_metadata else None
    is_image = package.package_type.lower() in {"container", "docker"}
    if told.action not in {"published", "updated"} or not is_image or tag is None or not tag.name:
        return Told()
    owner = package.namespace or (package.owner.login if package.owner else "")
    if not owner:
        raise Malformed(f"{event}.namespace: is missing")
    name = f"{owner}/{package.name}".lower()
    return Told((_push(host, name, tag.name, tag.digest, _by_body(body)),))


class _HarborResource(BaseModel):
    tag: Text = ""
    digest: Text = ""


class _HarborRepository(BaseModel):
    repo_full_name: str


class _HarborData(BaseModel):
    resources: list[Any] = []
    repository: _HarborRepository


class _Harbor(BaseModel):
    """Harbor: "Configure Webhook Notifications", both payload formats."""

    type: str
    event_data: _HarborData | None = None
    data: _HarborData | None = None


def _harbor(body: bytes, headers: Headers, host: str) -> Told:
    del headers
    told = _read(_Harbor, body, only=lambda told: told.get("type") in _HARBOR_PUSHES)
    if told is None:
        return Told()
    data = told.event_data or told.data
    if data is None:
        raise Malformed(f"{_HARBOR_PUSHES[told.type]}: is missing")

    def push_of(resource: object) -> Push | None:
        one = _valid(_HarborResource.model_validate, resource)
        if not one.tag or is_digest(one.tag):
            return None
        return _push(host, data.repository.repo_full_name, one.tag, one.digest, _by_body(body, one.tag))

    return _each("resources", data.resources, push_of)


_HARBOR_PUSHES = {"PUSH_ARTIFACT": "event_data", "harbor.artifact.pushed": "data"}
"""By the type of a push, where its data is."""


class _Quay(BaseModel):
    """Quay: "Repository notifications", event "Push to Repository"."""

    repository: str
    updated_tags: list[Any] | dict[str, Any]


def _quay(body: bytes, headers: Headers, host: str) -> Told:
    """Known by nothing: all pushes of a tag are told in the same words. Other events have no such tags."""
    del headers
    told = _read(_Quay, body, only=lambda told: "updated_tags" in told)
    if told is None:
        return Told()
    return _each(
        "updated_tags", told.updated_tags, lambda tag: _push(host, told.repository, _valid(_TAG, tag))
    )


class _Project(BaseModel):
    path_with_namespace: str


class _Pipeline(BaseModel):
    status: str


class _GitLab(BaseModel):
    """GitLab: "Webhook events", "Pipeline events"."""

    project: _Project
    object_attributes: _Pipeline


def _gitlab(body: bytes, headers: Headers, host: str) -> Told:
    """GitLab tells of no pushed tag. A pipeline that has succeeded may have pushed to any of a project's."""
    del headers
    told = _read(_GitLab, body, only=lambda told: told.get("object_kind") == "pipeline")
    if told is None or told.object_attributes.status != "success":
        return Told()
    try:
        repository = _repository(host, told.project.path_with_namespace.lower())
    except MalformedReference:
        return Told()  # a project of that path can have no repositories
    return Told((Push(repository, has_below=True, delivery=_by_body(body)),))


_READERS: Mapping[WebhookKind, Callable[[bytes, Headers, str], Told]] = {
    "distribution": _distribution,
    "dockerhub": _dockerhub,
    "github": _github,
    "gitlab": _gitlab,
    "harbor": _harbor,
    "quay": _quay,
}


_OBJECT = TypeAdapter(dict[str, Any])
_TAG = TypeAdapter(str).validate_python


def read(kind: WebhookKind, host: str, body: bytes, headers: Headers) -> Told:
    """The tags that the delivery says were pushed at ``host``; none where it is about something else.

    ``headers`` by their names in small letters. Raises Malformed where there are none that can be read.
    """
    return _READERS[kind](body, headers, host)


def few(pushes: Sequence[Push]) -> Sequence[Push]:
    """Those, or where they are many all tags of each repository: one run, in which none is left out."""
    if len(pushes) <= MOST_PUSHES:
        return pushes
    return [Push(repository) for repository in dict.fromkeys(push.repository for push in pushes)]


def _read(model: Any, body: bytes, only: Callable[[dict[str, Any]], bool] | None = None) -> Any:
    """The body as ``model``; None where it is an object that is not ``only`` what is asked for."""
    try:
        if only is not None and not only(_OBJECT.validate_json(body)):
            return None
    except ValidationError as error:
        raise Malformed(_first_fault(error)) from error
    return _valid(model.model_validate_json, body)


def _valid(validate: Callable[[Any], _T], value: object) -> _T:
    try:
        return validate(value)
    except ValidationError as error:
        raise Malformed(_first_fault(error)) from error


def _each(field: str, told: Iterable[object], push_of: Callable[[object], Push | None]) -> Told:
    """One by one: what is wrong with one of them is no reason to drop the others."""
    pushes, faults = list[Push](), list[str]()
    for place, one in enumerate(told):
        try:
            push = push_of(one)
        except Malformed as error:
            faults.append(f"{field}.{place}: {error}")
        else:
            pushes += [push] if push else []
    if faults and not pushes:
        raise Malformed(faults[0])
    return Told(tuple(pushes), tuple(faults))


def _first_fault(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    return f"{field}: {_one_line(first['msg'])}" if field else _one_line(first["msg"])


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text)[:300]


def _push(host: str, repository: str, tag: str, digest: str = "", delivery: str = "") -> Push:
    try:
        name = _repository(host, repository)
    except MalformedReference as error:
        raise Malformed(f"the repository's name: {_one_line(str(error))}") from error
    try:
        check_tag(tag)
    except MalformedReference as error:
        raise Malformed(f"the tag: {_one_line(str(error))}") from error
    if digest and not is_digest(digest):
        raise Malformed(f"the digest: {digest[:100]!r} is none (sha256:<64 hex digits>)")
    return Push(name, tag, digest, delivery=delivery)


def _repository(host: str, repository: str) -> str:
    """In full; MalformedReference."""
    reference = Reference.parse(f"{host}/{repository}")
    if reference.tag or reference.digest or reference.host != host:
        raise MalformedReference(f"{repository!r} is no name of a repository")
    return reference.name


def _by_id(own: str) -> str:
    """As long as it may be: so many of them are kept."""
    return own if len(own) <= MOST_ID else _by_body(own.encode())


def _by_body(body: bytes, *more: str) -> str:
    """Of what is told in other words each time: by those words, which the sender's proof covers."""
    return sha256(b"\0".join((body, *(one.encode() for one in more)))).hexdigest()
