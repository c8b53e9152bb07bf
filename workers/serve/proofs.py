"""How a sender proves who it is: each kind in the one way that it has. Comparisons take the same time.

Where it is from says nothing: X-Forwarded-For and the like are anybody's to write, and are not looked at.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Mapping
from hashlib import sha256

from config.webhooks import IN_ADDRESS, SIGNING_TOKEN, WebhookKind, signing_key

OLDEST_S = 300
"""How old a delivery may be, or how far ahead, whose time is signed (Standard Webhooks)."""
_UNIX_TIME = re.compile(r"[0-9]{1,12}")
Headers = Mapping[str, str]


class Refused(Exception):
    """The sender has not proved who it is: 401 where it brought nothing, 403 where that is wrong."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


def check_sender(kind: WebhookKind, secret: str, headers: Headers, in_address: str) -> None:
    """Raise Refused where the address and the headers, which come before the body, are not the sender's.

    Where that covers the body only that they bring one at all.
    """
    if kind in IN_ADDRESS:
        _compare(secret, in_address, "the secret at the end of the address")
    elif in_address:
        raise Refused(403, "this webhook has no secret in its address")
    elif kind == "github":
        _brought(headers, "x-hub-signature-256")
    elif covers_body(kind, secret):
        _brought(headers, "webhook-signature")
    elif kind == "gitlab":
        _compare(secret, headers.get("x-gitlab-token", ""), "X-Gitlab-Token")
    else:
        brought = _brought(headers, "authorization")
        scheme, _, rest = brought.partition(" ")
        is_alone = scheme.lower() != "bearer" or _is_same(secret, brought)
        _compare(secret, brought if is_alone else rest.strip(), "Authorization")


def covers_body(kind: WebhookKind, secret: str) -> bool:
    """Whether only the end of the body proves who sends it."""
    return kind == "github" or (kind == "gitlab" and secret.startswith(SIGNING_TOKEN))


def check_body(kind: WebhookKind, secret: str, headers: Headers, body: bytes, now_s: float) -> None:
    """Raise Refused where the proof covers the body, and is not about this one, or too old."""
    if kind == "github":
        wanted = hmac.new(secret.encode(), body, sha256).hexdigest()
        _compare(f"sha256={wanted}", headers.get("x-hub-signature-256", ""), "X-Hub-Signature-256")
    elif covers_body(kind, secret):
        _check_standard(secret, headers, body, now_s)


def _check_standard(secret: str, headers: Headers, body: bytes, now_s: float) -> None:
    """Standard Webhooks 1.0: base64 of an HMAC over id, time and body, of several keys one each."""
    delivery, at = _brought(headers, "webhook-id"), _brought(headers, "webhook-timestamp")
    mac = hmac.new(signing_key(secret), f"{delivery}.{at}.".encode() + body, sha256)
    wanted = f"v1,{base64.b64encode(mac.digest()).decode()}"
    brought = _brought(headers, "webhook-signature").split()[:8]
    if not any(_is_same(wanted, one) for one in brought):
        raise Refused(403, "webhook-signature is wrong")
    if not _UNIX_TIME.fullmatch(at) or abs(now_s - int(at)) > OLDEST_S:
        raise Refused(403, f"webhook-timestamp is more than {OLDEST_S} s away from now")


def _brought(headers: Headers, name: str) -> str:
    value = headers.get(name, "")
    if not value:
        raise Refused(401, f"{name.title()} is missing")
    return value


def _compare(wanted: str, brought: str, what: str) -> None:
    if not brought:
        raise Refused(401, f"{what} is missing")
    if not _is_same(wanted, brought):
        raise Refused(403, f"{what} is wrong")


def _is_same(wanted: str, brought: str) -> bool:
    """Whatever their lengths are: by their hashes."""
    pair = (sha256(one.encode(errors="surrogateescape")).digest() for one in (wanted, brought))
    return hmac.compare_digest(*pair)
