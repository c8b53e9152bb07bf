"""Celery's configuration as values.

Each line that differs from Celery's default is there for a trap that was reproduced
(docs/architecture.md, "What Celery and Redis do not promise").
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kombu import Queue

from config.redis_url import RedisServer, parse_redis_url
from config.settings import Settings
from tasks import poison
from tasks.broker import CONNECT_TIMEOUT_S, SOCKET_TIMEOUT_S, sentinel_options
from tasks.canvas import CONTROL_QUEUE, PRIORITY

DELIVERY: dict[str, Any] = {
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    "task_default_queue": CONTROL_QUEUE,
    # A worker may serve a region that this process has not heard of; producers check regions themselves.
    "task_create_missing_queues": True,
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    # Otherwise a task that kills its process comes back for ever; at once, since an ETA would hold a slot.
    "task_retry_on_worker_lost": True,
    "task_annotations": {"*": {"max_retries": poison.ATTEMPTS, "default_retry_delay": 0}},
    "task_ignore_result": True,
    "task_serializer": "json",
    "accept_content": ["json"],
    "result_accept_content": ["json"],
    "event_serializer": "json",
    "task_send_sent_event": False,  # doubles what it costs to publish
    "worker_send_task_events": True,
    "worker_prefetch_multiplier": 1,
    "worker_disable_prefetch": True,
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    "worker_deduplicate_successful_tasks": False,
    "worker_hijack_root_logger": False,
    "result_expires": 7 * 86400,
    "result_chord_expires": 7 * 86400,
    "result_extended": False,
    "beat_max_loop_interval": 5,
    "beat_scheduler": "workers.scheduler:Scheduler",
    "timezone": "UTC",
}
"""How messages are kept and work is spread; the same for every process."""
INCLUDE = ("tasks.steps", "tasks.sweep", "tasks.pruning", "tasks.notify")


def celery_configuration(
    settings: Settings, url: str, regions: Iterable[str], own: str = ""
) -> dict[str, Any]:
    """Broker, results and delivery for one process; ``own`` is the region that a worker serves.

    Messages a worker has taken are kept under keys of its region, so that their number can be watched
    (and a fleet scaled by it) region by region.
    """
    queues = dict.fromkeys((CONTROL_QUEUE, *regions, *([own] if own else ())))
    server = parse_redis_url(url)
    return {
        **_places(server),
        "broker_transport_options": _broker_options(settings, f":{own}" if own else "") | _finding(server),
        "result_backend_transport_options": {
            "global_keyprefix": settings.redis_prefix,
            "result_chord_ordered": False,
            **_finding(server),
        },
        "task_queues": [Queue(name) for name in queues],
        "beat_schedule": {
            "sweep": {
                "task": "sealift.sweep",
                "schedule": settings.sweep_interval_s,
                "options": {
                    "queue": CONTROL_QUEUE,
                    "priority": PRIORITY["first"],
                    "expires": settings.sweep_interval_s,
                },
            }
        },
        **DELIVERY,
    }


def _places(server: RedisServer) -> dict[str, Any]:
    """Where broker and results are. The results' account stands apart from their URL: see ``bare_url``."""
    account = {"redis_username": server.username, "redis_password": server.password}
    places = {
        "broker_url": server.celery_url,
        "result_backend": server.bare_url,
        "redis_socket_timeout": SOCKET_TIMEOUT_S,
        **{name: value for name, value in account.items() if value is not None},
    }
    if server.tls:
        places |= dict.fromkeys(("broker_use_ssl", "redis_backend_use_ssl"), server.tls.options)
    if server.socket is None:  # a socket has neither
        places |= {"redis_socket_connect_timeout": CONNECT_TIMEOUT_S, "redis_socket_keepalive": True}
    return places


def _finding(server: RedisServer) -> dict[str, Any]:
    """How the Sentinels are asked, where there are some."""
    if server.service is None:
        return {}
    return {"master_name": server.service, "sentinel_kwargs": sentinel_options(server)}


def _broker_options(settings: Settings, suffix: str) -> dict[str, Any]:
    return {
        "global_keyprefix": settings.redis_prefix,
        "sep": ":",  # readable list names: eu, eu:3, eu:9
        "priority_steps": sorted(set(PRIORITY.values())),
        # In turn within a lane: else a run whose list is not read yet would wait for all others to end.
        "queue_order_strategy": "round_robin",
        "visibility_timeout": settings.visibility_timeout_s,
        "unacked_restore_interval": 15,
        "unacked_restore_throttle": 1,
        "unacked_mutex_expire": 30,
        "unacked_key": f"unacked{suffix}",
        "unacked_index_key": f"unacked_index{suffix}",
        "unacked_mutex_key": f"unacked_mutex{suffix}",
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_timeout": SOCKET_TIMEOUT_S,
        "socket_keepalive": True,
        "health_check_interval": 25,
    }
