"""Other tools as contenders, each as its own manual has it used; whoever is on the PATH takes part."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from bench.jobs import Command, Contender, Job, environment, tags_of
from bench.sets import blobs

AT_ONCE = 4
"""Tags at a time, where a tool leaves that to its caller."""
USUAL_REQUESTS, FAR_REQUESTS = 3, 16
"""regclient's requests at a time to one registry: its default, and what pays where round trips are long."""
UNTHROTTLED = 100_000
"""regclient used to ask ten times a second unless told otherwise."""


class Peer(Contender):
    """``script`` writes what the tool needs and returns the shell command."""

    is_peer = True

    def __init__(
        self, name: str, tool: str, script: Callable[[Job], str], *, takes_mirrored: bool = False
    ) -> None:
        self.name, self.tool, self._script = name, tool, script
        self.takes_mirrored = takes_mirrored

    @property
    def is_here(self) -> bool:
        return shutil.which(self.tool) is not None

    def prepare(self, job: Job) -> Command:
        script = self._script(job)
        return Command(("sh", "-ec", script), environment(job) | {"REGCTL_CONFIG": _regctl_hosts(job)})


class CurlFloor(Peer):
    """Blobs only, one process to read and one to write each: a floor where they are big."""

    is_peer = False
    copies_all = False
    checked = False


def skopeo_sync(job: Job) -> str:
    """One call a target: it knows no more than one destination."""
    repositories = {name: tags_of(tagged) for name, tagged in job.images.repositories.items()}
    source = {job.source: {"tls-verify": job.authority is not None, "images": repositories}}
    file = job.write("skopeo.yaml", source)
    terms = f"--preserve-digests --all --src yaml --dest docker --dest-tls-verify={_tls(job)}"
    return "\n".join(f"skopeo sync {terms} {file} {target}/bench" for target in job.targets)


def skopeo_copy(job: Job, at_once: int) -> str:
    options = f"--quiet --preserve-digests --all --src-tls-verify={_tls(job)} --dest-tls-verify={_tls(job)}"
    return _each(job, f"skopeo copy {options}", at_once, prefix="docker://")


def crane_all(job: Job) -> str:
    """A repository with all its tags at a time; its own default of four tags at once."""
    return _one_by_one("crane copy --all-tags", job.pairs)


def crane_copy(job: Job) -> str:
    return _each(job, "crane copy", AT_ONCE)


def regsync(job: Job) -> str:
    document = {
        "version": 1,
        "creds": [
            {
                "registry": host,
                "tls": _regclient_tls(job),
                "reqPerSec": UNTHROTTLED,
                "reqConcurrent": FAR_REQUESTS if job.is_far else USUAL_REQUESTS,
            }
            for host in (job.source, *job.targets)
        ],
        "defaults": {
            "parallel": AT_ONCE * 2 if job.is_far else AT_ONCE,
            "referrers": any(one.referrers for one in job.images.tagged),
        },
        "sync": [{"source": one, "target": other, "type": "repository"} for one, other in job.pairs],
    }
    if any(one.referrers for one in job.images.tagged):
        _only_own_tags(document, job)
    return f"regsync --verbosity error once -c {job.write('regsync.yaml', document)}"


def regctl_copy(job: Job) -> str:
    has_referrers = any(one.referrers for one in job.images.tagged)
    return _each(job, f"regctl image copy {'--referrers ' if has_referrers else ''}-v error", AT_ONCE)


def oras_copy(job: Job) -> str:
    plain = "" if job.authority else "--from-plain-http --to-plain-http "
    has_referrers = any(one.referrers for one in job.images.tagged)
    return _each(job, f"oras copy {plain}{'-r ' if has_referrers else ''}", AT_ONCE)


def image_syncer(job: Job) -> str:
    accounts = {host: {"insecure": job.authority is None} for host in (job.source, *job.targets)}
    images = {
        f"{job.source}/{name}": [f"{target}/{name}" for target in job.targets]
        for name in job.images.repositories
    }
    return (
        f"image-syncer --auth {job.write('auth.json', accounts)} --images {job.write('images.json', images)}"
    )


def curl_floor(job: Job) -> str:
    trust = f"--cacert {job.authority} " if job.authority else ""
    script = job.write("blob.sh", _CURL_BLOB.format(curl=f"curl -sS --fail {trust}"))
    scheme = "https" if job.authority else "http"
    lines = (
        f"{scheme}://{job.source}/v2/{one.repository} {scheme}://{target}/v2/{one.repository} {digest}"
        for target in job.targets
        for one in job.images.tagged
        for digest in _blob_digests(job, one.repository, one.tag)
    )
    return _xargs(f"sh -e {script}", job.write("blobs.txt", "\n".join(dict.fromkeys(lines))), AT_ONCE, 3)


PEERS: tuple[Peer, ...] = (
    Peer("skopeo sync", "skopeo", skopeo_sync),
    Peer("skopeo copy x4", "skopeo", lambda job: skopeo_copy(job, AT_ONCE)),
    Peer("skopeo copy", "skopeo", lambda job: skopeo_copy(job, 1)),
    Peer("crane", "crane", crane_all),
    Peer("crane x4", "crane", crane_copy),
    Peer("regsync", "regsync", regsync, takes_mirrored=True),
    Peer("regctl x4", "regctl", regctl_copy),
    Peer("oras x4", "oras", oras_copy),
    Peer("image-syncer", "image-syncer", image_syncer),
    CurlFloor("curl to curl", "curl", curl_floor),
)

_CURL_BLOB = """\
where=$({curl} -X POST -D - -o /dev/null "$2/blobs/uploads/" | tr -d '\\r' | sed -n 's/^[Ll]ocation: //p')
{curl} "$1/blobs/$3" | {curl} -T - -H 'Content-Type: application/octet-stream' "$where&digest=$3"
"""


def _only_own_tags(document: dict[str, object], job: Job) -> None:
    """Referrers come along by themselves: their fallback tags are not to be copied once more."""
    for entry in document["sync"]:  # type: ignore[attr-defined]  # a list of mappings, as written above
        entry["tags"] = {"allow": sorted({one.tag for one in job.images.tagged})}


def _each(job: Job, command: str, at_once: int, prefix: str = "") -> str:
    lines = "\n".join(f"{prefix}{one} {prefix}{other}" for one, other in job.tag_pairs)
    return _xargs(command, job.write("pairs.txt", f"{lines}\n"), at_once, 2)


def _xargs(command: str, file: Path, at_once: int, words: int) -> str:
    return f"xargs -a {file} -P {at_once} -n {words} {command} > /dev/null"


def _one_by_one(command: str, pairs: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"{command} {shlex.join(pair)} > /dev/null 2>&1" for pair in pairs)


def _blob_digests(job: Job, repository: str, tag: str) -> list[str]:
    return [
        blob.descriptor.digest
        for one in job.images.tagged
        if (one.repository, one.tag) == (repository, tag)
        for blob in blobs(one.content)
    ]


def _regctl_hosts(job: Job) -> str:
    terms = {"tls": _regclient_tls(job), "reqPerSec": UNTHROTTLED}
    hosts = {host: {**terms, "hostname": host} for host in (job.source, *job.targets)}
    return str(job.write("regctl.json", {"hosts": hosts}))


def _regclient_tls(job: Job) -> str:
    return "enabled" if job.authority else "disabled"


def _tls(job: Job) -> str:
    return str(job.authority is not None).lower()
