"""A pod's image fields: the best registry, as pods have no fallback of their own."""

from __future__ import annotations

from typing import Any

from registry.reference import DOCKER_HUB
from workers.clients.made import Made, Making, Misfit, about, by_tag, comments, label_of, on_trust, yaml_with


def make(making: Making) -> Made:
    """Raises Misfit for a wildcard, and where nothing can be pulled from."""
    choice = making.choice
    if choice.is_wildcard:
        raise Misfit(
            f"a pod names one image, and {choice.mirror} is many repositories: "
            f"name one, as {choice.mirror}/REPOSITORY"
        )
    choice = by_tag(choice)
    best, *others = choice.chosen or choice.upstreams
    label, trust = label_of(choice.mirror), making.trust_of(best)
    container = {"name": label, "image": f"{best.place}:{making.tag}", "imagePullPolicy": "IfNotPresent"}
    spec: dict[str, Any] = {"containers": [container]}
    more = [
        "A pod has no second registry: this is the best one. What falls back is the node's runtime, made by",
        "--format containerd, or containers for CRI-O.",
        f"Chosen: {about(best)}",
        *(f"Else: {about(one)}" for one in others),
    ]
    if trust.has_account:
        spec["imagePullSecrets"] = [{"name": f"{label}-pull"}]
        server = "https://index.docker.io/v1/" if best.host == DOCKER_HUB else best.host
        more += [
            "The account stands in a secret of the pod's namespace, made by",
            f"  kubectl create secret docker-registry {label}-pull --docker-server={server}",
            "  --docker-username=NAME --docker-password=…",
        ]
    else:
        more.append("An account, where it wants one, stands in a secret that imagePullSecrets names.")
    if trust.is_plain:
        more.append(f"{best.host} speaks plain HTTP: the nodes have to allow it.")
    certificates = on_trust(making, choice, "the nodes have to trust it")
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": label}, "spec": spec}
    text = yaml_with(comments(making, choice, *more, *certificates), pod)
    return Made({f"{label}-pod.yaml": text}, pod, choice)
