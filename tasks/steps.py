"""The tasks: each decodes, delegates to the engine, sends what follows. Delivery policy is the app's."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal

from celery import Task, shared_task

from mirror import decide
from mirror.flip import flip, unflip
from mirror.land import give_up, haul, land
from mirror.ledger import LedgerError
from mirror.listing import enumerate_tags
from mirror.resolve import resolve
from tasks import canvas
from tasks.runtime import Runtime, runtime

logger = logging.getLogger(__name__)

AT_WORK = "work in {}"
"""The place of the lease of whoever is at a batch's step in a region."""
PROGRESS_S = 2.0
"""How often a task says in Flower how far it is."""


@shared_task(name="sealift.enumerate")
def enumerate_task(run: str) -> None:
    rt = runtime()
    enumerate_tags(rt.engine, run, rt.settings.batch_tags, lambda: open_window(rt, run))


@shared_task(name="sealift.resolve")
def resolve_task(batch: str) -> None:
    """HEAD the batch's tags at the source, then let every region land them."""
    rt = runtime()
    if not resolve(rt.engine, batch) or not rt.ledger.batches.advance(batch, "resolving", "landing"):
        return  # parked, or resolved before: whatever was lost since then is the sweeper's
    if any(one.descriptor for one in rt.ledger.batches.resolved(batch)):
        canvas.land_everywhere(rt.ledger, batch)
        return
    for region in rt.ledger.spec(rt.ledger.batches.run_of(batch)).regions:
        rt.ledger.batches.region_done(batch, region, "landed")
    finalize_batch(rt, batch)


@shared_task(name="sealift.land", bind=True)
def land_task(self: Task[..., None], batch: str, region: str) -> None:
    """Land the batch in one region; blobs too large for this task join its chord as hauls."""
    rt, chorded = runtime(), bool(self.request.chord)
    with at_work(rt, batch, region) as alone:
        if not alone:
            return
        try:
            digests = land(rt.engine, batch, region, hauls=chorded, heard=_heard(self))
        except LedgerError:
            raise  # the ledger is away: nothing can be recorded now, the sweeper sends this again
        except Exception as error:
            logger.exception("landing batch %s in %s failed", batch, region)
            give_up(rt.engine, batch, region, error)
            digests = []
        if digests:
            _let_growth_expire(self)
        for digest in digests:
            self.add_to_chord(canvas.haul(rt.ledger, batch, region, digest))
    _ask_for_finalize(rt, batch, chorded=chorded)


@shared_task(name="sealift.haul", bind=True)
def haul_task(self: Task[..., None], batch: str, region: str, digest: str) -> None:
    rt = runtime()
    try:
        haul(rt.engine, batch, region, digest, heard=_heard(self))
    except LedgerError:
        raise
    except Exception as error:
        logger.exception("hauling %s for batch %s to %s failed", digest, batch, region)
        give_up(rt.engine, batch, region, error)
    _ask_for_finalize(rt, batch, chorded=True)


@shared_task(name="sealift.finalize")
def finalize_task(batch: str) -> None:
    finalize_batch(runtime(), batch)


@shared_task(name="sealift.flip", bind=True)
def flip_task(self: Task[..., None], batch: str, region: str) -> None:
    rt = runtime()
    with at_work(rt, batch, region) as alone:
        if not alone:
            return
        flip(rt.engine, batch, region, _heard(self))
    _ask_for_conclude(rt, batch, "flipped", chorded=bool(self.request.chord))


@shared_task(name="sealift.unflip", bind=True)
def unflip_task(self: Task[..., None], batch: str, region: str) -> None:
    rt = runtime()
    with at_work(rt, batch, region) as alone:
        if not alone:
            return
        unflip(rt.engine, batch, region)
    _ask_for_conclude(rt, batch, "returned", chorded=bool(self.request.chord))


@shared_task(name="sealift.conclude")
def conclude_task(batch: str) -> None:
    conclude_batch(runtime(), batch)


