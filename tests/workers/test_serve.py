"""``sealift serve`` as senders, and those who are none, meet it: a real process, asked over real sockets."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from select import select
from typing import Any
from uuid import uuid4

import pytest

from config.settings import Settings
from mirror.ledger import Ledger
from tasks.broker import BrokerUnreachable
from tasks.runtime import Runtime
from tasks.schedules import FleetFile
from tests.support.fleet import made
from tests.support.ports import LOOPBACK, free_fixed_port, is_listening
from tests.support.process import Process
from tests.support.scratch import scratch_folder
from tests.support.valkey import ValkeyServer
from tests.support.waiting import until
from workers.cli import main
from workers.serve.application import MOST_AT_ONCE, MOST_BYTES, MOST_UNPROVEN, PROBES
from workers.serve.hooks import Answer, Hooks
from workers.serve.senders import MOST_PUSHES
from workers.serve.server import MOST_CONNECTIONS

SECRET = "told-by-nobody-else"
PAYLOADS = Path(__file__).parent / "webhooks"
FLEET = """\
webhooks:
  - {name: dist, kind: distribution, registry: r.example, secret: env:HOOK_SECRET}
  - {name: hub, kind: dockerhub, secret: file:hub-secret}
  - {name: quay, kind: quay, secret: env:HOOK_SECRET}
  - {name: gh, kind: github, secret: env:HOOK_SECRET}
  - {name: lab, kind: gitlab, registry: r.example, secret: env:HOOK_SECRET}
mirrors:
  - {name: app, source: docker.io/team/app, targets: [eu.example/app]}
  - {name: own, source: r.example/team/app, targets: [eu.example/own]}
"""
JSON = {"Content-Type": "application/json"}
BEARER = {"Authorization": f"Bearer {SECRET}", **JSON}


@dataclass
class Served:
    """``answers`` are (status, headers in small letters, first line)."""

    folder: Path
    valkey: ValkeyServer
    process: Process
    port: int

    @classmethod
    def start(cls, folder: Path, valkey: ValkeyServer) -> Served:
        (folder / "sealift.yaml").write_text(FLEET)
        (folder / "hub-secret").write_text(f"{SECRET}\n")
        port = free_fixed_port()
        command = [sys.executable, "-P", "-m", "workers.cli", "serve", "--bind", f"{LOOPBACK}:{port}"]
        env = {"SEALIFT_REDIS_URL": valkey.url, "HOOK_SECRET": SECRET}
        process = Process(command, folder / "serve.log", env, folder)
        until(lambda: is_listening(port) or not process.running, 30, process.tail)
        assert process.running, process.tail()
        return cls(folder, valkey, process, port)

    def ask(
        self, path: str, body: bytes = b"", headers: dict[str, str] = JSON, method: str = "POST"
    ) -> tuple[int, dict[str, str], str]:
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=30)
        try:
            connection.request(method, path, body, headers)
            reply = connection.getresponse()
            found = {name.lower(): value for name, value in reply.getheaders()}
            return reply.status, found, reply.read().decode().partition("\n")[0]
        finally:
            connection.close()

    def told(self, tag: str, **more: Any) -> bytes:
        """Docker Hub's news of a tag."""
        document = json.loads((PAYLOADS / "dockerhub.json").read_bytes())
        document["push_data"]["tag"] = tag
        return json.dumps({**document, **more}).encode()

    def runs(self) -> list[str]:
        with self.valkey.client() as client:
            return [report.mirror for report in Ledger(client).runs()]

    def counted(self, webhook: str, result: str) -> int:
        with self.valkey.client() as client:
            found = Ledger(client).gauges.read().told.of("webhooks")
        return sum(one.value for one in found if one.labels == {"webhook": webhook, "result": result})


def event(repository: str, **target: str) -> dict[str, Any]:
    """distribution's news of a push."""
    return {"id": uuid4().hex, "action": "push", "target": {"repository": repository, "tag": "v1", **target}}


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder())
        valkey = stack.enter_context(ValkeyServer(made(folder / "valkey")))
        served = Served.start(folder, valkey)
        stack.enter_context(served.process)
        yield served


HUB = f"/hooks/hub/{SECRET}"


def test_a_push_is_answered_with_its_run_and_a_second_one_with_the_same(served: Served) -> None:
    status, headers, text = served.ask(HUB, served.told("v1"))
    assert status == 202
    assert text.endswith("of app v1 begins")
    assert served.ask(HUB, served.told("v1"))[2] == text.replace("begins", "waits")
    assert "server" not in headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert headers["cache-control"] == "no-store"
    until(lambda: served.counted("hub", "begins") and served.counted("hub", "waits"), 10, served.process.tail)


