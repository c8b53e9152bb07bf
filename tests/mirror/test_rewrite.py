"""From where to where, what ends a reference, what belongs together, files written in one piece."""

from __future__ import annotations

from pathlib import Path

import pytest

from mirror.rewrite.files import Changed, decide, survey
from mirror.rewrite.kinds import MAX_BYTES, spots_in
from mirror.rewrite.moves import Moves
from mirror.rewrite.proof import Claim, Verdict
from mirror.rewrite.spots import STAYS, UNSURE, Edit, Spot, edited
from mirror.rewrite.words import reference_at
from mirror.rewrite.yamls import BY_ANCHOR
from registry.reference import MalformedReference, Reference

MOVES = Moves.parse(["docker.io/org=ghcr.io/org"])
DEPLOYMENT = "kind: Deployment\nspec: {containers: [{image: 'org/app:1'}, {image: org/db:1}]}\n"
KUSTOMIZATION = "resources: [{bases}]\nimages:\n- name: org/app\n  newTag: '{tag}'\n"


@pytest.mark.parametrize(
    ("maps", "old", "new"),
    [
        (["docker.io/org=ghcr.io/org"], "org/app:1", "ghcr.io/org/app:1"),
        (["docker.io/org=ghcr.io/org"], "docker.io/org/a/b", "ghcr.io/org/a/b"),
        (["docker.io/org/*=ghcr.io/*"], "org/app", "ghcr.io/app"),
        (["docker.io/org/app=ghcr.io/new/name"], "org/app", "ghcr.io/new/name"),
        (["docker.io/org=ghcr.io/org"], "organisation/app", None),
        (["docker.io/org=ghcr.io/org"], "quay.io/org/app", None),
        (["docker.io=hub.example:5000/hub"], "alpine", "hub.example:5000/hub/library/alpine"),
        (["docker.io/org=b.example/x", "docker.io/org/db=c.example/y"], "org/db/z", "c.example/y/z"),
        (["docker.io/org=docker.io/org/old"], "org/app", "docker.io/org/old/app"),
        (["docker.io/org=docker.io/org/old"], "org/old/app", None),
        (["index.docker.io/org=ghcr.io/org"], "org/app", "ghcr.io/org/app"),
    ],
)
def test_the_longest_prefix_of_whole_components_decides(maps: list[str], old: str, new: str | None) -> None:
    found = Moves.parse(maps).of(Reference.parse(old))

    assert (str(found) if found else None) == new


@pytest.mark.parametrize(
    ("maps", "says"),
    [
        (["docker.io/org"], "write OLD=NEW"),
        (["=ghcr.io/org"], "write OLD=NEW"),
        (
            ["org=ghcr.io/org"],
            "docker.io/org for an account of Docker Hub, docker.io/library/org for an official",
        ),
        (["docker.io/org/app:1=ghcr.io/org/app:1"], "tags and digests stay as they are"),
        (["docker.io/Org=ghcr.io/org"], "lower case"),
        (["oci:dir=ghcr.io/org"], "a layout folder"),
        (["ghcr.io/org=ghcr.io/org"], "the same place"),
        (["docker.io/org=a.example/b", "docker.io/org/*=c.example/d"], "choose one"),
    ],
)
def test_a_map_that_cannot_be_meant_is_refused(maps: list[str], says: str) -> None:
    with pytest.raises(MalformedReference, match=says):
        Moves.parse(maps)


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("org/app:1 ", "1"),
        ("org/app:1. Then", "1"),
        ("org/app:1, then", "1"),
        ("org/app:1'", "1"),
        ("org/app:1\\n", "1"),
        ("org/app:${TAG:-1.2}", "1.2"),
        ("org/app:${TAG:-1.2}-alpine", None),
        ("org/app:1.${PATCH}", None),
        ('org/app:"$TAG"', None),
        ("org/app:{{ .Values.tag }}", None),
    ],
)
def test_a_tag_ends_where_a_registry_would_end_it_and_variables_are_seen(text: str, tag: str | None) -> None:
    found = reference_at(text, 0)

    assert found is not None
    assert (found.tag, found.name.text) == (tag, "org/app")
    assert found.has_variable == any(mark in text for mark in "${")


