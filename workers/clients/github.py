"""A step of a GitHub workflow that pulls from the first registry that gives the image."""

from __future__ import annotations

import shlex
from typing import Any

from workers.clients.made import Made, Making, Misfit, about, by_tag, comments, label_of, on_trust, yaml_with

PULL_S = 900
_SCRIPT = """\
for repository in {repositories}; do
  if timeout {seconds} docker pull --quiet "$repository:$TAG"; then
    echo "image=$repository:$TAG" >>"$GITHUB_OUTPUT"
    exit 0
  fi
done
echo "::error::no registry gave {mirror} $TAG"
exit 1
"""


def make(making: Making) -> Made:
    """Raises Misfit for a wildcard, and where nothing can be pulled from."""
    choice = making.choice
    if choice.is_wildcard:
        raise Misfit(
            f"a step pulls one image, and {choice.mirror} is many repositories: "
            f"name one, as {choice.mirror}/REPOSITORY"
        )
    choice = by_tag(choice)
    chosen = choice.chosen or choice.upstreams
    label = label_of(choice.mirror)
    script = _SCRIPT.format(
        repositories=shlex.join(one.place for one in chosen), seconds=PULL_S, mirror=choice.mirror
    )
    step: dict[str, Any] = {
        "name": f"Pull {choice.mirror} from the first registry that has it",
        "id": label,
        "shell": "bash",
        "env": {"TAG": making.tag},
        "run": script,
    }
    more = [
        f"A step of a job; later ones use ${{{{ steps.{label}.outputs.image }}}}. In this order:",
        *(f"  {about(one)}" for one in chosen),
        "Accounts: docker/login-action before this step, with a secret; none belongs in here.",
    ]
    plain_hosts = [one.host for one in chosen if making.trust_of(one).is_plain]
    more += [
        f"{host} speaks plain HTTP: the runner's docker has to allow it (insecure-registries)"
        for host in plain_hosts
    ]
    certificates = on_trust(making, choice, "put it into /etc/docker/certs.d/HOST/ca.crt")
    text = yaml_with(comments(making, choice, *more, *certificates), [step])
    return Made({f"{label}-step.yaml": text}, [step], choice)
