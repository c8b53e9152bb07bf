"""What KEDA is told to count is what a real fleet's server holds, and a user that may only count suffices."""

from __future__ import annotations

import re
from typing import Any

import pytest
from celery import Celery
from redis import Redis
from redis.exceptions import NoPermissionError

from config.settings import Settings
from tasks.canvas import PRIORITY
from tasks.configuration import celery_configuration
from tests.support.chart import ROOT, rendered
from tests.support.valkey import ValkeyServer

REGION = "eu"
LENGTH = """\
local kinds = {zset = 'zcard', set = 'scard', list = 'llen', hash = 'hlen', none = 'llen'}
return redis.call(kinds[redis.call('type', KEYS[1]).ok], KEYS[1])
"""
"""As KEDA's redis scaler asks: one script for whatever the key is."""
PATIENCE_S = 20.0


def counted(client: Redis) -> dict[str, int]:
    """By trigger: what KEDA would see."""
    scaled = rendered("production").one("ScaledObject", f"sealift-worker-{REGION}")
    return {
        trigger["name"]: int(client.eval(LENGTH, 1, trigger["metadata"]["listName"]))
        for trigger in scaled["spec"]["triggers"]
    }


def counting_user(server: ValkeyServer) -> Redis:
    """Logged in as the user that the handbook shows for KEDA."""
    handbook = (ROOT / "docs" / "operations.md").read_text()
    line = re.search(r"^user (keda .*)$", handbook, re.MULTILINE)
    assert line
    name, *rules = line[1].split()
    with server.client() as admin:
        admin.execute_command("ACL", "SETUSER", name, *rules)
    return Redis(port=server.port, username=name, password="PASSWORD")


@pytest.fixture
def app(valkey: ValkeyServer) -> Celery:
    app = Celery("scaling")
    app.conf.update(celery_configuration(Settings(), valkey.url, [REGION], REGION))
    return app


def take_one(connection: Any, app: Celery) -> Any:
    """Receive a message and leave it unacknowledged, as a worker that is at its task."""
    (queue,) = [queue for queue in app.conf.task_queues if queue.name == REGION]
    taken: list[Any] = []
    consumer = connection.Consumer([queue], callbacks=[lambda _body, message: taken.append(message)])
    consumer.qos(prefetch_count=1)
    consumer.consume()
    connection.drain_events(timeout=PATIENCE_S)
    return taken


def test_keda_counts_each_lane_and_what_is_in_work(valkey: ValkeyServer, app: Celery) -> None:
    lanes = {"first": PRIORITY["first"], "release": PRIORITY["release"], "backfill": PRIORITY["backfill"]}
    with counting_user(valkey) as keda:
        assert counted(keda) == {"first": 0, "release": 0, "backfill": 0, "taken": 0}
        for number, priority in enumerate(lanes.values(), start=1):
            for _ in range(number):
                app.send_task("sealift.land", ["batch", REGION], queue=REGION, priority=priority)
        assert counted(keda) == {"first": 1, "release": 2, "backfill": 3, "taken": 0}

        with app.connection_for_read() as connection:
            assert take_one(connection, app)
            assert counted(keda) == {"first": 0, "release": 2, "backfill": 3, "taken": 1}


def test_keda_may_read_no_message_and_change_nothing(valkey: ValkeyServer, app: Celery) -> None:
    app.send_task("sealift.land", ["batch", REGION], queue=REGION, priority=PRIORITY["release"])
    with counting_user(valkey) as keda:
        for command in (("LRANGE", "sealift:eu:3", 0, -1), ("RPOP", "sealift:eu:3"), ("FLUSHALL",)):
            with pytest.raises(NoPermissionError):
                keda.execute_command(*command)
        with pytest.raises(NoPermissionError):
            keda.eval(LENGTH, 1, "somebody-elses")
