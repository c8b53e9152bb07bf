"""The Celery application: ``celery -A workers.app worker -Q eu,control``."""

from __future__ import annotations

import os

from celery import Celery

from config.settings import Settings
from tasks.configuration import INCLUDE, celery_configuration
from tasks.runtime import fleet_of, redis_url, regions_of
from workers import lifecycle
from workers.processes import REGION_VARIABLE

_settings = Settings()
_fleet = fleet_of(_settings)

app = Celery("sealift", include=INCLUDE, events="workers.events:Events")
app.conf.update(
    celery_configuration(
        _settings,
        redis_url(_settings, _fleet),
        regions_of(_fleet),
        os.environ.get(REGION_VARIABLE, ""),
    )
)
app.set_default()
lifecycle.connect_to(app)
