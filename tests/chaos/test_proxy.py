"""The proxies do what they are said to: each fault as a client meets it, and as the registry does."""

from __future__ import annotations

import contextlib
import gc
import http.client
import socket
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import TimeoutError as Silence
from redis.retry import Retry

from registry.images import build_image, random_layer
from tests.chaos.judge import early_flips
from tests.chaos.proxy import Fabric, Link, Proxy, Put
from tests.chaos.weather import HTTP_FAULTS, Asked, HttpFault, Weather
from tests.chaos.wire import Message
from tests.support.ports import LOOPBACK
from tests.support.pushing import Reply, ask, push
from tests.support.registries import DockerRegistry
from tests.support.scratch import scratch_folder
from tests.support.valkey import ValkeyServer

NAME = "team/app"
OLD, NEW = build_image({"version": b"1"}), build_image({"version": b"2"})
LARGE = random_layer(300_000, seed=5)


class Forecast(Weather):
    """Weather of which one knows what comes: ``next`` happens to the next exchange."""

    next: HttpFault | None = None

    def fault(self, asked: Asked, request: Message, *, knows_older: bool) -> HttpFault | None:  # noqa: ARG002 - it comes anyway
        coming, self.next = self.next, None
        return coming


@pytest.fixture(scope="module")
def registry() -> Iterator[DockerRegistry]:
    with scratch_folder() as folder, DockerRegistry(folder) as started:
        push(f"{started.host}/{NAME}", OLD, "1")
        yield started


@pytest.fixture(scope="module")
def weather() -> Forecast:
    return Forecast(seed=1, stall_s=0.3)


@pytest.fixture(scope="module")
def fabric(weather: Forecast) -> Iterator[Fabric]:
    fabric = Fabric(weather)
    yield fabric
    fabric.close()


@pytest.fixture(scope="module")
def proxy(fabric: Fabric, registry: DockerRegistry) -> Proxy:
    return fabric.proxy("one", registry.port)


def manifest(proxy: Proxy, reference: str, method: str = "GET") -> Reply:
    return ask(proxy.host, method, f"/v2/{NAME}/manifests/{reference}")


def layer_path() -> str:
    return f"/v2/{NAME}/blobs/{OLD.layers[0].descriptor.digest}"


def test_what_is_pushed_through_arrives_and_locations_lead_back_to_the_proxy(
    proxy: Proxy, registry: DockerRegistry
) -> None:
    push(f"{proxy.host}/{NAME}", NEW, "through")
    opened = ask(proxy.host, "POST", f"/v2/{NAME}/blobs/uploads/")

    assert opened.headers["Location"].startswith(f"http://{proxy.host}/")
    assert ask(registry.host, "GET", f"/v2/{NAME}/manifests/through").body == NEW.manifest.content
    assert [(put.reference, put.digest, put.status) for put in proxy.puts[-1:]] == [
        ("through", NEW.digest, 201)
    ]
    assert {blob.descriptor.digest for blob in NEW.blobs} <= {digest for digest, _ in proxy.uploads}


@pytest.mark.parametrize("status", [401, 404, 429, 500, 502, 503])
def test_a_refusal_of_the_proxy_never_reaches_the_registry(
    proxy: Proxy, weather: Forecast, registry: DockerRegistry, status: int
) -> None:
    registry.forget_requests()
    weather.next = str(status)  # type: ignore[assignment]  # its text is one of them
    reply = manifest(proxy, "1")

    assert reply.status == status
    assert (reply.headers["Retry-After"] is not None) == (status == 429)
    assert registry.requests() == []
    assert manifest(proxy, "1").status == 200


def test_a_reset_takes_the_connection(proxy: Proxy, weather: Forecast) -> None:
    weather.next = "connection reset"

    with pytest.raises((ConnectionError, http.client.RemoteDisconnected)):
        manifest(proxy, "1")


def test_a_body_that_is_cut_short_is_short(proxy: Proxy, weather: Forecast) -> None:
    weather.next = "body truncated"

    with pytest.raises(http.client.IncompleteRead):
        manifest(proxy, "1")


