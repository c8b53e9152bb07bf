from __future__ import annotations

import base64
import io
import json
import logging
import time
import traceback
from collections.abc import Callable, Iterator

import jwt
import pytest

from registry.redact import RedactingFilter, redacted

SECRET = "s3cr3tValue"
BASIC = base64.b64encode(f"user:{SECRET}".encode()).decode()
JWT = jwt.encode({"sub": "somebody"}, "k" * 32, algorithm="HS256")

LEAKS = {
    "header line": (f"Authorization: Bearer {SECRET}", SECRET),
    "basic header": (f"authorization: Basic {BASIC}", BASIC),
    "header without scheme": (f"Authorization: {SECRET}", SECRET),
    "proxy header": (f"Proxy-Authorization=Basic {BASIC}", BASIC),
    "headers as a dict": (f"{{'Authorization': 'Basic {BASIC}', 'Accept': '*/*'}}", BASIC),
    "headers as pairs of bytes": (f"[(b'Authorization', b'Bearer {SECRET}')]", SECRET),
    "docker's header": (f"X-Registry-Auth: {BASIC}", BASIC),
    "AWS' header": (f"X-Amz-Security-Token: {SECRET}", SECRET),
    "cookie": (f"Set-Cookie: session={SECRET}; Path=/; other={SECRET}", SECRET),
    "scheme alone": (f"refused Bearer {SECRET}", SECRET),
    "opaque token of letters": ("sent bearer abcdefghijklmnopqrstuvwxyz", "abcdefghij"),
    "bare JWT": (f"the registry refused {JWT}", JWT.split(".")[1]),
    "userinfo": (f"http://user:{SECRET}@proxy.example:3128/", SECRET),
    "userinfo without user": (f"redis://:{SECRET}@redis:6379/0", SECRET),
    "userinfo with an at sign": (f"redis://:p@{SECRET}@redis:6379/0", SECRET),
    "upload session": (f"PUT /v2/a/b/blobs/uploads/1?_state={SECRET}&digest=sha256:00", SECRET),
    "S3": (f"https://s3.example/b?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature={SECRET}", SECRET),
    "S3, session": (f"https://s3.example/b?X-Amz-Security-Token={SECRET}&x=1", SECRET),
    "Google": (f"https://storage.example/b?GoogleAccessId=a%40b&Expires=1&Signature={SECRET}", SECRET),
    "Azure": (f"https://blob.example/b?se=2026-01-01&sp=r&sig={SECRET}%3D", SECRET),
    "CloudFront": (f"https://cdn.example/b?Expires=1&Policy=x&Key-Pair-Id={SECRET}", SECRET),
    "Cloudflare": (f"https://cdn.example/b?verify=1700000000-{SECRET}", SECRET),
    "any unknown parameter": (f"https://cdn.example/b?never_seen_before={SECRET}", SECRET),
    "escaped ampersand": (f"https://cdn.example/b?a=1&amp;sig={SECRET}", SECRET),
    "URL in a URL": (f"https://a.example/?next=https%3A%2F%2Fb%3FX-Amz-Signature%3D{SECRET}", SECRET),
    "form": (f"grant_type=refresh_token&refresh_token={SECRET}&client_id=sealift", SECRET),
    "token answer": (json.dumps({"token": SECRET, "expires_in": 300}), SECRET),
    "access token answer": (json.dumps({"access_token": f'a"b{SECRET}'}), SECRET),
    "JSON in JSON": (json.dumps({"body": json.dumps({"refresh_token": SECRET})}), SECRET),
    "docker's config": (json.dumps({"auths": {"ghcr.io": {"auth": BASIC}}}), BASIC),
    "helper's answer": (json.dumps({"ServerURL": "x", "Username": "u", "Secret": SECRET}), SECRET),
    "repr of a dict": (repr({"password": SECRET}), SECRET),
    "environment": (f"GHCR_TOKEN={SECRET} HOME=/root", SECRET),
    "assignment with spaces": (f'password = "two words {SECRET}"', SECRET),
    "option": (f"skopeo copy --dest-password {SECRET} a b", SECRET),
    "YAML": (f"  password: {SECRET}", SECRET),
    "GitHub": ("using ghp_0123456789abcdefghijABCDEFGHIJ012345", "0123456789"),
    "Docker Hub": ("using dckr_pat_0123456789abcdefghij", "0123456789"),
    "AWS key": ("using AKIAIOSFODNN7EXAMPLE", "IOSFODNN7"),
}


@pytest.mark.parametrize(("text", "secret"), LEAKS.values(), ids=LEAKS)
def test_no_secret_survives(text: str, secret: str) -> None:
    clean = redacted(text)

    assert secret not in clean
    assert "***" in clean


@pytest.mark.parametrize("text", [text for text, _ in LEAKS.values()], ids=LEAKS)
def test_a_second_time_changes_nothing(text: str) -> None:
    assert redacted(redacted(text)) == redacted(text)


