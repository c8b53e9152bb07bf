"""The tasks: each decodes, delegates to the engine, sends what follows. Delivery policy is the app's."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from typing import Any, Literal

from celery import Task, shared_task

from mirror import decide
from mirror.flip import flip, flip_early, unflip
from mirror.land import Heard, give_up, haul, land
from mirror.ledger import LedgerError
from mirror.ledger.batches import BatchState, View
from mirror.listing import enumerate_tags
from mirror.resolve import resolve
from tasks import canvas, producer, told
from tasks.pruning import send_prunes
from tasks.pushes import send_follower
from tasks.runtime import Runtime, runtime

logger = logging.getLogger(__name__)

AT_WORK = "work in {}"
"""The place of the lease of whoever is at a batch's step in a region."""
PROGRESS_S = 2.0
"""How often a task says in Flower how far it is."""


@shared_task(name="sealift.enumerate")
def enumerate_task(run: str) -> None:
    rt = runtime()
    if not rt.ledger.pushes.look(run):
        return  # whoever ends the one before it sends this again, or else the sweeper
    most_waiting = 2 * rt.settings.window_batches
    enumerate_tags(rt.engine, run, rt.settings.batch_tags, lambda: send_opened(rt, run), most_waiting)
    send_prunes(rt, run)
    send_follower(rt, run)


@shared_task(name="sealift.mirror", bind=True)
def mirror_task(self: Task[..., str], batch: str, region: str) -> str:
    """A batch of one region: every step of it, from wherever it is, until it ends or has to wait."""
    rt = runtime()
    with at_work(rt, batch, region) as view:
        return _Shortcut(rt, batch, region, _heard(self), view).go() if view else ""


@shared_task(name="sealift.resolve")
def resolve_task(batch: str) -> str:
    """HEAD the batch's tags at the source, then let every region land them."""
    rt = runtime()
    view = resolve(rt.engine, batch)
    if view is None:
        return ""  # parked, or resolved before: whatever was lost since then is the sweeper's
    if view.has_any or not view.resolved:  # a batch without tags compares lists of them
        canvas.land_everywhere(rt.ledger, batch)
        return ""
    for region in rt.ledger.spec(rt.ledger.batches.run_of(batch)).regions:
        rt.ledger.batches.region_done(batch, region, "landed")
    return finalize_batch(rt, batch)


@shared_task(name="sealift.land", bind=True)
def land_task(self: Task[..., None], batch: str, region: str) -> None:
    """Land the batch in one region; blobs too large for this task join its chord as hauls."""
    rt, chorded = runtime(), bool(self.request.chord)
    with at_work(rt, batch, region) as view:
        if view is None:
            return
        digests = land_batch(rt, batch, region, _heard(self), hauls=chorded, view=view)
        canvas.grow(self, [canvas.haul(rt.ledger, batch, region, digest) for digest in digests])
        _go_ahead(rt, batch, region, _heard(self))
    _ask_for_finalize(rt, batch, chorded=chorded)


@shared_task(name="sealift.haul", bind=True)
def haul_task(self: Task[..., None], batch: str, region: str, digest: str) -> None:
    rt = runtime()
    try:
        haul(rt.engine, batch, region, digest, heard=_heard(self))
    except LedgerError:
        raise
    except Exception as error:
        logger.exception("hauling %s failed", digest)
        give_up(rt.engine, batch, region, error)
    if region in rt.ledger.batches.regions_done(batch, "landed"):
        with at_work(rt, batch, region) as view:  # another haul, or the landing, may be moving its tags
            if view is not None:
                _go_ahead(rt, batch, region, _heard(self))
    _ask_for_finalize(rt, batch, chorded=bool(self.request.chord))


@shared_task(name="sealift.finalize")
def finalize_task(batch: str) -> str:
    return finalize_batch(runtime(), batch)