def test_a_corrupted_body_has_its_length_and_other_bytes(proxy: Proxy, weather: Forecast) -> None:
    whole = ask(proxy.host, "GET", layer_path()).body
    weather.next = "bytes corrupted"
    corrupted = ask(proxy.host, "GET", layer_path()).body

    assert len(corrupted) == len(whole)
    assert sum(one != other for one, other in zip(corrupted, whole, strict=True)) == 1


def test_a_registry_refuses_an_upload_that_was_corrupted(
    proxy: Proxy, registry: DockerRegistry, weather: Forecast
) -> None:
    opened = ask(proxy.host, "POST", f"/v2/{NAME}/blobs/uploads/")
    path = opened.headers["Location"].removeprefix(f"http://{proxy.host}")
    digest = LARGE.descriptor.digest
    weather.next = "upload corrupted"
    reply = ask(proxy.host, "PUT", f"{path}&digest={digest}", b"".join(LARGE.open()))

    assert reply.status == 400
    assert ask(registry.host, "HEAD", f"/v2/{NAME}/blobs/{digest}").status == 404


def test_an_upload_that_is_cut_off_leaves_no_blob(
    proxy: Proxy, registry: DockerRegistry, weather: Forecast
) -> None:
    opened = ask(proxy.host, "POST", f"/v2/{NAME}/blobs/uploads/")
    path = opened.headers["Location"].removeprefix(f"http://{proxy.host}")
    digest = LARGE.descriptor.digest
    weather.next = "upload truncated"

    with pytest.raises((ConnectionError, http.client.RemoteDisconnected)):
        ask(proxy.host, "PUT", f"{path}&digest={digest}", b"".join(LARGE.open()))
    assert ask(registry.host, "HEAD", f"/v2/{NAME}/blobs/{digest}").status == 404


def test_a_tag_that_is_deleted_is_kept_too(proxy: Proxy) -> None:
    push(f"{proxy.host}/{NAME}", OLD, "gone")
    deleted = manifest(proxy, "gone", "DELETE")

    assert (proxy.puts[-1].reference, proxy.puts[-1].digest) == ("gone", "")
    assert proxy.puts[-1].status == deleted.status


def test_a_put_that_the_registry_never_answered_is_kept_as_such(fabric: Fabric) -> None:
    with socket.create_server((LOOPBACK, 0)) as deaf, ThreadPoolExecutor(1) as pool:
        before = fabric.proxy("deaf", deaf.getsockname()[1])
        asking = pool.submit(ask, before.host, "PUT", f"/v2/{NAME}/manifests/1", OLD.manifest.content)
        deaf.accept()[0].close()
        with pytest.raises((ConnectionError, http.client.RemoteDisconnected)):
            asking.result()

    assert [(put.reference, put.digest, put.status) for put in before.puts] == [("1", OLD.digest, 0)]


def test_a_put_whose_answer_is_lost_has_happened(
    proxy: Proxy, registry: DockerRegistry, weather: Forecast
) -> None:
    weather.next = "answer lost after a PUT"

    with pytest.raises((ConnectionError, http.client.RemoteDisconnected)):
        ask(proxy.host, "PUT", f"/v2/{NAME}/manifests/lost", OLD.manifest.content, OLD.manifest.media_type)
    assert ask(registry.host, "HEAD", f"/v2/{NAME}/manifests/lost").status == 200
    assert proxy.puts[-1].status == 201


def test_a_stale_answer_is_what_the_tag_was_before(proxy: Proxy, weather: Forecast) -> None:
    for image in (OLD, NEW):
        push(f"{proxy.host}/{NAME}", image, "moving")
    weather.next = "stale tag"

    assert manifest(proxy, "moving", "HEAD").headers["Docker-Content-Digest"] == OLD.digest
    assert manifest(proxy, "moving").body == NEW.manifest.content


def test_a_stall_delays(proxy: Proxy, weather: Forecast) -> None:
    weather.next = "stalled"
    begun = time.monotonic()

    assert manifest(proxy, "1").status == 200
    assert time.monotonic() - begun >= weather.stall_s


def test_a_registry_that_is_down_refuses_and_comes_back_at_its_port(proxy: Proxy) -> None:
    proxy.switch("refuse")
    with pytest.raises(ConnectionRefusedError):
        manifest(proxy, "1")
    proxy.switch("through")

    assert manifest(proxy, "1").status == 200