@contextlib.contextmanager
def at_work(rt: Runtime, batch: str, region: str) -> Iterator[bool]:
    """Whether this worker is the one at the batch's step in the region; a copy of its message is not.

    While it is, the sweeper sees so and sends no copy.
    """
    leases = rt.ledger.content.leases
    lease = leases.take(AT_WORK.format(region), batch)
    try:
        yield lease is not None
    finally:
        if lease is not None:
            leases.release(lease)


def finalize_batch(rt: Runtime, batch: str) -> None:
    _follow(rt, batch, decide.finalize(rt.engine, batch))


def conclude_batch(rt: Runtime, batch: str) -> None:
    _follow(rt, batch, decide.conclude(rt.engine, batch))


def _follow(rt: Runtime, batch: str, decision: decide.Decision) -> None:
    """Send what follows from a decision."""
    if decision.step == "land":
        canvas.land_in(rt.ledger, batch, decision.regions)
    elif decision.step == "flip":
        canvas.flip_everywhere(rt.ledger, batch)
    elif decision.step == "return":
        canvas.unflip_everywhere(rt.ledger, batch)
    elif decision.step == "concluded":
        open_window(rt, rt.ledger.batches.run_of(batch))


def open_window(rt: Runtime, run: str) -> None:
    """Send the batches for which there is room now."""
    for batch in rt.ledger.open_window(run, rt.settings.window_batches):
        canvas.send_resolve(rt.ledger, batch)


def _let_growth_expire(task: Task[..., None]) -> None:
    """Celery counts by how much a chord has grown under a key that would outlive a chord that dies.

    Made beforehand with its end, it keeps that end through Celery's INCR, whoever is killed when.
    """
    backend: Any = task.backend  # the Redis one: Celery's types know only what all have
    key = backend.get_key_for_group(task.request.group, ".t")
    backend.client.set(key, 0, nx=True, ex=task.app.conf.result_chord_expires)


def _ask_for_finalize(rt: Runtime, batch: str, *, chorded: bool) -> None:
    """A chord sends its body itself; without one, or where the body came too early, the last region does."""
    if not chorded or rt.ledger.batches.asked_for(batch, "finalize"):
        spec = rt.ledger.spec(rt.ledger.batches.run_of(batch))
        if rt.ledger.batches.regions_done(batch, "landed") >= set(spec.regions):
            canvas.send_finalize(rt.ledger, batch)


def _ask_for_conclude(
    rt: Runtime, batch: str, step: Literal["flipped", "returned"], *, chorded: bool
) -> None:
    if not chorded or rt.ledger.batches.asked_for(batch, "conclude"):
        spec = rt.ledger.spec(rt.ledger.batches.run_of(batch))
        if rt.ledger.batches.regions_done(batch, step) >= set(spec.regions):
            canvas.send_conclude(rt.ledger, batch)


def _heard(task: Task[..., None]) -> Callable[[dict[str, int]], None]:
    """Tell Flower how far the task is, every few seconds.

    Copies tell it from threads of their own, where ``task.request`` is nobody's.
    """
    said = [time.monotonic()]
    request = task.request
    # A Flower that came later has not seen what the task is called.
    known = {"uuid": request.id, "name": task.name, "args": getattr(request, "argsrepr", "")}

    def heard(totals: dict[str, int]) -> None:
        if time.monotonic() - said[0] >= PROGRESS_S:
            said[0] = time.monotonic()
            with task.app.events.default_dispatcher(hostname=request.hostname) as events:
                events.send("task-progress", **known, result=_so_far(totals), **totals)

    return heard


def _so_far(totals: dict[str, int]) -> str:
    """What Flower shows as the result of a task that has none yet."""
    copied, planned = (round(totals.get(name, 0) / 1e6) for name in ("copied_bytes", "planned_bytes"))
    return f"{copied} of {planned} MB copied" if planned else f"{copied} MB copied"
