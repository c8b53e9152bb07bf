"""Schedules in a hurry: beats whose hours fly, for fleets with mirrors that run by the minute."""

from __future__ import annotations

import sys

from tests.support.fleet import Fleet
from tests.support.process import Process

CRON = "* * * * *"
HASTE = 60
_FAST_BEAT = f"""
import os, sys
from mirror.ledger import schedules
from workers import scheduler
from workers.launch import beat

born, lead = float(os.environ["BORN"]), scheduler.Scheduler._lead

def hurried(self):
    now = lead(self)
    return None if now is None else born + {HASTE} * (now - born)

scheduler.Scheduler._lead = hurried
scheduler.STANDBY_S = scheduler.RETRY_S = 0.3
schedules.LEAD_S = 2.0
sys.exit(beat([]))
"""


def fast_beat(fleet: Fleet, born: int) -> Process:
    """A beat by whose clock a minute lasts a second; it is thought dead after two.

    ``born``: a slot, when the fleet's schedules were first seen, and the moment from which hours fly.
    """
    return fleet._process("beat", [sys.executable, "-P", "-c", _FAST_BEAT], {"BORN": str(born)})