def test_what_is_cut_off_waits_and_goes_on_when_the_link_heals(fabric: Fabric, tmp_path: Path) -> None:
    with ValkeyServer(tmp_path) as valkey:
        link: Link = fabric.link(valkey.port)
        with valkey.client() as direct:
            direct.set("key", "value")
        with Redis(LOOPBACK, link.port, socket_timeout=0.2, retry=Retry(NoBackoff(), 0)) as client:
            assert client.get("key") == b"value"
            link.switch("cut")
            with pytest.raises(Silence):
                client.get("key")
            link.switch("through", resets=False)
            assert client.get("key") == b"value"


# -- the weather itself ------------------------------------------------------------------------------


def exchanges() -> list[Message]:
    heads = (
        b"PUT /v2/team/app/blobs/uploads/1?digest=sha256:0 HTTP/1.1\r\n\r\n",
        b"GET /v2/team/app/manifests/1 HTTP/1.1\r\n\r\n",
        b"HEAD /v2/team/app/blobs/sha256:0 HTTP/1.1\r\n\r\n",
    )
    return [Message(head, b"body") for head in heads] * 400


def faults(seed: int, share: float) -> list[HttpFault | None]:
    weather = Weather(seed, share)
    return [weather.fault(Asked.of(one), one, knows_older=True) for one in exchanges()]


def test_a_seed_makes_the_same_weather_again() -> None:
    assert faults(7, 0.2) == faults(7, 0.2)
    assert faults(7, 0.2) != faults(8, 0.2)


def test_every_class_of_faults_comes_up_and_as_rarely_as_asked_for() -> None:
    struck = faults(7, 0.2)
    looks = struck[2::3]

    assert set(struck) == {*HTTP_FAULTS, None}
    assert sum(one is not None for one in looks) == pytest.approx(0.2 * len(looks), rel=0.2)


def test_occasions_for_rare_classes_suffer_more_often_until_those_have_caught_up() -> None:
    """Where one exchange in twenty is an upload; and as often as any other where all are."""
    upload, _, look = exchanges()[:3]
    weather, crowded = Weather(seed=7, share=0.02), Weather(seed=7, share=0.02)
    struck: Counter[Message] = Counter()
    for one in [upload, *[look] * 19] * 2000:
        struck[one] += weather.fault(Asked.of(one), one, knows_older=False) is not None
    for _ in range(20_000):
        crowded.fault(Asked.of(upload), upload, knows_older=False)

    assert struck[upload] == pytest.approx(4 * 0.02 * 2000, rel=0.2)
    assert struck[look] == pytest.approx(0.02 * 38_000, rel=0.2)
    assert crowded.counts.total() == pytest.approx(0.02 * 20_000, rel=0.4)


def test_calm_weather_harms_nothing() -> None:
    assert set(faults(7, 0.0)) == {None}


def test_a_tag_that_was_put_before_another_target_held_its_manifest_is_found_on_the_wire() -> None:
    def put(registry: str, reference: str, begun: float, status: int = 201) -> Put:
        return Put(registry, NAME, reference, NEW.digest, begun, begun + 0.1, status)

    landed = [
        put(name, NEW.digest, float(number)) for number, name in enumerate(("north", "south", "island"))
    ]

    assert early_flips([*landed, put("north", "1", 2.2)]) == []
    assert len(early_flips([*landed, put("north", "1", 2.0)])) == 1
    assert len(early_flips([*landed[:2], put("north", "1", 9.0)])) == 1
    assert early_flips([*landed[:2], put("north", "1", 9.0, status=500)]) == []


def test_connections_that_come_while_everything_is_closed_are_closed_too() -> None:
    """What is left open would be a warning, and so a failure."""
    for _ in range(20):
        fabric = Fabric(Weather(seed=1))
        gate = fabric.link(1)
        clients = []
        for _ in range(20):
            client = socket.socket()
            client.settimeout(0)
            with contextlib.suppress(BlockingIOError):
                client.connect((LOOPBACK, gate.port))
            clients.append(client)
        fabric.close()
        for client in clients:
            client.close()
    gc.collect()