def test_the_page_is_served_with_a_strict_policy_and_so_are_its_other_files(served: Served) -> None:
    status, headers, text = served.ask("/", method="GET")
    assert (status, text) == (200, "<!doctype html>")
    assert headers["content-security-policy"].startswith("default-src 'none'; style-src 'sha256-")
    assert headers["content-security-policy"].endswith("frame-ancestors 'none'")
    assert headers["cache-control"] == "public, max-age=5"
    assert headers["x-content-type-options"] == "nosniff"
    status, headers, text = served.ask("/status.json", method="GET")
    assert [one["name"] for one in json.loads(text)["mirrors"]] == ["app", "own"]
    assert headers["content-type"] == "application/json"
    assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    status, headers, text = served.ask("/badges/app.svg", method="GET")
    assert (status, headers["content-type"]) == (200, "image/svg+xml")
    for path in ("/badges/none.svg", "/badges/..%2F..%2Fstatus.json.svg", "/badges/../status.json"):
        assert served.ask(path, method="GET")[0] == 404, path
    assert served.ask("/feed.atom", method="GET")[1]["content-type"] == "application/atom+xml; charset=utf-8"
    assert SECRET not in text


def test_a_copy_of_a_delivery_that_names_itself_begins_nothing(served: Served) -> None:
    body = (PAYLOADS / "distribution.json").read_bytes()
    assert served.ask("/hooks/dist", body, BEARER)[0] == 202
    before = len(served.runs())
    assert served.ask("/hooks/dist", body, BEARER)[0] == 204
    assert len(served.runs()) == before
    until(lambda: served.counted("dist", "copy") == 1, 10, served.process.tail)


def test_a_delivery_that_came_to_nothing_is_followed_when_it_is_sent_again(served: Served) -> None:
    """By hand, once the mistake in the fleet file is mended."""
    body = json.dumps({"events": [event("team/app", tag="edge")]}).encode()
    file = served.folder / "sealift.yaml"
    file.write_text(FLEET.replace("[eu.example/own]", "[eu.example/own], tags: [v*]"))
    assert served.ask("/hooks/dist", body, BEARER)[0] == 204
    file.write_text(FLEET)
    assert served.ask("/hooks/dist", body, BEARER)[0] == 202
    assert served.ask("/hooks/dist", body, BEARER)[0] == 204


@pytest.mark.parametrize(
    ("path", "headers", "status", "text"),
    [
        ("/hooks/hub", JSON, 401, "the secret at the end of the address is missing"),
        (f"{HUB}x", JSON, 403, "the secret at the end of the address is wrong"),
        ("/hooks/dist", JSON, 401, "Authorization is missing"),
        ("/hooks/dist", {**JSON, "Authorization": "Bearer no"}, 403, "Authorization is wrong"),
        (
            "/hooks/none",
            JSON,
            404,
            "no webhook is named so under webhooks: in the fleet file",
        ),
        (f"{HUB}/", JSON, 404, "there is nothing here; the page is at /, webhooks are at /hooks/NAME"),
        ("/x", JSON, 404, "there is nothing here; the page is at /, webhooks are at /hooks/NAME"),
    ],
)
def test_who_cannot_prove_who_he_is_gets_one_line_and_no_work(
    served: Served, path: str, headers: dict[str, str], status: int, text: str
) -> None:
    before = len(served.runs())
    assert served.ask(path, served.told("v9"), headers)[::2] == (status, text)
    assert len(served.runs()) == before


def test_refusals_are_logged_once_a_minute_and_never_with_a_secret(served: Served) -> None:
    for _ in range(20):
        served.ask(f"/hooks/quay/{SECRET}x", b"{}")
    until(lambda: served.counted("quay", "refused") == 20, 10, served.process.tail)
    assert served.process.text().count("webhook quay: a delivery is refused") == 1
    assert SECRET not in served.process.text()


NO_REQUEST = b"no request\r\n\r\n"
BAD_PART = b"no length\r\n"
UPGRADE = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"