@pytest.mark.parametrize("text", ["org/app:/data", "org/App", "org/app$X", "org/app/*", "org/app/", "-x", ""])
def test_what_goes_on_otherwise_is_no_reference(text: str) -> None:
    assert reference_at(text, 0) is None


def test_edits_that_overlap_are_a_defect_and_equal_ones_are_one() -> None:
    assert edited("abc", [Edit(1, 2, "x"), Edit(1, 2, "x")]) == "axc"
    with pytest.raises(ValueError, match="overlap"):
        edited("abc", [Edit(0, 2, "x"), Edit(1, 3, "y")])


def written(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_yaml", ".yaml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def outcome(folder: Path, *, unproven: str = "") -> tuple[dict[str, str], list[str]]:
    """Texts that change, by file, and what stays; the tag ``unproven`` is not at the new place."""
    found = survey([folder], MOVES)
    verdicts: dict[Claim, Verdict] = {
        claim: Verdict(why_not="is not there" if claim.old.tag == unproven else "") for claim in found.claims
    }
    changed, left = decide(found.sources, verdicts, pin=False)
    names = {one.source.path.relative_to(folder).as_posix(): one.text for one in changed}
    return names, [f"{one.place}: {one.why}".replace(f"{folder}/", "") for one in left]


def test_a_kustomization_changes_together_with_what_it_finds(tmp_path: Path) -> None:
    written(tmp_path, base_yaml=DEPLOYMENT, kustomization_yaml=KUSTOMIZATION.format(bases="base.yaml", tag=2))

    changed, left = outcome(tmp_path)

    assert left == []
    assert "- name: ghcr.io/org/app\n" in changed["kustomization.yaml"]
    assert "ghcr.io/org/app:1" in changed["base.yaml"]


def test_neither_a_kustomization_nor_what_it_finds_changes_alone(tmp_path: Path) -> None:
    prod, dev = (KUSTOMIZATION.format(bases="../base", tag=tag) for tag in (2, 3))
    base = "resources: [app.yaml]\n"
    written(
        tmp_path,
        base__app_yaml=DEPLOYMENT,
        base__kustomization_yaml=base,
        dev__kustomization_yaml=dev,
        other_yaml="image: org/app:9\n",
        prod__kustomization_yaml=prod,
    )

    changed, left = outcome(tmp_path, unproven="2")

    assert set(changed) == {"base/app.yaml", "other.yaml"}
    assert "'org/app:1'" in changed["base/app.yaml"]
    assert "image: ghcr.io/org/db:1" in changed["base/app.yaml"]
    assert left == [
        "prod/kustomization.yaml:3: is not there",
        "base/app.yaml:2: changes together with prod/kustomization.yaml:3, which stays",
        "dev/kustomization.yaml:3: changes together with base/app.yaml:2, which stays",
    ]


@pytest.mark.parametrize("bases", ["https://git.example/base?ref=1", "gone.yaml"])
def test_a_kustomization_of_bases_that_are_elsewhere_is_named(bases: str, tmp_path: Path) -> None:
    written(tmp_path, kustomization_yaml=KUSTOMIZATION.format(bases=f'"{bases}"', tag=1))

    changed, left = outcome(tmp_path)

    assert changed == {}
    assert left == [
        "kustomization.yaml:3: names an image of bases that are not here; add newName: ghcr.io/org/app"
    ]


def test_a_charts_empty_tag_is_its_app_version(tmp_path: Path) -> None:
    values = written(
        tmp_path,
        Chart_yaml="name: app\nappVersion: '1.4'\n",
        values_yaml="image:\n  repository: org/app\n  tag: ''\n",
    )

    (spot,) = spots_in(values / "values.yaml", (values / "values.yaml").read_text(), MOVES)

    assert str(spot.old) == "docker.io/org/app:1.4"


def test_an_alias_is_changed_once_where_its_anchor_is(tmp_path: Path) -> None:
    text = "x: &app org/app:1\nservices:\n  a: {image: *app}\n  b: {image: *app}\n"

    changed, _ = outcome(written(tmp_path, compose_yaml=text))

    assert changed["compose.yaml"] == text.replace("org/app", "ghcr.io/org/app")


SPLIT = """\
x: &name org/app
a: {repository: *name, tag: "1"}
b: {repository: *name, tag: "2"}
"""


def test_images_that_share_an_anchor_change_together(tmp_path: Path) -> None:
    folder = written(tmp_path, values_yaml=SPLIT)

    assert outcome(folder)[0]["values.yaml"] == SPLIT.replace("org/app", "ghcr.io/org/app")


def test_of_images_that_share_an_anchor_none_changes_where_one_is_not_proven(tmp_path: Path) -> None:
    changed, left = outcome(written(tmp_path, values_yaml=SPLIT), unproven="2")

    assert changed == {}
    assert left == [
        "values.yaml:1: is not there",
        "values.yaml:1: is named in one place with docker.io/org/app:2, which stays",
    ]


def test_a_registry_that_an_image_shares_with_one_that_does_not_move_stays(tmp_path: Path) -> None:
    text = """\
a: {registry: &hub docker.io, repository: org/app, tag: "1"}
b: {registry: *hub, repository: other/app, tag: "1"}
"""
    changed, left = outcome(written(tmp_path, values_yaml=text))

    assert changed == {}
    assert left == [f"values.yaml:1: {BY_ANCHOR}"]


def test_what_is_merged_into_a_mapping_counts_as_its_own(tmp_path: Path) -> None:
    text = 'a: &a {repository: org/app, tag: "1"}\nb: {<<: *a, tag: "2"}\n'

    assert outcome(written(tmp_path, values_yaml=text), unproven="2")[0] == {}


def test_a_tag_that_images_share_is_pinned_for_none_of_them(tmp_path: Path) -> None:
    text = 'a: {repository: org/app, tag: &tag "1"}\nb: {repository: org/db, tag: *tag}\n'
    found = survey([written(tmp_path, values_yaml=text)], MOVES)
    verdicts = {claim: Verdict(f"sha256:{claim.old.repository[-1] * 64}") for claim in found.claims}

    (one,), left = decide(found.sources, verdicts, pin=True)

    assert (one.text, left) == (text.replace("org/", "ghcr.io/org/"), [])
    assert len(one.unpinned) == 2


@pytest.mark.parametrize("other", ["${IMAGE}-alpine", "$IMAGE$SUFFIX"])
def test_an_argument_of_which_another_name_is_made_stays(other: str, tmp_path: Path) -> None:
    text = f"ARG IMAGE=org/app:1\nFROM $IMAGE AS a\nFROM {other}\n"
    (tmp_path / "Dockerfile").write_text(text)

    changed, left = outcome(tmp_path)

    assert changed == {}
    assert left[0] == "Dockerfile:1: line 3 makes another name of it; change it by hand"


COMMANDS = [
    ("docker run --rm -it -v org/data:/x -e A=org/b:1 --name org/x org/app:1 cat org/c:2", ["org/app:1"]),
    ("docker run -v $(pwd):/src --gpus all org/app sh -c 'cat org/c:2'", ["org/app"]),
    ("docker run $DOCKER_OPTS org/app:1 org/c:2", ["org/app:1"]),
    ("docker run $IMAGE cat org/c:2", []),
    ("docker run -p8080:80 --network=host org/app:1 && docker run org/b:2", ["org/app:1", "org/b:2"]),
    ('docker run -e "A=1 org/c:2" "org/app:1" > org/log:3', ["org/app:1"]),
    ("docker build org/path -t org/app:1", ["published org/app:1"]),
    ("docker buildx build --cache-from=org/app:1 --build-arg X=org/y org/path", ["org/app:1"]),
    ("docker build --build-arg BASE=org/app:1 --build-arg BASE_IMAGE=org/b .", ["org/app:1", "org/b"]),
    ("docker build --build-arg X=org/y:2 --build-arg BASE_DIR=org/y --build-arg A=a .", ["unsure org/y:2"]),
    (
        "podman build --build-arg=FROM=org/app:$TAG --build-arg DATABASE_IMG=org/b:1 .",
        ["org/app:…", "org/b:1"],
    ),
    ("docker build --build-arg BASE_OS=org/app:1 --build-arg FROM_PORT=org:1 .", ["org/app:1"]),
    ("helm install x org/chart --set image.repository=org/app", ["docker.io/org/app"]),
    ("helm upgrade x . --set a.image.repository='org/app',a.image.tag=1", ["docker.io/org/app:1"]),
    ("helm template . --set-string=image.repository=org/app --set image.tag=$T", ["docker.io/org/app"]),
    ("helm upgrade x . --set b.registry=docker.io --set b.repository=org/app", ["docker.io/org/app"]),
    ("helm upgrade x . --set b.repository=docker.io/org/app,b.tag=1", ["docker.io/org/app:1"]),
    ("helm upgrade x . --set git.repository=org/app,git.tag=1 --set a=org/b -f org/c:1", []),
    ("helm upgrade x . --set image=org/app:1,base=org/b:2", ["org/app:1", "unsure org/b:2"]),
    ("trivy fs org/path", []),
    ("trivy image --severity HIGH org/app:1", ["org/app:1"]),
    ("grype org/path; syft org/app:1", ["org/app:1"]),
    ("docker compose run app cat org/c:2", []),
    ("docker exec app cat org/c:2", []),
    ("docker image tag org/app:1 org/b:2", ["org/app:1", "published org/b:2"]),
    ("sh 'docker run -e \"A=1\" org/app:1' + 'org/c:2'", ["org/app:1", "unsure org/c:2"]),
    ('["docker", "run", "--rm", "org/app:1", "org/c:2"]', ["org/app:1"]),
    ("x=$(docker inspect -f '{{.Id}}' org/app:1) org/c:2", ["org/app:1"]),
    ("kubectl set image deploy/org/x app=org/app:1", ["org/app:1"]),
    ("skopeo inspect docker://org/app:1", ["org/app:1"]),
    (".venv/bin/sealift mirror docker.io/org/app:1 --to ghcr.io/org/app", ["mirrored docker.io/org/app:1"]),
    ("sealift verify org/app", ["mirrored org/app"]),
    ("docker run \\\n  --rm \\\n  org/app:1 \\\n  org/c:2\ndocker pull org/b:2", ["org/app:1", "org/b:2"]),
]


@pytest.mark.parametrize(("line", "images"), COMMANDS)
def test_only_where_a_command_takes_an_image_is_one(line: str, images: list[str]) -> None:
    found = spots_in(Path("x.sh"), f"{line}\n", MOVES)

    assert [f"{said(one)}{one.shown}" for one in found] == images


def said(spot: Spot) -> str:
    return "unsure " if spot.is_unsure else "" if spot.role == "used" else f"{spot.role} "


HEREDOCS = [
    ("cat > Dockerfile <<EOF\nFROM org/app\nEOF\n", ["org/app"]),
    (
        "docker build - <<'E'\n# FROM org/x\nARG A=1\nFROM org/app AS a\nFROM a\nE\ndocker pull org/b:2",
        ["org/app", "org/b:2"],
    ),
    ("kubectl apply -f - <<-E\n\tkind: Pod\n\tspec: {name: org/x, image: org/app}\n\tE\n", ["org/app"]),
    (
        "cat <<E | tee -a /x/values.yaml\nimage:\n  repository: org/app\n  tag: 1\nE\n",
        ["docker.io/org/app:1"],
    ),
    ("xargs docker pull << E\norg/app:1\n# org/x:1\n\norg/b:2\nE\n", ["org/app:1", "org/b:2"]),
    ("bash <<E\ndocker run org/app:1 cat org/x:1\nE\n", ["org/app:1"]),
    ("cat <<E\norg/x:1\nand more\nE\n", []),
    ("cat <<E\nFROM\norg/x:1 to org/y:2\nE\n", []),
    ("cat <<< E\norg/x:1\nE\n", []),
    ("# cat > Dockerfile <<E\nFROM org/x\nE\n", []),
    ("cat > Dockerfile <<E\nFROM org/x\n", []),
]


@pytest.mark.parametrize(("text", "images"), HEREDOCS)
def test_a_heredoc_is_read_as_the_file_that_it_becomes(text: str, images: list[str]) -> None:
    indented = "".join(f"      {line}\n" for line in text.splitlines())

    found = spots_in(Path("x.sh"), text, MOVES)
    within = spots_in(Path("ci.yml"), f"a:\n  script:\n    - |\n{indented}", MOVES)

    assert [one.shown for one in found] == [one.shown for one in within] == images
    assert [one.line + 3 for one in found] == [one.line for one in within]


VALUES = [
    ("docker_image.tf", 'name = "org/app:1"', [UNSURE]),
    ("settings.toml", "base = 'org/app:1'", [UNSURE]),
    ("run.sh", "IMG=org/app:1", [UNSURE]),
    ("run.sh", "docker ps --filter ancestor=org/app:1", [UNSURE]),
    ("play.yml", "docker_image: {name: org/app:1}", [UNSURE]),
    ("chart.tpl", 'image: {{ .Values.image | default "org/app:1" }}', [UNSURE]),
    ("compose.yaml", "services: {a: {build: {cache_from: ['org/app:cache']}}}", [UNSURE]),
    ("run.sh", "git clone https://github.com/org/app", []),
    ("settings.toml", 'path = "org/app"  # "org/app:1"', []),
    ("settings.toml", 'text = "see org/app:1 there"', []),
    ("settings.toml", 'mount = "org/app:/data"', []),
]


@pytest.mark.parametrize(("file", "text", "reasons"), VALUES)
def test_a_value_that_looks_like_an_old_image_is_named_and_stays(
    file: str, text: str, reasons: list[str], tmp_path: Path
) -> None:
    (tmp_path / file).write_text(f"{text}\n")

    changed, left = outcome(tmp_path)

    assert changed == {}
    assert [one.partition(": ")[2] for one in left] == reasons


@pytest.mark.parametrize(
    "text",
    [
        "a:\n  script:\n    - >-\n      docker run --rm\n      org/app:1\n      ls\n",
        "a:\n  script:\n    - docker run --rm\n      org/app:1\n      ls\n",
    ],
)
def test_a_command_goes_on_where_yaml_makes_a_space_of_a_line_end(text: str, tmp_path: Path) -> None:
    (tmp_path / "ci.yml").write_text(text)

    changed, _ = outcome(tmp_path)

    assert changed == {"ci.yml": text.replace("org/app", "ghcr.io/org/app")}


def test_lines_of_a_block_that_keeps_them_are_commands_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "ci.yml").write_text("script: |\n  docker run --rm $X\n  org/app:1\n")

    assert outcome(tmp_path) == ({}, [])


