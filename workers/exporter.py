"""The exporter: reads the ledger at each scrape and shows it to Prometheus; it keeps nothing itself.

A scrape asks Redis for counters and for what is open, never for a tag: it costs the same at ten tags as at
a million.
"""

from __future__ import annotations

import contextlib
import io
import logging
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any, get_args
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from config.fleet import Fleet
from config.notification import EventName
from config.problems import FleetError
from mirror.ledger import LedgerError
from mirror.ledger.receivers import Standing
from mirror.ledger.totals import Total
from mirror.ledger.verified import WRONG, host_of
from tasks.broker import BrokerUnreachable, WrongBroker
from tasks.canvas import CONTROL_QUEUE
from tasks.runtime import Runtime, regions_of
from tasks.watched import names_of, queues, specs_of
from workers import metrics
from workers.serve.tally import RESULTS

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_TAG_STATES = ("current", "updated", "failed")
_TOLD = ("sent", "failed", "dropped")
_BLOB_OUTCOMES = ("copied", "mounted", "exists", "failed")

logger = logging.getLogger(__name__)


class Ledgers(Collector):
    """The fleet as its ledger knows it, read when asked. Thread-safe."""

    def __init__(self, compose: Callable[[], Runtime], version: str) -> None:
        """``compose`` raises BrokerUnreachable while Redis is away; then it is called again later."""
        self._compose, self._version = compose, version
        self._runtime: Runtime | None = None
        self._lock = threading.Lock()
        self._trouble = ""

    def collect(self) -> Iterator[Metric]:
        """All metrics; without Redis those that say so."""
        yield from metrics.families(self._scraped(), self._version)

    def describe(self) -> Iterable[Metric]:
        """Nothing: what there is to show is known once Redis was asked."""
        return ()

    def _scraped(self) -> metrics.Scraped | None:
        try:
            with self._lock:
                self._runtime = self._runtime or _begun(self._compose())
            scraped = scrape(self._runtime)
        except (BrokerUnreachable, LedgerError) as error:
            self._say(f"Redis does not answer: {error}")
            return None
        except (WrongBroker, FleetError) as error:
            self._say(str(error))
            return None
        self._trouble = ""
        return scraped

    def _say(self, trouble: str) -> None:
        """Once, for as long as it lasts: a scrape every few seconds is to fill no log."""
        if trouble != self._trouble:
            logger.warning("%s", trouble)
        self._trouble = trouble


def _begun(rt: Runtime) -> Runtime:
    """The names of its fleet file are shown by name; where the exporter may only read, workers see to it."""
    with contextlib.suppress(LedgerError):
        rt.ledger.totals.admit(names_of(rt.fleet))
    return rt


def scrape(rt: Runtime) -> metrics.Scraped:
    """What is shown: some nine exchanges with Redis. Raises LedgerError.

    Of a region that is in the fleet file no more, has no worker and no message, only what it did is shown.
    """
    facts = rt.ledger.gauges.read()
    counted = sorted(name for kind, name in facts.told.named if kind == "region")
    present = dict.fromkeys([*regions_of(rt.fleet), *sorted(facts.workers)])
    waiting = queues(rt, dict.fromkeys([*present, *counted]))
    busy = [one for one in waiting if one.queue in {CONTROL_QUEUE, *present} or one.is_busy]
    regions = tuple(one.queue for one in busy if one.queue != CONTROL_QUEUE)
    return metrics.Scraped(
        facts=facts,
        queues=busy,
        budgets=rt.ledger.budgets.report(trims=False),
        memory=rt.ledger.gauges.memory(),
        beat_seen_s=rt.ledger.schedules.beat_seen_s(),
        regions=regions,
        conflicts={one.name: 0 for one in rt.fleet.mirrors if one.mode == "two_way"}
        | _by_mirror(rt.ledger.conflicts.counts()),
        receivers=_receivers(rt),
        zeros=zeros(rt.fleet),
    )


def _by_mirror(conflicts: Mapping[str, int]) -> dict[str, int]:
    """Those of a wildcard's repositories together."""
    found = Counter[str]()
    for name, number in conflicts.items():
        found[name.partition("/")[0]] += number
    return dict(found)


def _receivers(rt: Runtime) -> dict[str, float]:
    if not rt.fleet.notify:
        return {}
    standings = rt.ledger.receivers.standings()
    return {one.name: standings.get(one.name, Standing()).failing_s for one in rt.fleet.notify}


def zeros(fleet: Fleet) -> list[Total]:
    """What the fleet file's mirrors and regions will count."""
    pairs = dict.fromkeys((one.name, target.region) for one in fleet.mirrors for target in one.targets)
    tags = [
        Total("tags", {"mirror": mirror, "region": region, "state": state}, 0)
        for mirror, region in pairs
        for state in _TAG_STATES
    ]
    return (
        tags
        + _verify_zeros(fleet)
        + _notification_zeros(fleet)
        + [
            Total("webhooks", {"webhook": one.name, "result": result}, 0)
            for one in fleet.webhooks
            for result in RESULTS
        ]
        + [
            Total("blobs", {"region": region, "outcome": outcome}, 0)
            for region in regions_of(fleet)
            for outcome in _BLOB_OUTCOMES
        ]
    )


def _verify_zeros(fleet: Fleet) -> list[Total]:
    places = dict.fromkeys(
        (spec.name, host_of(target.repository)) for spec in specs_of(fleet) for target in spec.targets
    )
    return [
        Total("verify", {"mirror": mirror, "registry": registry, "result": result}, 0)
        for mirror, registry in places
        for result in sorted(kind.lower() for kind in WRONG)
    ]


def _notification_zeros(fleet: Fleet) -> list[Total]:
    return [
        Total("notifications", {"receiver": receiver.name, "event": event, "outcome": outcome}, 0)
        for receiver in fleet.notify
        for event in receiver.on or get_args(EventName)
        for outcome in _TOLD
    ]


def application(collector: Collector) -> WSGIApplication:
    """``/metrics`` and ``/healthz``; the latter says that the exporter runs, whatever Redis does."""
    collectors = CollectorRegistry()
    collectors.register(collector)
    shown: WSGIApplication = make_wsgi_app(collectors)

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            return shown(environ, start_response)
        status, text = ("200 OK", b"ok\n") if path == "/healthz" else ("404 Not Found", b"see /metrics\n")
        start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
        return [text]

    return answer


class _Server(ThreadingMixIn, WSGIServer):
    """A slow reader keeps nobody else waiting."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the base class says which
        """In the fleet's own form, and redacted, instead of to stderr."""
        logger.error("a request of %s failed", _named(client_address), exc_info=sys.exception())


class _Server6(_Server):
    address_family = socket.AF_INET6


def _named(client_address: Any) -> str:
    return str(client_address[0]) if client_address else "somebody"


class _Errors(io.TextIOBase):
    """What an application that fails would print to stderr, as lines of the log."""

    def __init__(self) -> None:
        self._text = ""

    def write(self, text: str) -> int:
        self._text += text
        return len(text)

    def flush(self) -> None:
        if text := self._text.strip():
            logger.error("a scrape failed: %s", text)
        self._text = ""


class _Quiet(WSGIRequestHandler):
    timeout = 30.0

    def get_stderr(self) -> Any:
        return _Errors()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's word
        """A scrape every few seconds is no news."""


def serving(host: str, port: int, collector: Collector) -> WSGIServer:
    """A server that is bound and not yet at work; 0: a free port. Raises OSError."""
    kind = _Server6 if ":" in host else _Server
    return make_server(host, port, application(collector), server_class=kind, handler_class=_Quiet)