def test_requests_that_are_none_are_logged_once_a_minute_and_without_a_trace(served: Served) -> None:
    for _ in range(5):
        for word, status in ((NO_REQUEST, 400), (UPGRADE, 200)):
            with silent(served) as connection:
                connection.sendall(word)
                assert connection.recv(100).startswith(f"HTTP/1.1 {status}".encode())
        with raw(served, "Transfer-Encoding: chunked", path="/hooks/none") as connection:
            assert connection.recv(1000).startswith(b"HTTP/1.1 404")
            connection.sendall(BAD_PART)
            ended(connection)
    text = served.process.text()
    assert "Traceback" not in text
    for line in ("Invalid HTTP request received", "Unsupported upgrade request", "No supported WebSocket"):
        assert text.count(line) == 1, text


def ended(connection: socket.socket) -> None:
    """The other end has closed it, in whatever way."""
    with contextlib.suppress(ConnectionResetError):
        while connection.recv(1000):
            pass


def test_a_repository_that_nobody_reads_is_not_found_but_for_senders_that_tell_of_all(served: Served) -> None:
    unknown = served.told("v1", repository={"repo_name": "team/other"})
    before = len(served.runs())
    assert served.ask(HUB, unknown)[::2] == (404, "no mirror reads or writes docker.io/team/other")
    news = (PAYLOADS / "distribution.json").read_bytes().replace(b"team/app", b"team/none")
    assert served.ask("/hooks/dist", news, BEARER)[0] == 204
    pipeline = (PAYLOADS / "gitlab.json").read_bytes().replace(b"Team/app", b"team/none")
    assert served.ask("/hooks/lab", pipeline, {**JSON, "X-Gitlab-Token": SECRET})[0] == 204
    assert len(served.runs()) == before


def test_what_is_no_push_is_taken_without_work(served: Served) -> None:
    assert served.ask("/hooks/dist", (PAYLOADS / "distribution-pull.json").read_bytes(), BEARER)[0] == 204


@pytest.mark.parametrize(
    ("body", "headers", "status", "text"),
    [
        (b"{", JSON, 400, "Invalid JSON"),
        (b'{"push_data": {}}', JSON, 400, "push_data.tag: Field required"),
        (b"[" * 200_000, JSON, 400, "recursion limit"),
        (b"a=b", {"Content-Type": "application/x-www-form-urlencoded"}, 415, "Content-Type"),
    ],
)
def test_hostile_bodies_are_refused_in_one_line(
    served: Served, body: bytes, headers: dict[str, str], status: int, text: str
) -> None:
    found, _, line = served.ask(HUB, body, headers)
    assert found == status
    assert text in line


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (json.dumps({"events": [event("a" * 255)]}).encode(), BEARER),
        (json.dumps({"events": [event("team/app", tag="a b")]}).encode(), BEARER),
        (json.dumps({"events": [event("team/app", digest="md5:0")]}).encode(), BEARER),
        (json.dumps({"events": [{"action": "push"}]}).encode(), BEARER),
        (b"{", BEARER),
        (b"{}", {**BEARER, "Content-Type": "text/plain"}),
    ],
)
def test_what_a_retry_would_not_change_does_not_hold_up_the_queue_of_distribution(
    served: Served, body: bytes, headers: dict[str, str]
) -> None:
    """It sends again, for ever, what is answered by an error, and everything else after it."""
    before = served.counted("dist", "malformed")
    assert served.ask("/hooks/dist", body, headers)[0] == 204
    until(lambda: served.counted("dist", "malformed") == before + 1, 10, served.process.tail)
    assert "webhook dist: a delivery that cannot be read: " in served.process.text()


def test_a_body_too_large_of_distribution_is_heard_to_its_end_and_done_with(served: Served) -> None:
    """Who sends its name along may make an event as large as he likes."""
    large = json.dumps({"events": [event("team/app", useragent="x" * 20 * MOST_BYTES)]}).encode()
    assert served.ask("/hooks/dist", large, BEARER)[0] == 204
    head = "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
    head += f"Authorization: Bearer {SECRET}"
    with raw(served, head, path="/hooks/dist") as connection:
        part = f"{MOST_BYTES:x}\r\n".encode() + b" " * MOST_BYTES + b"\r\n"
        connection.sendall(part * 4 + b"0\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 204")


def test_a_bad_event_of_distribution_takes_no_good_one_along(served: Served) -> None:
    good = event("team/app", tag="good")
    body = json.dumps({"events": [event("a" * 255), good, event("team/app", tag="a b")]}).encode()
    status, _, text = served.ask("/hooks/dist", body, BEARER)
    assert (status, text.endswith("of own good begins")) == (202, True)