@shared_task(name="sealift.flip", bind=True)
def flip_task(self: Task[..., None], batch: str, region: str) -> None:
    rt = runtime()
    with at_work(rt, batch, region) as view:
        if view is None:
            return
        flip(rt.engine, batch, region, _heard(self))
    _ask_for_conclude(rt, batch, "flipped", chorded=bool(self.request.chord))


@shared_task(name="sealift.unflip", bind=True)
def unflip_task(self: Task[..., None], batch: str, region: str) -> None:
    rt = runtime()
    with at_work(rt, batch, region) as view:
        if view is None:
            return
        unflip(rt.engine, batch, region)
    _ask_for_conclude(rt, batch, "returned", chorded=bool(self.request.chord))


@shared_task(name="sealift.conclude")
def conclude_task(batch: str) -> str:
    return conclude_batch(runtime(), batch)


@contextlib.contextmanager
def at_work(rt: Runtime, batch: str, region: str) -> Iterator[View | None]:
    """The batch as it is, for whoever is at its step in the region; None for a copy of the message.

    While it is, the sweeper sees so and sends no copy.
    """
    taken = rt.ledger.take_view(AT_WORK.format(region), batch)
    if taken is None:
        yield None
        return
    lease, view = taken
    try:
        yield view
    finally:
        rt.ledger.content.leases.release(lease)


def land_batch(
    rt: Runtime, batch: str, region: str, heard: Heard, *, hauls: bool, view: View | None = None
) -> list[str]:
    """Land the batch in the region, or end its landing there by name; returns the digests to haul."""
    try:
        return land(rt.engine, batch, region, hauls=hauls, heard=heard, view=view)
    except LedgerError:
        raise  # the ledger is away: nothing can be recorded now, the sweeper sends this again
    except Exception as error:
        logger.exception("landing failed")
        give_up(rt.engine, batch, region, error)
        return []


def _go_ahead(rt: Runtime, batch: str, region: str, heard: Heard) -> None:
    """Where targets move on their own, a region that has landed waits for no other: nor does the window."""
    run = rt.ledger.batches.run_of(batch)
    spec = rt.ledger.spec(run)
    if spec.finalize == "all" or len(spec.regions) == 1:
        return
    if region in rt.ledger.batches.regions_done(batch, "landed"):
        flip_early(rt.engine, batch, region, heard)
        if rt.ledger.batches.leave_behind(batch):
            open_window(rt, run)


def finalize_batch(rt: Runtime, batch: str) -> str:
    """What is said of it, as :mod:`tasks.told` has it; empty where the batch goes on."""
    return _follow(rt, batch, decide.finalize(rt.engine, batch))


def conclude_batch(rt: Runtime, batch: str) -> str:
    """The same."""
    return _follow(rt, batch, decide.conclude(rt.engine, batch))


def _follow(rt: Runtime, batch: str, decision: decide.Decision) -> str:
    """Send what follows from a decision; what is said of it."""
    if decision.step in _FOLLOWING and canvas.sole_region(rt.ledger, batch):
        canvas.send_mirror(rt.ledger, batch, first=decision.step != "land")
    elif decision.step == "land":
        canvas.land_in(rt.ledger, batch, decision.regions)
    elif decision.step == "flip":
        canvas.flip_everywhere(rt.ledger, batch)
    elif decision.step == "return":
        canvas.unflip_everywhere(rt.ledger, batch)
    elif decision.step == "concluded":
        _go_on(rt, rt.ledger.batches.run_of(batch))
    return told.ending(decision.ended) if decision.ended else ""


def _go_on(rt: Runtime, run: str) -> None:
    """A batch was concluded: the next ones begin, or the run's last step, or what follows it."""
    open_window(rt, run)
    send_prunes(rt, run)
    producer.repair_if_due(rt, run)
    send_follower(rt, run)


def open_window(rt: Runtime, run: str) -> None:
    """Room was made: fill it, and have the list read on where little is left to fill it with."""
    opened, wants_listing = rt.ledger.refill(run, rt.settings.window_batches)
    for batch, tags in opened.items():
        canvas.send_first(rt.ledger, batch, tags)
    if wants_listing:
        canvas.send_enumerate(rt.ledger, run)


