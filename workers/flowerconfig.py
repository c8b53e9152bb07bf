"""Flower's configuration: a task reads there as a person would say it, and nothing is kept for long.

Flower runs this file as its ``--conf``. The titles come with the messages (:mod:`tasks.canvas`).
"""

from __future__ import annotations

from typing import Any

max_tasks = 20_000
purge_offline_workers = 300
tasks_columns = "name,state,result,received,started,runtime,worker,retries,exception,uuid"
natural_time = True


def format_task(task: Any) -> Any:
    """Show ``land · explorer v0.8…v0.9 (12 tags) → eu`` in place of ``sealift.land``; ``task`` is a copy."""
    is_title = bool(task.args) and not task.args.startswith(("(", "["))  # beat sends none
    if is_title and task.name and task.name.startswith("sealift."):
        task.name, task.args = task.args, ""
    if task.result == "None":  # no task of ours returns anything
        task.result = ""
    return task
