"""Files as people have them: what ``rewrite`` makes of each, byte for byte.

``rewriting/before`` holds them, ``rewriting/after`` those that change when docker.io/kuzudb becomes
ghcr.io/kuzudb.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from mirror.rewrite.arguments import BY_REGISTRY
from mirror.rewrite.files import Left, Rewritten, Survey, decide, survey
from mirror.rewrite.kinds import spots_in
from mirror.rewrite.moves import Moves
from mirror.rewrite.proof import Verdict
from mirror.rewrite.spots import BY_VARIABLES, STAYS, UNSURE, Edit, Spot, edited
from mirror.rewrite.yamls import BY_ANCHOR

CORPUS = Path(__file__).parent / "rewriting"
BEFORE, AFTER = CORPUS / "before", CORPUS / "after"
FILES = sorted(path.relative_to(BEFORE) for path in BEFORE.rglob("*") if path.is_file())
MOVES = Moves.parse(["docker.io/kuzudb=ghcr.io/kuzudb"])
PART_OF_ANOTHER = "line 4 makes another name of it; change it by hand"
BUILT, MIRRORED = STAYS["published"], STAYS["mirrored"]
DIGEST = f"sha256:{'d' * 64}"
FIXED = "sha256:0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0"


@cache
def surveyed() -> Survey:
    return survey([BEFORE], MOVES)


def decided(*, pin: bool = False) -> tuple[dict[str, Rewritten], list[Left]]:
    """Everything being proven."""
    found = surveyed()
    verdicts = {claim: Verdict(DIGEST if claim.old.tag else None) for claim in found.claims}
    changed, left = decide(found.sources, verdicts, pin=pin)
    return {one.source.path.relative_to(BEFORE).as_posix(): one for one in changed}, left


def text_of(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "surrogateescape")


def test_the_corpus_is_of_some_size_and_all_of_it_is_looked_at() -> None:
    assert len(FILES) >= 30
    assert surveyed().looked_at == len(FILES)
    assert {path.relative_to(AFTER) for path in AFTER.rglob("*") if path.is_file()} < set(FILES)


@pytest.mark.parametrize("file", FILES, ids=str)
def test_a_file_becomes_what_is_expected_byte_for_byte(file: Path) -> None:
    changed, _ = decided()
    one = changed.get(file.as_posix())
    expected = AFTER / file

    assert (one is not None) == expected.exists()
    if one is not None:
        assert one.text.encode("utf-8", "surrogateescape") == expected.read_bytes()


@pytest.mark.parametrize("file", FILES, ids=str)
def test_a_file_that_was_moved_has_nothing_left_to_move(file: Path) -> None:
    path = AFTER / file if (AFTER / file).exists() else BEFORE / file
    _, left = decided()
    stays = {one.spot.shown for one in left if one.source.path == BEFORE / file}

    assert {spot.shown for spot in spots_in(path, text_of(path), MOVES)} <= stays


@pytest.mark.parametrize("file", FILES, ids=str)
def test_a_file_in_which_nothing_matches_stays_as_it_is(file: Path) -> None:
    moves = Moves.parse(["quay.io/nobody=ghcr.io/nobody"])

    assert spots_in(BEFORE / file, text_of(BEFORE / file), moves) == []


@pytest.mark.parametrize("file", FILES, ids=str)
def test_moving_there_and_back_is_the_first_file_again(file: Path) -> None:
    """As docker.io is spelled in full: what a short name was is not remembered."""
    hub = Moves.parse(["docker.io=hub.example/all"])
    there = moved(BEFORE / file, text_of(BEFORE / file), hub)
    back = moved(BEFORE / file, there, Moves.parse(["hub.example/all=docker.io"]))
    full = moved(BEFORE / file, text_of(BEFORE / file), Moves.parse(["docker.io=docker.io"], in_place=True))

    assert back == full


def moved(path: Path, text: str, moves: Moves) -> str:
    return edited(text, [edit for spot in spots_in(path, text, moves) for edit in own(spot)])


def own(spot: Spot) -> list[Edit]:
    return spot.edits(None) if spot.role == "used" else []


STAYING = [
    ("ci/build.gitlab-ci.yml:15 kuzudb/explorer:2", BUILT),
    ("ci/build.gitlab-ci.yml:16 kuzudb/explorer:2", BUILT),
    ("ci/build.gitlab-ci.yml:21 kuzudb/explorer:1", BUILT),
    ("ci/gitlab-services.yml:11 kuzudb/explorer:dev", BUILT),
    ("ci/.github/workflows/ci.yml:43 docker.io/kuzudb/explorer", MIRRORED),
    ("ci/.github/workflows/ci.yml:51 kuzudb/explorer:latest", BUILT),
    ("ci/.github/workflows/ci.yml:54 kuzudb/explorer:cache", UNSURE),
    ("ci/.github/workflows/release.yml:12 kuzudb/explorer", BUILT),
    ("ci/.github/workflows/release.yml:17 kuzudb/explorer:latest", BUILT),
    ("ci/.github/workflows/release.yml:17 kuzudb/explorer:…", BUILT),
    ("ci/.github/workflows/release.yml:20 kuzudb/explorer:edge", BUILT),
    ("ci/.github/workflows/release.yml:21 kuzudb/explorer:edge", BUILT),
    ("ci/.github/workflows/release.yml:22 kuzudb/explorer:next", BUILT),
    ("ci/.github/workflows/release.yml:23 docker.io/kuzudb/explorer:edge", BUILT),
    ("compose/built.yml:4 kuzudb/explorer:dev", BUILT),
    ("compose/compose.override.yml:15 ${REGISTRY:-docker.io}/kuzudb/explorer:0.7.1", BY_VARIABLES),
    ("compose/inline.yaml:17 kuzudb/data:1", UNSURE),
    ("compose/inline.yaml:20 ${REG:-docker.io}/kuzudb/d:${TAG:-1}", BY_VARIABLES),
    (f"compose/inline.yaml:25 kuzudb/g@{FIXED}", BUILT),
    ("compose/inline.yaml:28 kuzudb/g:cache", UNSURE),
    ("compose/inline.yaml:40 kuzudb/probe:1", UNSURE),
    ("docker/Dockerfile.dev:5 $REGISTRY/kuzudb/tools:1", BY_VARIABLES),
    ("docker/shared-arg.Dockerfile:1 kuzudb/explorer:0.7.1", PART_OF_ANOTHER),
    ("docker/shared-arg.Dockerfile:4 ${IMAGE}-debug", BY_VARIABLES),
    ("docker/shared.Dockerfile:8 ${BASE}:9", BY_VARIABLES),
    ("helm/values-shared-registry.yaml:2 docker.io/kuzudb/explorer:0.7.1", BY_ANCHOR),
    ("helm/values-templated.yaml:14 {{ .Values.global.imageRegistry }}/kuzudb/backup", BY_VARIABLES),
    ("scripts/Makefile:8 kuzudb/explorer:latest", BUILT),
    ("scripts/given.sh:2 kuzudb/explorer:2", UNSURE),
    ("scripts/given.sh:10 kuzudb/explorer:6", UNSURE),
    ("scripts/given.sh:13 docker.io/kuzudb/web:8", BY_REGISTRY),
    ("scripts/heredocs.sh:25 kuzudb/explorer", BUILT),
    ("scripts/mirror.sh:2 docker.io/kuzudb/explorer:0.7.1", MIRRORED),
    ("scripts/more.sh:4 kuzudb/img:1", UNSURE),
    ("scripts/more.sh:11 kuzudb/x:1", UNSURE),
    ("scripts/more.sh:27 kuzudb/explorer:18", BUILT),
    ("scripts/more.sh:46 kuzudb/explorer:31", UNSURE),
    ("scripts/more.sh:47 docker.io/kuzudb/explorer:1", MIRRORED),
    ("scripts/more.sh:48 docker.io/kuzudb/explorer", MIRRORED),
    ("scripts/words.sh:10 docker.io/kuzudb/explorer", MIRRORED),
    ("tools/bake-all.hcl:5 docker.io/kuzudb/app:latest", BUILT),
    ("tools/devcontainer.json:9 kuzudb/dev:cache", UNSURE),
    ("tools/docker-bake.override.hcl:2 kuzudb/base:1", UNSURE),
    ("tools/docker-bake.override.hcl:4 kuzudb/explorer:latest", BUILT),
    ("tools/docker-bake.override.hcl:4 docker.io/kuzudb/explorer:…", BUILT),
    ("tools/docker-bake.override.hcl:6 kuzudb/explorer:cache", UNSURE),
    ("tools/docker_image.tf:2 kuzudb/explorer:0.7.1", UNSURE),
    ("tools/playbook.yml:7 kuzudb/explorer:1", UNSURE),
    ("tools/regsync.yml:3 docker.io/kuzudb/explorer", MIRRORED),
    ("tools/sealift.yaml:3 docker.io/kuzudb/explorer", MIRRORED),
    ("tools/two-way.yaml:4 docker.io/kuzudb/explorer", MIRRORED),
    (
        f"argo/kustomization.yaml:8 docker.io/kuzudb/backup@{FIXED}",
        "names an image of bases that are not here; add newName: ghcr.io/kuzudb/backup",
    ),
]


def test_what_stays_is_named_with_its_line_and_reason() -> None:
    _, left = decided()

    assert [(f"{one.place.removeprefix(f'{BEFORE}/')} {one.spot.shown}", one.why) for one in left] == STAYING


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("compose/docker-compose.yml", f"  image: ghcr.io/kuzudb/explorer:0.7.1@{DIGEST}   # keep in step"),
        ("docker/Dockerfile.dev", f"FROM ${{EMPTY:-ghcr.io/kuzudb/explorer:latest@{DIGEST}}}"),
        ("docker/Dockerfile", "FROM ghcr.io/kuzudb/explorer:${VERSION} AS explorer"),
        ("helm/chart/values.yaml", f'  digest: "{DIGEST}"'),
        ("helm/chart/values.yaml", f"backup: {{image: ghcr.io/kuzudb/backup, tag: '1.4@{DIGEST}'}}"),
        (
            "k8s/base/cronjob.yaml",
            "image: ghcr.io/kuzudb/backup:1.4@sha256:0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e",
        ),
        ("k8s/overlays/prod/kustomization.yaml", "    newTag: 0.7.1\n"),
        ("scripts/Makefile", "IMAGE ?= ghcr.io/kuzudb/explorer\n"),
    ],
)
def test_pinned_is_what_has_a_tag_of_its_own_and_room_for_a_digest(file: str, line: str) -> None:
    changed, _ = decided(pin=True)

    assert line in changed[file].text


def test_what_cannot_be_pinned_is_known() -> None:
    changed, _ = decided(pin=True)
    unpinned = {f"{file}:{spot.line}" for file, one in changed.items() for spot in one.unpinned}

    assert unpinned >= {
        "ci/.github/workflows/test.yml:12",
        "compose/compose.override.yml:12",
        "docker/Dockerfile:9",
        "k8s/overlays/prod/kustomization.yaml:9",
        "scripts/Makefile:1",
    }
    assert "compose/docker-compose.yml:5" not in unpinned
