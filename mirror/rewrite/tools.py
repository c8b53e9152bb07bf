"""Commands that take images, and where in their words these stand."""

from __future__ import annotations

from typing import Literal

Where = Literal["first", "each", "pushed", "tagged", "options", "mirrored"]
"""``first``: the first word that is no option; behind it comes what runs in the container. ``each``: every
such word. ``pushed``: the same, written to. ``tagged``: the old name, then the new. ``options``: only behind
options. ``mirrored``: Sealift's own."""

_ENGINE: dict[str, Where] = {
    **dict.fromkeys(("run", "create", "container run", "container create", "service create"), "first"),
    **dict.fromkeys(("pull", "rmi", "save", "history", "inspect", "images", "sbom", "from"), "each"),
    **dict.fromkeys(("image pull", "image rm", "image inspect", "image save", "image history"), "each"),
    **dict.fromkeys(("image ls", "manifest inspect", "buildx imagetools inspect", "scout cves"), "each"),
    **dict.fromkeys(("scout quickview", "scout recommendations", "scout compare", "trust inspect"), "each"),
    **dict.fromkeys(("push", "image push", "manifest create", "manifest push", "commit"), "pushed"),
    **dict.fromkeys(("buildx imagetools create", "trust sign"), "pushed"),
    **dict.fromkeys(("tag", "image tag"), "tagged"),
    **dict.fromkeys(("build", "image build", "buildx build", "bud", "service update"), "options"),
}
_CONTAINERD: dict[str, Where] = {
    **dict.fromkeys(("images pull", "image pull", "i pull", "images rm", "image rm", "i rm"), "each"),
    **dict.fromkeys(("images push", "image push", "i push"), "pushed"),
    **dict.fromkeys(("images tag", "image tag", "i tag"), "tagged"),
    "run": "first",
}
_CLUSTER: dict[str, Where] = {
    **dict.fromkeys(("run", "create", "debug", "set image", "new-app"), "options"),
}
_CRANE: dict[str, Where] = {
    **dict.fromkeys(("digest", "manifest", "config", "ls", "pull", "export", "validate"), "each"),
    **dict.fromkeys(
        ("copy", "cp", "push", "tag", "append", "mutate", "flatten", "rebase", "delete"), "pushed"
    ),
}
_REGCTL: dict[str, Where] = {
    **dict.fromkeys(
        ("image digest", "image manifest", "image inspect", "image config", "image export"), "each"
    ),
    **dict.fromkeys(("tag ls", "manifest get", "manifest head", "manifest diff", "artifact list"), "each"),
    **dict.fromkeys(
        ("image copy", "image mod", "image import", "tag rm", "manifest put", "artifact put"), "pushed"
    ),
}
_ORAS: dict[str, Where] = {
    **dict.fromkeys(("pull", "discover", "resolve", "manifest fetch", "repo tags"), "each"),
    **dict.fromkeys(("copy", "cp", "push", "attach", "tag", "manifest push"), "pushed"),
}
_COSIGN: dict[str, Where] = {
    **dict.fromkeys(("verify", "verify-attestation", "tree", "triangulate", "download"), "each"),
    **dict.fromkeys(("copy", "sign", "attest", "attach", "clean"), "pushed"),
}
COMMANDS: dict[str, dict[str, Where]] = {
    **dict.fromkeys(("docker", "podman", "nerdctl", "buildah"), _ENGINE),
    **dict.fromkeys(("kubectl", "oc"), _CLUSTER),
    "crictl": dict.fromkeys(("pull", "rmi", "inspecti"), "each"),
    "ctr": _CONTAINERD,
    "kind": {"load docker-image": "each", "create cluster": "options"},
    "minikube": {"image load": "each", "image pull": "each", "image rm": "each", "cache add": "each"},
    "skopeo": {
        "inspect": "each",
        "list-tags": "each",
        "copy": "pushed",
        "sync": "pushed",
        "delete": "pushed",
    },
    "crane": _CRANE,
    "regctl": _REGCTL,
    "oras": _ORAS,
    "cosign": _COSIGN,
    "trivy": {"image": "each", "i": "each"},
    "grype": {"": "each"},
    "syft": {"": "each", "scan": "each", "packages": "each"},
    "helm": dict.fromkeys(("install", "upgrade", "template", "lint"), "options"),
    "sealift": {"": "mirrored"},
}
"""By program and subcommand; the empty one is the program itself."""

SINGLE = frozenset({"pull", "image pull", "images pull"})
"""These take nothing but images: a name alone is one, if it is their only word."""

SWITCHES = frozenset(
    {"--detach", "--interactive", "--tty", "--rm", "--init", "--privileged", "--publish-all", "--read-only"}
    | {
        "--no-healthcheck",
        "--oom-kill-disable",
        "--quiet",
        "--help",
        "--replace",
        "--tls-verify",
        "--no-hosts",
    }
    | {"--rmi", "--env-host", "--http-proxy", "--sig-proxy", "--null-io", "--net-host", "--no-resolve-image"}
    | {"--with-registry-auth", "--disable-content-trust", "--use-api-socket", "--no-hostname"}
)
"""Options of ``run`` and ``create`` that take no value; all others do."""
SHORT_SWITCHES = frozenset("ditPqh")
VALUED = frozenset(
    {"-u", "--user", "-p", "--publish", "-v", "--volume", "--name", "-e", "--env", "-w", "--workdir", "-h"}
    | {"--hostname", "--network", "--net", "--entrypoint", "-l", "--label", "-f", "--file", "--target"}
    | {"-o", "--output", "--platform", "--format", "--filter", "-n", "--namespace", "-H", "--host", "-c"}
    | {"--context", "--config", "--kubeconfig", "--address", "-a", "--build-context"}
    | {"--key", "--certificate-identity", "--certificate-oidc-issuer", "--severity", "--log-level", "-m"}
    | {"--authfile", "--creds", "--type", "--predicate", "--cache-dir", "--input", "-i", "--ignorefile"}
)
"""Options of everything else whose value might look like an image."""
IMAGE_OPTIONS = frozenset({"--image", "--cache-from", "--from", "--base", "--base-image"})
TAG_OPTIONS = frozenset({"-t", "--tag", "--cache-to"})
BUILD_OPTIONS = frozenset({"--build-arg"})
CHART_OPTIONS = frozenset({"--set", "--set-string"})
