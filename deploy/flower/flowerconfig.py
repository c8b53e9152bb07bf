"""For a Flower that is started by hand, by ``celery -A workers.app flower --conf=…/flowerconfig.py``.

``sealift flower`` needs no such file: it takes the same configuration from the installation.
"""

from workers.flowerconfig import (
    format_task,
    max_tasks,
    natural_time,
    purge_offline_workers,
    tasks_columns,
)

__all__ = ["format_task", "max_tasks", "natural_time", "purge_offline_workers", "tasks_columns"]
