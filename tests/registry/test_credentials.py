from __future__ import annotations

import base64
import json
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import registry.docker_config
from registry.credentials import (
    ChainedCredentials,
    Credential,
    CredentialEntry,
    CredentialError,
    ExplicitCredentials,
    MalformedCredentials,
    MissingCredential,
)
from registry.docker_config import (
    HELPER_TTL_S,
    DockerConfig,
    HelperFailed,
    docker_config_files,
    usual_credentials,
)

SECRET = "s3cr3tValue"
HUB = "https://index.docker.io/v1/"


def encoded(username: str, password: str) -> str:
    return base64.b64encode(f"{username}:{password}".encode()).decode()


@pytest.fixture
def config(tmp_path: Path) -> Callable[[object], DockerConfig]:
    def write(document: object) -> DockerConfig:
        path = tmp_path / "config.json"
        path.write_text(document if isinstance(document, str) else json.dumps(document))
        return DockerConfig(path)

    return write


class Helpers:
    """Credential helpers on the PATH; each notes what it was asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, name: str, script: str) -> None:
        program = self.folder / f"docker-credential-{name}"
        program.write_text(f'#!/bin/sh\nread -r server; echo "$1 $server" >> {self.folder}/asked\n{script}\n')
        program.chmod(program.stat().st_mode | stat.S_IXUSR)

    def answering(self, name: str, username: str, secret: str) -> None:
        self.add(name, f"echo '{json.dumps({'ServerURL': 'x', 'Username': username, 'Secret': secret})}'")

    @property
    def asked(self) -> list[str]:
        log = self.folder / "asked"
        return log.read_text().splitlines() if log.exists() else []


@pytest.fixture
def helpers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Helpers:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return Helpers(folder)


def test_a_credential_does_not_show_its_secrets() -> None:
    credential = Credential("ann", SECRET, SECRET)
    entry = CredentialEntry("ann", SECRET, SECRET)

    assert "ann" in repr(credential)
    assert SECRET not in f"{credential!r} {entry!r} {[credential]}"


class TestExplicit:
    def test_values_come_from_environment_file_and_literal(self, tmp_path: Path) -> None:
        (tmp_path / "token").write_text(f"{SECRET}\n")
        entries = {
            "ghcr.io": CredentialEntry("env:USER_NAME", f"file:{tmp_path}/token"),
            "quay.io": CredentialEntry("ann", "env:PASSWORD"),
        }
        source = ExplicitCredentials(entries, {"USER_NAME": "bob", "PASSWORD": "pw"})

        assert source.lookup("ghcr.io") == Credential("bob", SECRET)
        assert source.lookup("quay.io") == Credential("ann", "pw")
        assert source.lookup("other.example") is None

    @pytest.mark.parametrize("name", ["docker.io", "index.docker.io", "registry-1.docker.io", "Docker.io"])
    def test_docker_hub_is_one_registry_under_all_its_names(self, name: str) -> None:
        source = ExplicitCredentials({name: CredentialEntry("ann", "pw")}, {})

        assert source.lookup("docker.io") == Credential("ann", "pw")

    @pytest.mark.parametrize(("environ", "state"), [({}, "not set"), ({"TOKEN": ""}, "empty")])
    def test_a_missing_variable_is_named_with_its_registry(self, environ: dict[str, str], state: str) -> None:
        source = ExplicitCredentials({"ghcr.io": CredentialEntry("ann", "env:TOKEN")}, environ)

        with pytest.raises(MissingCredential, match=rf"ghcr\.io: environment variable TOKEN is {state}"):
            source.lookup("ghcr.io")

    def test_a_missing_file_is_named_with_its_registry(self, tmp_path: Path) -> None:
        source = ExplicitCredentials({"ghcr.io": CredentialEntry("ann", f"file:{tmp_path}/none")}, {})

        with pytest.raises(MissingCredential, match=rf"ghcr\.io: credential file {tmp_path}/none is missing"):
            source.lookup("ghcr.io")

    def test_a_file_that_cannot_be_read_is_named(self, tmp_path: Path) -> None:
        source = ExplicitCredentials({"ghcr.io": CredentialEntry("ann", f"file:{tmp_path}")}, {})

        with pytest.raises(MissingCredential, match=rf"credential file {tmp_path}: Is a directory"):
            source.lookup("ghcr.io")

    @pytest.mark.parametrize("second_ns", [1, 2], ids=["within the clock's tick", "later"])
    def test_a_file_is_read_again_when_it_changes(self, tmp_path: Path, second_ns: int) -> None:
        path = tmp_path / "token"
        path.write_text("old")
        os.utime(path, ns=(1, 1))
        source = ExplicitCredentials({"ghcr.io": CredentialEntry("ann", f"file:{path}")}, {})
        assert source.lookup("ghcr.io") == Credential("ann", "old")

        path.write_text("newer")
        os.utime(path, ns=(second_ns, second_ns))

        assert source.lookup("ghcr.io") == Credential("ann", "newer")

    def test_a_secret_that_kubernetes_swaps_by_a_link_is_seen(self, tmp_path: Path) -> None:
        link = tmp_path / "token"
        for name in ("one", "two"):
            (tmp_path / name).write_text(name)
            os.utime(tmp_path / name, ns=(1, 1))
        link.symlink_to("one")
        source = ExplicitCredentials({"ghcr.io": CredentialEntry("ann", f"file:{link}")}, {})
        assert source.lookup("ghcr.io") == Credential("ann", "one")

        link.unlink()
        link.symlink_to("two")

        assert source.lookup("ghcr.io") == Credential("ann", "two")


class TestDockerConfig:
    @pytest.mark.parametrize(
        "key", ["ghcr.io", "https://ghcr.io", "https://ghcr.io/v1/", "https://ghcr.io/v2/", "GHCR.io"]
    )
    def test_a_key_may_be_a_host_or_a_url(self, config: Callable[[object], DockerConfig], key: str) -> None:
        source = config({"auths": {key: {"auth": encoded("ann", "p:w")}}})

        assert source.lookup("ghcr.io") == Credential("ann", "p:w")

    @pytest.mark.parametrize(
        "key", ["ghcr.io/org", "https://ghcr.io.evil.example", "other.example/ghcr.io", "[::1"]
    )
    def test_a_key_for_something_else_is_not_used(
        self, config: Callable[[object], DockerConfig], key: str
    ) -> None:
        assert config({"auths": {key: {"auth": encoded("ann", "pw")}}}).lookup("ghcr.io") is None

    @pytest.mark.parametrize("key", [HUB, "index.docker.io", "docker.io", "registry-1.docker.io"])
    def test_docker_hub_is_found_under_its_historical_name(
        self, config: Callable[[object], DockerConfig], key: str
    ) -> None:
        source = config({"auths": {key: {"auth": encoded("ann", "pw")}}})

        assert source.lookup("docker.io") == Credential("ann", "pw")

    @pytest.mark.parametrize(
        ("entry", "expected"),
        [
            ({"username": "ann", "password": "pw"}, Credential("ann", "pw")),
            ({"auth": encoded("0000", ""), "identitytoken": SECRET}, Credential("0000", "", SECRET)),
            ({"identitytoken": SECRET}, Credential("", "", SECRET)),
            ({"auth": encoded("ann", "pw\0\0")}, Credential("ann", "pw")),
            ({}, None),
            ({"email": "a@b.example"}, None),
        ],
    )
    def test_every_form_of_an_entry_is_read(
        self, config: Callable[[object], DockerConfig], entry: dict[str, str], expected: Credential | None
    ) -> None:
        assert config({"auths": {"r.example:5000": entry}}).lookup("r.example:5000") == expected

    def test_no_file_means_no_credentials(self, tmp_path: Path) -> None:
        assert DockerConfig(tmp_path / "none" / "config.json").lookup("ghcr.io") is None

    def test_a_new_login_is_seen(self, tmp_path: Path) -> None:
        path = tmp_path / "config.json"
        source = DockerConfig(path)
        assert source.lookup("ghcr.io") is None

        path.write_text(json.dumps({"auths": {"ghcr.io": {"auth": encoded("ann", "pw")}}}))

        assert source.lookup("ghcr.io") == Credential("ann", "pw")

    def test_a_mounted_secret_that_kubernetes_swaps_is_seen(self, tmp_path: Path) -> None:
        """As a volume changes: config.json → ..data/config.json, and ..data → a folder for each version."""
        for version, password in (("..1", "old"), ("..2", "new")):
            (tmp_path / version).mkdir()
            file = tmp_path / version / "config.json"
            file.write_text(json.dumps({"auths": {"ghcr.io": {"auth": encoded("ann", password)}}}))
            os.utime(file, ns=(1, 1))
        (tmp_path / "..data").symlink_to("..1")
        (tmp_path / "config.json").symlink_to("..data/config.json")
        (file,) = docker_config_files({"DOCKER_CONFIG": str(tmp_path)})
        source = DockerConfig(file)
        assert source.lookup("ghcr.io") == Credential("ann", "old")

        (tmp_path / "..tmp").symlink_to("..2")
        (tmp_path / "..tmp").replace(tmp_path / "..data")

        assert source.lookup("ghcr.io") == Credential("ann", "new")

    @pytest.mark.parametrize(
        ("document", "complaint"),
        [
            ('{"auths": {\n "ghcr.io": {"auth": "' + SECRET + '"},,}}', r"config\.json:2:\d+: .+"),
            ("[]", "is not a JSON object"),
            ("[" * 5000, "is not JSON"),
            ({"auths": []}, None),
            ({"auths": ["x"]}, "auths is not an object"),
            ({"auths": {"ghcr.io": SECRET}}, r"auths\['ghcr\.io'\] is not an object"),
            ({"auths": {"ghcr.io": {"auth": [SECRET]}}}, "holds what is not text"),
            ({"auths": {"ghcr.io": {"auth": f"{SECRET}!"}}}, r"auths\['ghcr\.io'\]\.auth is not base64"),
            ({"auths": {"ghcr.io": {"auth": "bm9jb2xvbg=="}}}, r"\.auth is not base64 of user:password"),
            ({"credsStore": "../../evil"}, "is not the name of a credential helper"),
            ({"credHelpers": {"ghcr.io": 3}}, "is not the name of a credential helper"),
        ],
    )
    def test_a_malformed_file_is_named_with_the_place_and_without_its_secrets(
        self, config: Callable[[object], DockerConfig], document: object, complaint: str | None
    ) -> None:
        source = config(document)
        if complaint is None:
            assert source.lookup("ghcr.io") is None
            return

        with pytest.raises(MalformedCredentials, match=complaint) as caught:
            source.lookup("ghcr.io")

        assert "config.json" in str(caught.value)
        assert SECRET not in repr(caught.value)
        assert caught.value.__cause__ is None

    def test_a_broken_entry_is_no_trouble_for_other_registries(
        self, config: Callable[[object], DockerConfig]
    ) -> None:
        source = config(
            {"auths": {"broken.example": {"auth": "!"}, "ghcr.io": {"auth": encoded("ann", "pw")}}}
        )

        assert source.lookup("ghcr.io") == Credential("ann", "pw")


class TestHelpers:
    def test_the_helper_of_a_registry_goes_before_store_and_file(
        self, config: Callable[[object], DockerConfig], helpers: Helpers
    ) -> None:
        helpers.answering("own", "ann", SECRET)
        helpers.answering("store", "bob", "other")
        source = config(
            {
                "auths": {"ghcr.io": {"auth": encoded("carl", "file")}, "quay.io": {}},
                "credHelpers": {"ghcr.io": "own"},
                "credsStore": "store",
            }
        )

        assert source.lookup("ghcr.io") == Credential("ann", SECRET)
        assert source.lookup("quay.io") == Credential("bob", "other")
        assert helpers.asked == ["get ghcr.io", "get quay.io"]

    def test_docker_hub_is_asked_for_by_its_historical_name(
        self, config: Callable[[object], DockerConfig], helpers: Helpers
    ) -> None:
        helpers.answering("store", "ann", "pw")

        assert config({"credsStore": "store"}).lookup("docker.io") == Credential("ann", "pw")
        assert helpers.asked == [f"get {HUB}"]

    def test_a_token_user_means_an_identity_token(
        self, config: Callable[[object], DockerConfig], helpers: Helpers
    ) -> None:
        helpers.answering("store", "<token>", SECRET)

        assert config({"credsStore": "store"}).lookup("a.azurecr.io") == Credential("", "", SECRET)

    def test_a_helper_that_knows_nothing_leaves_it_to_the_file(
        self, config: Callable[[object], DockerConfig], helpers: Helpers
    ) -> None:
        helpers.add("store", "echo 'credentials not found in native keychain'; exit 1")
        source = config({"auths": {"ghcr.io": {"auth": encoded("ann", "pw")}}, "credsStore": "store"})

        assert source.lookup("ghcr.io") == Credential("ann", "pw")
        assert source.lookup("quay.io") is None

    @pytest.mark.parametrize(
        ("script", "complaint"),
        [
            ("echo 'the keychain is locked'; exit 1", "the keychain is locked"),
            (f"echo 'cannot log in with password={SECRET}' >&2; exit 1", r"password=\*\*\*"),
            (f"echo '{SECRET}'", "its answer is not JSON with Username and Secret"),
            (f'echo \'{{"Username": 3, "Secret": "{SECRET}"}}\'', "is not text"),
        ],
    )
    def test_a_failing_helper_is_named_without_its_secrets(
        self, config: Callable[[object], DockerConfig], helpers: Helpers, script: str, complaint: str
    ) -> None:
        helpers.add("store", script)

        with pytest.raises(HelperFailed, match=f"docker-credential-store: .*{complaint}") as caught:
            config({"credsStore": "store"}).lookup("ghcr.io")

        assert SECRET not in repr(caught.value)

    def test_a_helper_that_is_not_installed_is_named(self, config: Callable[[object], DockerConfig]) -> None:
        with pytest.raises(HelperFailed, match="docker-credential-nowhere is not installed"):
            config({"credsStore": "nowhere"}).lookup("ghcr.io")

    def test_a_helper_that_hangs_is_given_up(
        self,
        config: Callable[[object], DockerConfig],
        helpers: Helpers,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(registry.docker_config, "HELPER_TIMEOUT_S", 0.1)
        helpers.add("store", "exec sleep 60")

        with pytest.raises(HelperFailed, match=r"no answer about ghcr\.io in 0\.1 s"):
            config({"credsStore": "store"}).lookup("ghcr.io")

    def test_an_answer_is_kept_for_minutes(self, tmp_path: Path, helpers: Helpers) -> None:
        helpers.answering("store", "ann", "pw")
        path = tmp_path / "config.json"
        path.write_text(json.dumps({"credsStore": "store"}))
        now = [0.0]
        source = DockerConfig(path, clock=lambda: now[0])

        for moment in (0.0, HELPER_TTL_S - 1, HELPER_TTL_S + 1):
            now[0] = moment
            assert source.lookup("ghcr.io") == Credential("ann", "pw")

        assert helpers.asked == ["get ghcr.io"] * 2

    def test_threads_start_a_helper_once(
        self, config: Callable[[object], DockerConfig], helpers: Helpers
    ) -> None:
        helpers.answering("store", "ann", "pw")
        source = config({"credsStore": "store"})
        threads = [threading.Thread(target=source.lookup, args=("ghcr.io",)) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert helpers.asked == ["get ghcr.io"]


class Fixed:
    def __init__(self, answers: dict[str, Credential]) -> None:
        self.answers = answers

    def lookup(self, host: str) -> Credential | None:
        return self.answers.get(host)


class Failing:
    def lookup(self, host: str) -> Credential | None:
        raise CredentialError(host)


def test_the_first_source_that_knows_a_host_is_the_last_one_asked() -> None:
    chain = ChainedCredentials([Fixed({}), Fixed({"a": Credential("ann", "pw")}), Failing()])

    assert chain.lookup("a") == Credential("ann", "pw")
    with pytest.raises(CredentialError):
        chain.lookup("b")


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, []),
        ({"HOME": "/home/ann"}, ["/home/ann/.docker/config.json"]),
        ({"HOME": "/home/ann", "DOCKER_CONFIG": "/etc/d"}, ["/etc/d/config.json"]),
        (
            {"HOME": "/h", "REGISTRY_AUTH_FILE": "/a.json", "XDG_RUNTIME_DIR": "/run/user/1"},
            ["/a.json", "/h/.docker/config.json", "/run/user/1/containers/auth.json"],
        ),
    ],
)
def test_the_files_of_docker_and_podman_are_looked_for_where_they_put_them(
    environ: dict[str, str], expected: list[str]
) -> None:
    assert [str(path) for path in docker_config_files(environ)] == expected


def test_the_fleet_file_goes_before_what_podman_wrote(tmp_path: Path) -> None:
    path = tmp_path / "containers" / "auth.json"
    path.parent.mkdir()
    path.write_text(
        json.dumps({"auths": {host: {"auth": encoded("ann", "pw")} for host in ("docker.io", "ghcr.io")}})
    )
    environ = {"XDG_RUNTIME_DIR": str(tmp_path), "TOKEN": SECRET}
    source = usual_credentials({"ghcr.io": CredentialEntry("bob", "env:TOKEN")}, environ)

    assert source.lookup("docker.io") == Credential("ann", "pw")
    assert source.lookup("ghcr.io") == Credential("bob", SECRET)