def send_opened(rt: Runtime, run: str) -> None:
    """Send the batches for which there is room now."""
    for batch, tags in rt.ledger.open_window(run, rt.settings.window_batches).items():
        canvas.send_first(rt.ledger, batch, tags)


class _Shortcut:
    """A batch on its way through its only region, in one task.

    There is nobody to wait for between its steps, so no message is sent from one to the next. Each is
    the same compare-and-set in the ledger as with messages: whatever is cut short goes on from there.
    """

    def __init__(self, rt: Runtime, batch: str, region: str, heard: Heard, view: View) -> None:
        """The caller has the lease of whoever is at the batch's step in the region; ``view`` came with it."""
        self._rt, self._batch, self._region, self._heard, self._view = rt, batch, region, heard, view
        self._told = ""

    def go(self) -> str:
        """Until the batch is concluded, is parked, or waits for its hauls; what is said of its end."""
        step = self._beginning()
        while step:
            step = self._take(step)
        return self._told

    def _beginning(self) -> _Step | None:
        """What another task began to land is finished here, and not hauled: its hauls may be lost."""
        step = _BEGINNING.get(self._view.state)
        if step == "land alone" and self._region in self._view.regions_done("landed"):
            return "finalize"
        return step

    def _take(self, step: _Step) -> _Step | None:
        rt, batch, region = self._rt, self._batch, self._region
        if step == "resolve":
            view = resolve(rt.engine, batch, self._view)
            return self._land(view, hauls=True) if view else None
        if step in {"land", "land alone"}:
            return self._land(None, hauls=step == "land")
        if step == "flip":
            flip(rt.engine, batch, region, self._heard)
        elif step == "return":
            unflip(rt.engine, batch, region)
        decide_on = decide.finalize if step == "finalize" else decide.conclude
        decision = decide_on(rt.engine, batch)
        if decision.ended:
            self._told = told.ending(decision.ended)
            _go_on(rt, rt.ledger.batches.run_of(batch))
        return _FOLLOWING.get(decision.step)

    def _land(self, view: View | None, *, hauls: bool) -> _Step | None:
        """The last of the hauls, if there are any, has the batch go on."""
        digests = land_batch(self._rt, self._batch, self._region, self._heard, hauls=hauls, view=view)
        for digest in digests:
            canvas.haul(self._rt.ledger, self._batch, self._region, digest).delay()
        return None if digests else "finalize"


_Step = Literal["resolve", "land", "land alone", "finalize", "flip", "return"]
_BEGINNING: dict[BatchState, _Step] = {
    "resolving": "resolve",
    "landing": "land alone",
    "flipping": "flip",
    "returning": "return",
}
_FOLLOWING: dict[decide.Step, _Step] = {"land": "land", "flip": "flip", "return": "return"}


def _ask_for_finalize(rt: Runtime, batch: str, *, chorded: bool) -> None:
    """A chord sends its body itself; without one, or where the body came too early, the last region does."""
    if not chorded or rt.ledger.batches.asked_for(batch, "finalize"):
        spec = rt.ledger.spec(rt.ledger.batches.run_of(batch))
        if rt.ledger.batches.regions_done(batch, "landed") >= set(spec.regions):
            canvas.send_decision(rt.ledger, batch, "finalize")


def _ask_for_conclude(
    rt: Runtime, batch: str, step: Literal["flipped", "returned"], *, chorded: bool
) -> None:
    if not chorded or rt.ledger.batches.asked_for(batch, "conclude"):
        spec = rt.ledger.spec(rt.ledger.batches.run_of(batch))
        if rt.ledger.batches.regions_done(batch, step) >= set(spec.regions):
            canvas.send_decision(rt.ledger, batch, "conclude")


def _heard(task: Task[..., Any]) -> Heard:
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
                events.send("task-progress", **known, result=told.progress(totals), **totals)

    return heard