@pytest.mark.parametrize(
    "text",
    [
        "ghcr.io/a/b:1.0: user ann may not push a/b (401 insufficient_scope)",
        "no basic credentials for ghcr.io; Bearer authentication is what it wants",
        'Bearer realm="https://auth.docker.io/token"',
        "GET https://r.example/v2/a/b/tags/list?n=100&last=1.0 -> 200",
        "https://auth.example/token?service=r.example&scope=repository:a/b:pull,push&account=ann",
        "POST /v2/a/b/blobs/uploads/?mount=sha256:00&from=c/d",
        "docker://r.example/a/b@sha256:00",
        "its token server auth.example asks for patience",
        "add auth.example to token_hosts",
    ],
)
def test_what_is_no_secret_stays_readable(text: str) -> None:
    assert redacted(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "x-" * 30_000,
        "token" * 20_000,
        "a://" * 20_000,
        "?a&" * 20_000,
        '"' + "a." * 30_000,
        "Bearer " * 10_000,
        "passw" * 20_000 + "=",
        "\\" * 60_000,
        '"token": "' + '\\"' * 30_000,
        "eyJ" * 20_000,
        "authorization" * 8_000,
    ],
    ids=lambda text: text[:10],
)
def test_no_text_of_a_hostile_registry_holds_up_its_redaction(text: str) -> None:
    started = time.process_time()
    redacted(text)

    assert time.process_time() - started < 1.0


class Log:
    """A logger with the filter on its handler, and what was written."""

    def __init__(self) -> None:
        self.stream = io.StringIO()
        handler = logging.StreamHandler(self.stream)
        handler.addFilter(RedactingFilter())
        self.handler = handler
        self.logger = logging.getLogger("test_redact")
        self.logger.propagate = False
        self.logger.handlers = [handler]

    @property
    def text(self) -> str:
        return self.stream.getvalue()


@pytest.fixture
def log() -> Log:
    return Log()


def test_a_secret_that_spans_format_and_argument_is_not_logged(log: Log) -> None:
    log.logger.warning("Authorization: %s to %s", f"Basic {BASIC}", "ghcr.io")

    assert log.text == "Authorization: *** to ghcr.io\n"


def test_arguments_by_name_are_redacted(log: Log) -> None:
    log.logger.warning("asked %(url)s", {"url": f"https://s3.example/b?X-Amz-Signature={SECRET}"})

    assert log.text == "asked https://s3.example/b?X-Amz-Signature=***\n"


class Broke(Exception):
    pass


def raised(text: str) -> Broke:
    with pytest.raises(Broke) as caught:
        raise Broke(text)
    return caught.value


def test_a_traceback_is_logged_without_the_secret_in_its_error(log: Log) -> None:
    log.logger.error("copy failed", exc_info=raised(f"https://u:{SECRET}@r.example/ is down"))

    assert "Traceback" in log.text
    assert "Broke: https://***@r.example/ is down" in log.text
    assert SECRET not in log.text


def test_a_handler_with_its_own_way_to_print_tracebacks_gets_no_secret_either(log: Log) -> None:
    class Printing(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            error = record.exc_info[1] if record.exc_info else None
            return "".join(traceback.format_exception(error)) if error else super().format(record)

    log.handler.setFormatter(Printing())
    log.logger.error("copy failed", exc_info=raised(f"Bearer {SECRET}"))

    assert "Bearer ***" in log.text
    assert SECRET not in log.text


def test_extra_fields_are_redacted_however_deep_they_are(log: Log) -> None:
    log.handler.setFormatter(logging.Formatter("%(data)s"))

    log.logger.warning("done", extra={"data": {"args": [f"https://u:{SECRET}@h/", 3]}})

    assert log.text == "{'args': ['https://***@h/', 3]}\n"


def test_the_stack_is_redacted(log: Log) -> None:
    def leak(_: str) -> None:
        log.logger.warning("here", stack_info=True)

    leak("Bearer s3cr3tInTheSourceLine")

    assert "Stack (most recent call last)" in log.text
    assert "s3cr3tInTheSourceLine" not in log.text


TWO = "%s and %s"


class Broken:
    def __str__(self) -> str:
        raise RuntimeError(SECRET)


@pytest.mark.parametrize(
    "write",
    [
        lambda logger: logger.warning(TWO, f"Bearer {SECRET}"),
        lambda logger: logger.warning("%d", f"Bearer {SECRET}"),
        lambda logger: logger.warning("%s", Broken()),
    ],
    ids=["too few arguments", "wrong type", "an argument that cannot be printed"],
)
def test_a_message_that_cannot_be_formatted_leaks_nothing_and_ends_nobody(
    log: Log, write: Callable[[logging.Logger], None], capsys: pytest.CaptureFixture[str]
) -> None:
    write(log.logger)

    assert "cannot be formatted" in log.text
    assert SECRET not in log.text + capsys.readouterr().err


@pytest.fixture(autouse=True)
def _errors_in_logging_are_printed() -> Iterator[None]:
    before, logging.raiseExceptions = logging.raiseExceptions, True
    yield
    logging.raiseExceptions = before
