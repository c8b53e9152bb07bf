"""A fleet's server is told what the embedded one is told, wherever it runs."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import yaml
from redis import AuthenticationError, Redis
from redis import ConnectionError as NotThere

from tests.support.chart import (
    CHART,
    ROOT,
    environment_of,
    refusal,
    render,
    rendered,
    value_set_of,
    with_values,
)
from tests.support.ports import free_port
from tests.support.process import Process
from tests.support.valkey import START_TIMEOUT_S
from tests.support.waiting import until
from workers import processes


def test_a_fleets_server_is_told_what_the_embedded_one_is_told() -> None:
    lines = (ROOT / "deploy" / "valkey.conf").read_text().splitlines()
    written = dict(line.split(" ", 1) for line in lines if line and not line.startswith("#"))
    command = processes.server("valkey-server", Path("data"), Path("socket"))
    told = {
        option.removeprefix("--"): value for option, value in zip(command[1::2], command[2::2], strict=True)
    }

    assert {name: value.strip('"') for name, value in written.items()}.items() <= told.items()


def test_the_charts_trial_server_is_told_the_same() -> None:
    assert (CHART / "files" / "valkey.conf").read_text() == (ROOT / "deploy" / "valkey.conf").read_text()


def test_the_charts_trial_server_starts_and_wants_its_password(tmp_path: Path) -> None:
    """With the command and the files that the chart gives it."""
    chart = rendered("trial")
    (container,) = chart.one("StatefulSet", "sealift-valkey")["spec"]["template"]["spec"]["containers"]
    secret = chart.one("Secret", "sealift-valkey")["stringData"]
    settings = chart.one("ConfigMap", "sealift-valkey")["data"]["valkey.conf"]
    for place, text in (
        ("etc/valkey/valkey.conf", settings),
        ("etc/valkey-auth/auth.conf", secret["auth.conf"]),
    ):
        (tmp_path / place).parent.mkdir(parents=True)
        (tmp_path / place).write_text(text)
    (tmp_path / "data").mkdir()
    words = [f"{tmp_path}{word}" if word.startswith("/") else word for word in container["command"][1:]]
    address = f"127.0.0.1:{(port := free_port())}"
    url = secret["url"].replace(secret["address"], address)

    with Process([processes.server_binary(), *words, "--port", str(port)], tmp_path / "log") as server:
        until(lambda: answer(f"redis://{address}/0"), START_TIMEOUT_S, server.tail)
        assert answer(f"redis://{address}/0") == "no password"
        assert answer(url) == f"yes noeviction {int(0.6 * 1024**3)}"


@pytest.mark.parametrize(
    ("limit", "most"),
    [
        ("1Gi", 644_245_094),
        ("512Mi", 322_122_547),
        ("1.5Gi", 966_367_641),
        ("2G", 1_200_000_000),
        (2_000_000_000, 1_200_000_000),
        (None, None),
    ],
)
def test_the_charts_trial_server_is_full_before_its_container_is(
    limit: str | int | None, most: int | None
) -> None:
    """Else it is killed, and again when it reads its file, where it should refuse what is new."""
    resources = f"{{limits: {{memory: {'null' if limit is None else limit}}}}}"
    values = yaml.safe_load(f"valkey: {{enabled: true, resources: {resources}}}")
    chart = render(with_values(values, base=value_set_of("trial")))
    (container,) = chart.one("StatefulSet", "sealift-valkey")["spec"]["template"]["spec"]["containers"]
    _, is_given, told = " ".join(container["command"]).partition("--maxmemory ")
    assert (told if is_given else None) == (most and str(most))


def test_the_trial_servers_password_may_be_one_that_stays() -> None:
    """What only renders the chart cannot look up the password that it generated before."""
    scaled = {"regions": {"local": {"autoscaling": {"mode": "keda"}}}}
    values = with_values(scaled, {"valkey": {"existingSecret": "mine"}}, base=value_set_of("trial"))
    chart = render(values)
    assert not chart.of("Secret")
    assert "generated" not in chart.notes
    assert chart.manifests == render(values).manifests
    used = {
        environment_of(container)["SEALIFT_REDIS_URL"]["secretKeyRef"]["name"]
        for name, container in chart.containers()
        if not name.endswith("valkey")
    }
    server = chart.one("StatefulSet", "sealift-valkey")["spec"]["template"]["spec"]
    used |= {volume["secret"]["secretName"] for volume in server["volumes"] if "secret" in volume}
    (login,) = chart.of("TriggerAuthentication")
    used |= {entry["name"] for entry in login["spec"]["secretTargetRef"]}
    assert used == {"mine"}


def test_the_readmes_secret_for_the_trial_server_holds_what_a_generated_one_holds() -> None:
    command = (CHART / "README.md").read_text().partition("generic sealift-trial ")[2].partition("```")[0]
    address, password = "sealift-valkey.mirror.svc:6379", "PASSWORD"
    assert f"address={address}\n" in (CHART / "README.md").read_text()
    filled = command.replace("$address", address).replace("$password", password).replace("\\\n", "")
    words = [word.removeprefix("--from-literal=") for word in shlex.split(filled)]
    generated = rendered("trial").one("Secret", "sealift-valkey")["stringData"]
    told = {name: text.replace(generated["password"], password) for name, text in generated.items()}
    assert dict(word.split("=", 1) for word in words) == told
    assert "make the Secret yourself" in rendered("trial").notes


def test_a_memory_limit_that_is_none_is_refused() -> None:
    values = {"valkey": {"resources": {"limits": {"memory": "plenty"}}}}
    words = refusal(with_values(values, base=value_set_of("trial")))
    assert 'valkey.resources.limits.memory: "plenty" is not understood; write it as in 1Gi' in words


def answer(url: str) -> str:
    """How the server keeps what it is given; empty while it does not answer."""
    with Redis.from_url(url, decode_responses=True) as client:
        try:
            told = client.config_get("appendonly", "maxmemory-policy", "maxmemory")
        except AuthenticationError:
            return "no password"
        except NotThere:
            return ""
    return f"{told['appendonly']} {told['maxmemory-policy']} {told['maxmemory']}"