def test_a_dockerfile_within_compose_is_read_as_one(tmp_path: Path) -> None:
    text = (
        "services:\n  a:\n    build:\n      dockerfile_inline: |\n        FROM org/app AS b\n        FROM b\n"
    )
    (tmp_path / "compose.yaml").write_text(text)

    changed, left = outcome(tmp_path)

    assert (changed, left) == ({"compose.yaml": text.replace("org/app", "ghcr.io/org/app")}, [])


def test_a_pipeline_whose_job_is_called_build_publishes_nothing(tmp_path: Path) -> None:
    text = "image: org/app:1\nbuild:\n  script: [make]\n"
    (tmp_path / "ci.yml").write_text(text)

    assert outcome(tmp_path)[0] == {"ci.yml": text.replace("org/app", "ghcr.io/org/app")}


def test_tags_that_bake_pushes_stay(tmp_path: Path) -> None:
    text = 'tags = ["org/app:1", "docker.io/org/app:${T}"]\ncache-to = ["type=registry,ref=org/app:c"]\n'
    (tmp_path / "docker-bake.hcl").write_text(text)

    changed, left = outcome(tmp_path)

    assert changed == {}
    assert [one.partition(": ")[2] for one in left] == [STAYS["published"]] * 3


@pytest.mark.parametrize(
    ("file", "text", "old"),
    [
        ("Dockerfile", "FROM python\n", "python:latest"),
        ("x.sh", "docker run --rm alpine ls\n", "alpine:latest"),
        ("x.sh", "docker pull alpine:3\n", "alpine:3"),
        ("compose.yaml", "services: {a: {image: 'alpine:3'}}\n", "alpine:3"),
        ("images.txt", "docker.io/library/alpine:3\n", "alpine:3"),
        ("images.txt", "index.docker.io/alpine:3\n", "alpine:3"),
    ],
)
def test_official_images_are_found_by_their_short_names(file: str, text: str, old: str) -> None:
    moves = Moves.parse(["docker.io/library=mirror.example/hub"])

    (spot,) = spots_in(Path(file), text, moves)

    assert spot.old == Reference.parse(old)
    assert spot.new.name.startswith("mirror.example/hub/")