def test_a_delivery_of_very_many_pushes_is_followed_by_a_run_of_all_tags(served: Served) -> None:
    events = [event("team/app", tag=f"many-{number}") for number in range(MOST_PUSHES + 1)]
    status, _, text = served.ask("/hooks/dist", json.dumps({"events": events}).encode(), BEARER)
    assert (status, text.endswith("of own begins")) == (202, True), text


def silent(served: Served) -> socket.socket:
    return socket.create_connection((LOOPBACK, served.port), timeout=20)


def raw(served: Served, head: str, body: bytes = b"", path: str = HUB) -> socket.socket:
    connection = silent(served)
    connection.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n".encode() + body)
    return connection


def test_a_body_that_says_or_proves_to_be_too_large_is_not_read_to_its_end(served: Served) -> None:
    """Neither sends more than the first part, and both are answered."""
    kind = "Content-Type: application/json"
    with raw(served, f"{kind}\r\nContent-Length: 999999999") as said:
        assert said.recv(100).startswith(b"HTTP/1.1 413")
    part = f"{MOST_BYTES:x}\r\n".encode() + b" " * MOST_BYTES + b"\r\n"
    with raw(served, f"{kind}\r\nTransfer-Encoding: chunked", part + b"1\r\n \r\n") as proved:
        assert proved.recv(100).startswith(b"HTTP/1.1 413")


def slow(served: Served, path: str, headers: dict[str, str]) -> socket.socket:
    """Who sends half of a body and rests."""
    head = "\r\n".join(f"{name}: {value}" for name, value in headers.items())
    return raw(served, f"{head}\r\nContent-Length: 9", b"1234", path)


def test_connections_on_which_nobody_speaks_take_nobodys_place(served: Served) -> None:
    with ExitStack() as stack:
        for _ in range(MOST_CONNECTIONS + 8):
            stack.enter_context(silent(served))
        assert served.ask("/healthz", method="GET")[0] == 200
        assert served.ask(HUB, served.told("v1"))[0] == 202


def test_slow_bodies_take_neither_all_memory_nor_the_place_of_the_probes(served: Served) -> None:
    with ExitStack() as stack:
        for _ in range(MOST_AT_ONCE):
            stack.enter_context(slow(served, "/hooks/dist", BEARER))
        until(lambda: served.ask("/x", method="GET")[0] == 503, 10, served.process.tail)
        assert [served.ask(path, method="GET")[0] for path in sorted(PROBES)] == [200, 200]
    until(lambda: served.ask(HUB, served.told("v1"))[0] == 202, 10, served.process.tail)


def test_who_is_slow_with_what_only_its_end_proves_makes_room_for_who_comes(served: Served) -> None:
    """GitHub does not send again what is put off."""
    signed = {**JSON, "X-Hub-Signature-256": "sha256=0"}

    def put_off() -> list[socket.socket]:
        assert served.ask("/hooks/gh", b"{}", signed)[0] == 403
        return select(crowd, [], [], 0)[0]

    with ExitStack() as stack:
        crowd = [stack.enter_context(slow(served, "/hooks/gh", signed)) for _ in range(MOST_UNPROVEN)]
        until(put_off, 8, served.process.tail)  # once all of them are being read
        (one,) = put_off()
        assert one.recv(100).startswith(b"HTTP/1.1 503")
        assert served.ask(HUB, served.told("v1"))[0] == 202


