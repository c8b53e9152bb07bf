"""A token server as distribution's token specification describes it: real signatures, users and rights."""

from __future__ import annotations

import base64
import binascii
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from functools import cache, partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from tests.support.ports import LOOPBACK
from tests.support.registries import TokenAuth

SERVICE = "registry.test"
ISSUER = "token-server.test"
LEEWAY_S = 60
"""How long after its expiry docker-registry still takes a token."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One token request; ``user`` is None without credentials, ``scopes`` one by one."""

    method: str
    user: str | None
    service: str
    scopes: tuple[str, ...]
    account: str | None


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that is given instead of a token."""

    status: int
    body: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class User:
    """``rights``: actions by repository pattern, as ``{"library/*": "pull"}``."""

    password: str
    rights: Mapping[str, str] = field(default_factory=dict)
    identity_token: str | None = None


class LoopbackTokenServer:
    """Issues tokens that docker-registry accepts; set its fields to have it behave otherwise."""

    def __init__(self, folder: Path, users: Mapping[str, User] | None = None) -> None:
        """Listen at once; the root certificate for the registry is written into ``folder``."""
        self.users = dict(users or {})
        self.anonymous: Mapping[str, str] = {}
        self.life_s = 300
        """What the tokens say about themselves; down to -LEEWAY_S they still work for a moment."""
        self.expires_in: int | None = 300
        """What the answer says about the token; None leaves it out."""
        self.token_field = "token"
        self.answer: Answer | None = None
        """Given to every request as long as it is set."""
        self.gate = threading.Event()
        """Requests are answered only while it is set."""
        self.gate.set()
        self.asked: list[Asked] = []
        self.issued: list[str] = []
        self._lock = threading.Lock()
        self._bundle = folder / "token-root.pem"
        self._bundle.write_bytes(_certificate().public_bytes(serialization.Encoding.PEM))
        self._server = ThreadingHTTPServer((LOOPBACK, 0), partial(_Handler, self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def realm(self) -> str:
        return f"http://{LOOPBACK}:{self.port}/token"

    @property
    def auth(self) -> TokenAuth:
        """What a registry must be told to trust this server."""
        return TokenAuth(self.realm, SERVICE, ISSUER, self._bundle)

    def note(self, asked: Asked) -> None:
        with self._lock:
            self.asked.append(asked)

    def granted(self, user: str | None, scopes: tuple[str, ...]) -> list[dict[str, Any]]:
        """The part of ``scopes`` that ``user`` has a right to: less than asked for is no error."""
        rights = self.users[user].rights if user is not None else self.anonymous
        return [entry for scope in scopes if (entry := _granted(rights, scope))]

    def token(self, user: str | None, scopes: tuple[str, ...]) -> str:
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "sub": user or "",
            "aud": SERVICE,
            "exp": now + self.life_s,
            "nbf": now - 300,
            "iat": now,
            "jti": f"{time.monotonic_ns()}",
            "access": self.granted(user, scopes),
        }
        der = _certificate().public_bytes(serialization.Encoding.DER)
        chain = {"x5c": [base64.b64encode(der).decode()]}
        token = jwt.encode(claims, _key(), algorithm="RS256", headers=chain)
        with self._lock:
            self.issued.append(token)
        return token

    def document(self, user: str | None, scopes: tuple[str, ...]) -> bytes:
        document: dict[str, Any] = {
            self.token_field: self.token(user, scopes),
            "issued_at": datetime.now(UTC).isoformat(),
        }
        if self.expires_in is not None:
            document["expires_in"] = self.expires_in
        return json.dumps(document).encode()

    def by_password(self, header: str | None) -> str | None:
        """The user of a Basic header, None without one; PermissionError if the password is wrong."""
        if header is None:
            return None
        try:
            pair = base64.b64decode(header.removeprefix("Basic "), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise PermissionError from None
        name, _, password = pair.partition(":")
        if name not in self.users or self.users[name].password != password:
            raise PermissionError
        return name

    def by_identity_token(self, token: str) -> str:
        for name, user in self.users.items():
            if user.identity_token == token:
                return name
        raise PermissionError


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, owner: LoopbackTokenServer, *args: Any) -> None:
        self._owner = owner
        super().__init__(*args)

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        header = self.headers.get("Authorization")
        self._serve(query, tuple(query.get("scope", ())), lambda: self._owner.by_password(header))

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode())
        scopes = tuple(" ".join(form.get("scope", ())).split())
        token = form.get("refresh_token", [""])[0]
        self._serve(form, scopes, lambda: self._owner.by_identity_token(token))

    def _serve(
        self, fields: dict[str, list[str]], scopes: tuple[str, ...], who: Callable[[], str | None]
    ) -> None:
        refusal: Answer | None = None
        user: str | None = None
        try:
            user = who()
        except PermissionError:
            refusal = Answer(401, b'{"errors":[{"code":"UNAUTHORIZED"}]}')
        service, account = fields.get("service", [""])[0], fields.get("account", [None])[0]
        self._owner.note(Asked(self.command, user, service, scopes, account))
        self._owner.gate.wait(10)
        own = self._owner.answer or refusal
        self._answer(own or Answer(200, self._owner.document(user, scopes)))

    def _answer(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        """Nothing: a test reads ``asked``."""


def _granted(rights: Mapping[str, str], scope: str) -> dict[str, Any] | None:
    kind, _, rest = scope.partition(":")
    name, _, actions = rest.rpartition(":")
    allowed = {a for pattern, held in rights.items() if fnmatchcase(name, pattern) for a in held.split(",")}
    both = sorted(allowed & set(actions.split(",")))
    return {"type": kind, "name": name, "actions": both} if both else None


@cache
def _key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@cache
def _certificate() -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, ISSUER)])
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(_key().public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(_key(), hashes.SHA256())
    )
