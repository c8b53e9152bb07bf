"""Flower's configuration: a task reads there as a person would say it, and nothing is kept for long.

Flower runs this file as its ``--conf``. The titles come with the messages (:mod:`tasks.canvas`), what became
of a task with its result (:mod:`tasks.told`).
"""

from __future__ import annotations

from typing import Any

from tasks.told import FAILED

max_tasks = 20_000
purge_offline_workers = 300
tasks_columns = (
    "name,state,result,received,runtime,uuid"  # the region is in the name, the uuid leads to the task
)
natural_time = True


def format_task(task: Any) -> Any:
    """Show ``land · explorer v0.8…v0.9 (12 tags) → eu`` in place of ``sealift.land``; ``task`` is a copy.

    Its arguments are ids: by a run's or a batch's one finds all that belongs to it. A task whose batch has
    tags that failed is shown as a failure with the reason: to Celery it is none.
    """
    is_title = bool(task.args) and not task.args.startswith(("(", "["))  # beat sends none
    if is_title and task.name and task.name.startswith("sealift."):
        task.name, task.args, task.kwargs = task.args, task.kwargs, "{}"
    result = str(task.result or "")
    if len(result) > 1 and result[0] == result[-1] and result[0] in "'\"":
        result = result[1:-1]  # Celery sends what Python would print
    task.result = "" if result == "None" else result
    if result.startswith(FAILED):
        task.state, task.exception = "FAILURE", result.removeprefix(FAILED)
    elif task.state == "FAILURE" and task.exception and not task.result:
        task.result = str(task.exception)
    return task
