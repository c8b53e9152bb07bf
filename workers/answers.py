"""What a worker answers whoever inspects it, Flower above all: Celery's own answers, without secrets.

Importing this puts it in the place of Celery's; to be done before the worker's consumer begins.
"""

from __future__ import annotations

from typing import Any

from celery.worker.control import inspect_command

_KEPT_BACK = "transport_options"
"""Celery leaves out the password of the broker's URL, and shows that of the Sentinels, which is in here."""


@inspect_command()
def stats(state: Any, **_: Any) -> dict[str, Any]:
    """Celery's, where the broker is described by its address and not by its options."""
    answer: dict[str, Any] = state.consumer.controller.stats()
    broker = answer.get("broker")
    if isinstance(broker, dict):
        answer["broker"] = {name: value for name, value in broker.items() if name != _KEPT_BACK}
    return answer
