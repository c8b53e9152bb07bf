"""A list of references is read to its end before anything is done; every bad line is named by its number."""

from __future__ import annotations

import io
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirror.ledger.sources import Entry
from mirror.spec import MirrorSpec, Target
from workers.cli import main
from workers.cli.exits import Exit, Stop
from workers.cli.lists import MOST_FAULTS, reading
from workers.cli.specs import Terms, spec_of_list

DIGEST = f"sha256:{'a' * 64}"
ANYWHERE = spec_of_list("list", ["eu=registry.eu.example/all/*"], Terms())
ORG = MirrorSpec("org", "ghcr.io/org/*", (Target("b.example/*"),), not_repositories=("*-cache",))
APP = MirrorSpec("app", "ghcr.io/org/app", (Target("b.example/app"),))


def read(folder: Path, text: str, spec: MirrorSpec = ANYWHERE) -> list[Entry]:
    file = folder / "list.txt"
    file.write_text(text)
    with reading(str(file), spec) as references:
        return list(references.entries())


def faults(folder: Path, text: str, spec: MirrorSpec = ANYWHERE) -> list[str]:
    with pytest.raises(Stop) as caught:
        read(folder, text, spec)
    assert caught.value.code == Exit.USAGE
    return [line.removeprefix(f"{folder / 'list.txt'}:") for line in str(caught.value).splitlines()]


def test_lines_of_one_repository_that_stand_together_travel_together(tmp_path: Path) -> None:
    text = f"""\
# made on Monday
quay.io/team/app:1.0
quay.io/team/app:1.1   # with a remark

quay.io/team/app:1.0
quay.io/team/app:pinned@{DIGEST}
alpine
quay.io/team/app:2.0
"""
    assert read(tmp_path, text) == [
        Entry("quay.io/team/app", (("1.0", "1.0"), ("1.1", "1.1"), ("pinned", DIGEST))),
        Entry("docker.io/library/alpine"),
        Entry("quay.io/team/app", (("2.0", "2.0"),)),
    ]


def test_every_bad_line_is_named_by_its_number(tmp_path: Path) -> None:
    text = f"""\
quay.io/team/app:1.0

https://quay.io/team/app
quay.io/Team/app:1
quay.io/team/app@{DIGEST}
quay.io/team/app:1.0@sha256:12
oci:somewhere:1
quay.io/team/*
docker.io/team/app:1.0
two words
"""
    found = faults(tmp_path, text)

    assert [line.partition(":")[0] for line in found] == ["3", "4", "5", "6", "7", "8", "9", "10"]
    assert "without the scheme" in found[0]
    assert "lower case" in found[1]
    assert f"has no tag to keep; write quay.io/team/app:TAG@{DIGEST[:19]}…" in found[2]
    assert "not a digest" in found[3]
    assert "is a folder" in found[4]
    assert "would be written where quay.io/team/app is (line 1)" in found[6]


def test_of_very_many_bad_lines_the_first_are_shown_and_the_others_counted(tmp_path: Path) -> None:
    found = faults(tmp_path, "NO\n" * (MOST_FAULTS + 7))

    assert len(found) == MOST_FAULTS + 1
    assert found[-1] == "... and 7 further bad lines"


def test_a_list_for_a_mirror_holds_references_of_its_source(tmp_path: Path) -> None:
    assert read(tmp_path, "ghcr.io/org/app:1\nghcr.io/org/team/db:2", ORG) == [
        Entry("ghcr.io/org/app", (("1", "1"),)),
        Entry("ghcr.io/org/team/db", (("2", "2"),)),
    ]
    assert read(tmp_path, "ghcr.io/org/app:1", APP) == [Entry("ghcr.io/org/app", (("1", "1"),))]
    text = "ghcr.io/other/app:1\nghcr.io/org/x-cache:1\nghcr.io/org:1\n"
    assert [line.partition(" is none of ")[2] for line in faults(tmp_path, text, ORG)] == [
        "ghcr.io/org/*, which org mirrors"
    ] * 3
    assert faults(tmp_path, "ghcr.io/org/db:1", APP) == [
        "1: ghcr.io/org/db is not ghcr.io/org/app, which app mirrors"
    ]


def test_what_would_be_written_to_itself_or_nowhere_is_a_bad_line(tmp_path: Path) -> None:
    spec = spec_of_list("list", ["ghcr.io/*"], Terms())
    long = f"quay.io/{'a' * 240}"

    assert faults(tmp_path, "ghcr.io/org/app:1", spec) == ["1: ghcr.io/org/app would be written to itself"]
    assert "longer than 255" in faults(tmp_path, f"{long}:1")[0]


def test_an_empty_list_is_no_list(tmp_path: Path) -> None:
    assert "no reference in it" in faults(tmp_path, "# nothing\n\n")[0]


def test_bytes_that_are_no_text_are_a_bad_line(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"quay.io/a/b:1\n\xff\xfe\n")

    with pytest.raises(Stop, match=r"list\.txt:2: "), reading(str(tmp_path / "list.txt"), ANYWHERE):
        pass


def test_standard_input_is_read_as_a_file_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"quay.io/a/b:1\nquay.io/a/c\n")))

    with reading("-", ANYWHERE) as references:
        assert list(references.entries()) == [Entry("quay.io/a/b", (("1", "1"),)), Entry("quay.io/a/c")]
        assert references.hosts == {"quay.io"}
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\nNO\n")))
    with pytest.raises(Stop, match=r"^standard input:2: "), reading("-", ANYWHERE):
        pass


FLEET = """\
registries:
  localhost:5000: {listing: catalog}
mirrors:
  - {name: app, source: localhost:5000/app, targets: [localhost:5001/app]}
  - {name: org, source: "localhost:5000/org/*", targets: ["localhost:5001/org/*"]}
"""


@pytest.fixture(autouse=True)
def own_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEALIFT_STATE_DIR", str(tmp_path / "state"))
    for name in ("SEALIFT_FLEET_FILE", "SEALIFT_REDIS_URL"):
        monkeypatch.setenv(name, "x")
        monkeypatch.delenv(name)
    (tmp_path / "sealift.yaml").write_text(FLEET)
    (tmp_path / "good.txt").write_text("localhost:5000/org/app:1\n")
    (tmp_path / "bad.txt").write_text("localhost:5000/org/app:1\nNO\n")
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--from bad.txt --to localhost:1/*", "bad.txt:2: 'NO'"),
        ("--from none.txt --to localhost:1/*", "--from none.txt: No such file or directory"),
        ("--from . --to localhost:1/*", "--from .: Is a directory"),
        ("--from good.txt --to localhost:1/x", "write localhost:1/x/*"),
        ("--from good.txt --to localhost:1/*/x", "it comes last"),
        ("--from good.txt --to localhost:1/* --tags semver:>=abc", "semver:>=abc"),
        ("--from good.txt", "either --to or one MIRROR"),
        ("app org --from good.txt", "either --to or one MIRROR"),
        ("app --from good.txt --to localhost:1/*", "either --to or one MIRROR"),
        ("app --from good.txt", "good.txt:1: localhost:5000/org/app is not localhost:5000/app"),
        ("org --from good.txt --tags 1.*", "a mirror's are in the fleet file"),
        ("app --to localhost:1/*", "go with --from"),
        ("app --tags 1.*", "go with --from"),
        ("--resume 5b14 --from good.txt", "it takes no MIRROR, --from or --dry-run"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_2_and_nothing_is_begun(
    words: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["backfill", *words.split()]) == Exit.USAGE

    said = capsys.readouterr()
    assert says in said.err
    assert said.out == ""
    assert not (tmp_path / "state").exists()