def test_who_asks_on_without_reading_the_answers_holds_no_place(served: Served) -> None:
    """An answer would wait for the one before it to be read, for ever, and be one of those under way."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(20)
        connection.connect((LOOPBACK, served.port))
        with pytest.raises(ConnectionError):  # not TimeoutError: nobody takes what is sent
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 2_000_000)
    assert served.ask("/", method="GET")[0] == 200
    assert "Traceback" not in served.process.text()


def test_a_token_that_is_wrong_is_refused_before_the_body_comes(served: Served) -> None:
    with slow(served, "/hooks/lab", {**JSON, "X-Gitlab-Token": "wrong"}) as connection:
        assert connection.recv(100).startswith(b"HTTP/1.1 403")


def test_a_secret_in_a_file_is_taken_as_it_is_now(served: Served) -> None:
    (served.folder / "hub-secret").write_text("another-secret-of-mine")
    assert served.ask(HUB, served.told("v1"))[0] == 403
    assert served.ask("/hooks/hub/another-secret-of-mine", served.told("v1"))[0] == 202
    (served.folder / "hub-secret").write_text("short")
    assert served.ask("/hooks/hub/short", served.told("v1"))[0] == 503
    (served.folder / "hub-secret").write_text(SECRET)
    assert served.ask(HUB, served.told("v1"))[0] == 202


def test_the_fleet_file_is_read_again_when_it_has_changed(served: Served) -> None:
    file = served.folder / "sealift.yaml"
    new = "  - {name: more, source: docker.io/team/more, targets: [eu.example/more]}\n"
    more = served.told("v1", repository={"repo_name": "team/more"})
    assert served.ask(HUB, more)[0] == 404
    file.write_text(FLEET + new)
    assert served.ask(HUB, more)[0] == 202


def test_while_redis_is_away_senders_are_asked_to_come_again(served: Served) -> None:
    assert served.ask("/readyz", method="GET")[0] == 200
    served.valkey.stop()
    status, headers, _ = served.ask(HUB, served.told("v7"))
    assert (status, headers["retry-after"]) == (503, "5")
    assert served.ask("/readyz", method="GET")[0] == 503
    assert served.ask("/healthz", method="GET")[::2] == (200, "ok")
    served.valkey.restart()
    until(lambda: served.ask("/readyz", method="GET")[0] == 200, 20, served.process.tail)
    assert served.ask(HUB, served.told("v7"))[0] == 202
    until(lambda: served.counted("hub", "unavailable"), 10, served.process.tail)


def test_while_one_thread_waits_for_redis_at_the_start_the_others_are_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sealift.yaml").write_text(FLEET)
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    began, answered = threading.Event(), threading.Event()

    def compose() -> Runtime:
        began.set()
        answered.wait(60)
        raise BrokerUnreachable("Redis does not answer")

    hooks = Hooks(FleetFile(Settings(fleet_file=tmp_path / "sealift.yaml")), compose)
    body = (PAYLOADS / "distribution.json").read_bytes()
    headers = {"authorization": f"Bearer {SECRET}"}

    def deliver() -> int:
        known = hooks.greet("dist", headers, "")
        return known.status if isinstance(known, Answer) else hooks.deal(known, headers, body).status

    with ThreadPoolExecutor(3) as threads:
        try:
            first = threads.submit(deliver)
            assert began.wait(10)
            others = [threads.submit(deliver) for _ in range(2)]
            until(lambda: all(one.done() for one in others), 10, "the answers to the others")
            assert not first.done()
        finally:
            answered.set()
        assert [one.result() for one in (first, *others)] == [503] * 3


def test_a_process_that_is_to_stop_finishes_what_it_has_begun_to_answer(tmp_path: Path) -> None:
    with ValkeyServer(made(tmp_path / "valkey")) as valkey:
        served = Served.start(tmp_path, valkey)
        with served.process:
            body = served.told("v1")
            head = f"Content-Type: application/json\r\nContent-Length: {len(body)}"
            with raw(served, head, body[:10]) as connection:
                served.ask("/healthz", method="GET")  # what came before is being read
                served.process.signal(signal.SIGTERM)
                until(lambda: not is_listening(served.port), 10, served.process.tail)
                connection.sendall(body[10:])
                assert connection.recv(100).startswith(b"HTTP/1.1 202")
            until(lambda: not served.process.running, 10, served.process.tail)
            assert served.process.exit_code == 0
            assert served.counted("hub", "begins") == 1


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("--bind", "8080"), 2, "--bind 8080: not an address; write ADDRESS:PORT, as 127.0.0.1:8080"),
        (("--bind", "127.0.0.1:99999"), 2, "not an address"),
        ((), 3, "the environment variable HOOK_SECRET is not set; export it"),
    ],
)
def test_what_cannot_be_served_is_said_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    code: int,
    text: str,
) -> None:
    (tmp_path / "sealift.yaml").write_text(FLEET)
    monkeypatch.setenv("SEALIFT_FLEET_FILE", str(tmp_path / "sealift.yaml"))
    monkeypatch.delenv("HOOK_SECRET", raising=False)
    assert main(["serve", *words]) == code
    assert text in capsys.readouterr().err


@pytest.mark.parametrize("command", ["serve", "config check"])
def test_a_secret_that_no_sender_can_bring_is_refused_before_one_tries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    (tmp_path / "sealift.yaml").write_text(FLEET)
    (tmp_path / "hub-secret").write_text(SECRET)
    monkeypatch.setenv("SEALIFT_FLEET_FILE", str(tmp_path / "sealift.yaml"))
    monkeypatch.setenv("HOOK_SECRET", "told/by?nobody#else")  # a header may hold that
    assert main(command.split()) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{tmp_path}/sealift.yaml:4: webhooks[2].secret: the secret there cannot end an address" in line
