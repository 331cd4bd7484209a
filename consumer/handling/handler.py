"""One record's item from event to outcome: decide, do it, say it.

A handler never raises. What a runtime could not do becomes a retry while attempts and time last, and then a `failed`
result, a notification and a dead letter; what policy refuses becomes a `failed` result and a notification.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from consumer.catalog.errors import Refused
from consumer.dispatch import Done, Retry, RetryPolicy, Verdict, Work
from consumer.handling import publications
from consumer.handling.errors import Permanent, ProvisionerError, Transient, Unavailable
from consumer.handling.lifecycle import Lifecycle, utc_now
from consumer.handling.messages import message_for
from consumer.handling.ports import StateStore
from consumer.handling.publications import Context, Publication
from consumer.handling.records import Item, Record
from consumer.reservations import REASONS, Action, Decision, Policy, decide
from schemas.events import Ping, ReservationEvent, ResourceEvent
from schemas.inbound import DecodeError
from schemas.outbound import Outcome, Reason
from schemas.state import Phase, ReservationState

log = structlog.get_logger("moorage.handling")


@dataclass(frozen=True, slots=True)
class Options:
    """How often handling tries. Times are seconds.

    `unavailable_delay`: work for a runtime that does not answer is tried again after this long (jittered down to
    half of it), as often as it takes; the reservation's end is the only bound.
    """

    instance: str = "default"
    provision_retries: RetryPolicy = field(default_factory=RetryPolicy)
    release_retries: RetryPolicy = field(default_factory=lambda: RetryPolicy(max_attempts=30, max_elapsed=1800.0))
    unavailable_delay: float = 5.0
    policy: Policy = field(default_factory=Policy)


@dataclass(frozen=True, slots=True)
class Told:
    """One outcome to tell: what holds now, and why."""

    state: ReservationState
    outcome: Outcome
    reason: Reason | None
    notify: bool


class Handler:
    """Handles items of work; safe to call concurrently for different reservations."""

    def __init__(
        self, lifecycle: Lifecycle, states: StateStore, options: Options, *, now: Callable[[], datetime] = utc_now
    ) -> None:
        self._lifecycle = lifecycle
        self._states = states
        self._options = options
        self._now = now

    def group_of(self, work: Work[Item]) -> str | None:
        """The runtime whose concurrency limit this work counts against; None when it will call none."""
        event = work.item.content
        if not isinstance(event, ReservationEvent):
            return None
        return self._lifecycle.runtime_for(self._states.get(work.assignment, event.reservation_id), event.resource)

    async def handle(self, work: Work[Item]) -> Verdict[Publication]:
        """What became of the work: publications to make, or a wait before the next attempt."""
        record = work.item.record
        try:
            match work.item.content:
                case DecodeError() as error:
                    log.warning("record_unreadable", record=_place(record), code=error.code, why=error.message)
                    return Done((self._dead_letter(record, error.code, error.message),))
                case Ping() as ping:
                    log.info("ping_answered", record=_place(record), webhook=ping.webhook_id)
                    return Done()
                case ResourceEvent() as event:
                    return await self._resource(work, event)
                case ReservationEvent() as event:
                    return await self._reservation(work, event)
        except Exception as error:  # noqa: BLE001 - the boundary: a defect costs its record, not the partition
            log.exception("handling_failed", record=_place(record))
            message = f"{type(error).__name__} while handling this record: a defect of Moorage; see its log."
            return Done((self._dead_letter(record, "internal_error", message),))

    async def _resource(self, work: Work[Item], event: ResourceEvent) -> Verdict[Publication]:
        """A deleted resource ends its environments, each through the lane of its own reservation."""
        log.info("resource_changed", record=_place(work.item.record), kind=event.kind, resource=event.resource.id)
        if not event.deleted:
            return Done()
        try:
            environments = await self._lifecycle.on_resource(event.resource.id)
        except ProvisionerError as error:
            retry = self._again_later(error)
            log.warning("resource_environments_unknown", resource=event.resource.id, why=error.message)
            return retry
        return Done(tuple(publications.end_of(environment, self._now()) for environment in environments))

    async def _reservation(self, work: Work[Item], event: ReservationEvent) -> Verdict[Publication]:
        context = Context(self._options.instance, work.item.record, event, self._now())
        remembered = self._states.get(work.assignment, event.reservation_id)
        decision = decide(remembered, event, context.now, self._options.policy)
        told: list[Told] = []
        letters: tuple[Publication, ...] = ()
        try:
            await self._carry_out(decision, remembered, told, elapsed=_elapsed(work))
        except Refused as refusal:
            told.append(_failed(decision, refusal.code, refusal.message))
        except ProvisionerError as error:
            if (retry := self._retry(work, decision, error)) is not None:
                return retry
            await self._clean_up(decision)
            told.append(_failed(decision, error.code, error.message))
            letters = (self._dead_letter(work.item.record, error.code, error.message),)
        return self._conclude(work, context, remembered, told, letters)

    async def _carry_out(
        self, decision: Decision, remembered: ReservationState | None, told: list[Told], *, elapsed: float
    ) -> None:
        """Do what was decided, and add each outcome to `told` as it is reached."""
        notify = decision.notify
        match decision.action:
            case Action.NOTHING:
                told.append(Told(decision.state, decision.outcome, decision.reason, notify))
            case Action.RELEASE:
                if not await self._lifecycle.release(decision.previous or decision.state):
                    decision = decision.with_nothing_found()
                told.append(Told(decision.state, decision.outcome, decision.reason, decision.notify))
            case Action.PROVISION:
                state = await self._lifecycle.provision(decision.state, remembered, elapsed=elapsed)
                # Whoever is remembered as running was told how to get in; only news is worth a notification.
                news = remembered is None or remembered.phase is not Phase.ACTIVE or remembered.access != state.access
                told.append(Told(state, decision.outcome, decision.reason, notify and news))
            case Action.MOVE:
                previous = decision.previous or decision.state
                await self._lifecycle.release(previous)
                moved = Reason(code="moved", message=REASONS["moved"])
                told.append(Told(previous, Outcome.RELEASED, moved, previous.user.id != decision.state.user.id))
                state = await self._lifecycle.provision(decision.state, None, elapsed=elapsed)
                told.append(Told(state, decision.outcome, decision.reason, notify))

    # Failure

    def _retry(self, work: Work[Item], decision: Decision, error: ProvisionerError) -> Retry | None:
        """The wait before the next attempt, or None when this one was the last."""
        options = self._options
        if isinstance(error, Unavailable):
            retry: Retry | None = self._again_later(error)
        elif isinstance(error, Permanent):
            retry = None
        else:
            policy = options.release_retries if decision.action is Action.RELEASE else options.provision_retries
            wish = error.retry_after if isinstance(error, Transient) else None
            delay = policy.delay(work.attempt, _elapsed(work), wish)
            retry = Retry(delay) if delay is not None else None
        log.warning(
            "attempt_failed",
            reservation=decision.state.reservation_id,
            action=decision.action.name.lower(),
            attempt=work.attempt,
            code=error.code,
            why=error.message,
            retry_in=round(retry.delay, 2) if retry else None,
        )
        return retry

    def _again_later(self, error: ProvisionerError) -> Retry:
        wish = error.retry_after if isinstance(error, Transient) else None
        ceiling = self._options.unavailable_delay
        delay = random.uniform(ceiling / 2, ceiling)  # noqa: S311 - jitter, not a secret
        return Retry(max(delay, wish or 0.0), fresh=True)

    async def _clean_up(self, decision: Decision) -> None:
        """Take away what failed attempts left. What cannot be removed now goes with the reservation's END."""
        if decision.action is Action.RELEASE:
            return
        try:
            await self._lifecycle.release(decision.state)
        except ProvisionerError as error:
            log.warning("cleanup_failed", reservation=decision.state.reservation_id, code=error.code, why=error.message)

    # Telling

    def _conclude(
        self,
        work: Work[Item],
        context: Context,
        remembered: ReservationState | None,
        told: list[Told],
        letters: tuple[Publication, ...],
    ) -> Done[Publication]:
        messages: list[Publication] = []
        for each in told:
            body, message = publications.result(context, each.state, each.outcome, each.reason)
            messages.append(message)
            if each.notify:
                messages.append(publications.notification(context, body, *message_for(body)))
            log.info(
                f"reservation_{each.outcome}",
                reservation=body.event_id,
                runtime=body.runtime,
                environment=body.environment,
                reason=body.reason.code if body.reason else None,
                seconds=round((self._now() - context.now).total_seconds(), 3),
            )
        final = told[-1].state
        if final != remembered:
            self._states.put(work.assignment, final)
            messages.append(publications.state(context, final))
        return Done((*messages, *letters))

    def _dead_letter(self, record: Record, code: str, message: str) -> Publication:
        return publications.dead_letter(
            record, instance=self._options.instance, code=code, message=message, now=self._now()
        )


def _failed(decision: Decision, code: str, message: str) -> Told:
    """The failure of what was decided. A release that failed is still owed, so what was remembered stays."""
    reason = Reason(code=code, message=message)
    if decision.action is Action.RELEASE and decision.previous is not None:
        return Told(decision.previous, Outcome.FAILED, reason, notify=False)
    update = {"phase": Phase.FAILED, "reason": reason, "access": None, "environment": None}
    return Told(decision.state.model_copy(update=update), Outcome.FAILED, reason, notify=True)


def _elapsed(work: Work[Item]) -> float:
    """Seconds since the first attempt."""
    return asyncio.get_running_loop().time() - work.started_at if work.started_at is not None else 0.0


def _place(record: Record) -> str:
    return f"{record.topic}/{record.partition}/{record.offset}"