def test_files_are_looked_at_once_and_neither_links_nor_bytes_that_are_no_text(tmp_path: Path) -> None:
    written(tmp_path, a_yaml="image: org/app:1\n")
    (tmp_path / "link.yaml").symlink_to(tmp_path / "a.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"image: org/app:1\n\0")
    (tmp_path / "large.txt").write_bytes(b"org/app:1\n" * (MAX_BYTES // 10 + 1))
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "x.yaml").write_text("image: org/app:1\n")
    (tmp_path / "program").write_text("image: org/app:1\n")

    found = survey([tmp_path, tmp_path / "a.yaml", tmp_path / "binary.yaml", tmp_path / "program"], MOVES)

    assert [one.path.name for one in found.sources] == ["a.yaml", "program"]
    assert [path.name for path in found.skipped] == []
    assert survey([tmp_path / "binary.yaml"], MOVES).skipped == [tmp_path / "binary.yaml"]


def test_a_file_keeps_its_rights_and_one_that_changed_meanwhile_is_left_alone(tmp_path: Path) -> None:
    written(tmp_path, run_yaml="image: org/app:1\n")
    path = tmp_path / "run.yaml"
    path.chmod(0o750)
    found = survey([path], MOVES)
    (one,), _ = decide(found.sources, {claim: Verdict() for claim in found.claims}, pin=False)

    one.write()

    assert path.read_text() == "image: ghcr.io/org/app:1\n"
    assert path.stat().st_mode & 0o777 == 0o750
    with pytest.raises(Changed, match="was changed meanwhile"):
        one.write()
    assert list(tmp_path.iterdir()) == [path]


def test_long_lines_of_no_sense_are_read_in_one_pass() -> None:
    """Each of these was, or could be, read once for each of its characters."""
    for junk in ("a-", "a.", "a/", "A", "docker.io/", "image-", "a/b ", "<<a ", "<<a\n"):
        assert spots_in(Path("x.sh"), "org " + junk * (60_000 // len(junk)), MOVES) == []
