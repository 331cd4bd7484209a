"""One record's item from event to outcome: decide, do it, say it.

A handler never raises. What a runtime could not do becomes a retry while attempts and time last, and then a `failed`
result, a notification and a dead letter; what policy refuses becomes a `failed` result and a notification.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from consumer.catalog.errors import Refused
from consumer.dispatch import Done, Retry, RetryPolicy, Verdict, Work
from consumer.handling import publications
from consumer.handling.errors import ProvisionerError, Transient, Unavailable
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
    """One outcome to tell: what holds now, and why. `notes` are sentences for the person who is notified."""

    state: ReservationState
    outcome: Outcome
    reason: Reason | None
    notify: bool
    notes: tuple[str, ...] = ()


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
        except Exception as error:
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
            retry = self._retry(work, error, self._options.release_retries, resource=event.resource.id)
            return retry or Done((self._dead_letter(work.item.record, error.code, error.message),))
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
            told.append(_failed(decision, remembered, refusal.code, refusal.message))
        except ProvisionerError as error:
            if (retry := self._retry_of(decision, work, error)) is not None:
                return retry
            letters = (self._dead_letter(work.item.record, error.code, error.message),)
            if await self._still_stands(decision, remembered):
                return Done(letters)
            await self._clean_up(decision)
            told.append(_failed(decision, remembered, error.code, error.message))
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
                provided = await self._lifecycle.provision(decision.state, remembered, elapsed=elapsed)
                state = provided.state
                # Whoever is remembered as running was told how to get in; only news is worth a notification.
                news = remembered is None or remembered.phase is not Phase.ACTIVE or remembered.access != state.access
                told.append(Told(state, decision.outcome, decision.reason, notify and news, provided.notes))
            case Action.MOVE:
                previous = decision.previous or decision.state
                await self._lifecycle.move(previous, decision.state)
                left = previous.model_copy(update={"access": None, "environment": None})
                moved = Reason(code="moved", message=REASONS["moved"])
                told.append(Told(left, Outcome.RELEASED, moved, previous.user.id != decision.state.user.id))
                provided = await self._lifecycle.provision(decision.state, None, elapsed=elapsed)
                told.append(Told(provided.state, decision.outcome, decision.reason, notify, provided.notes))

    # Failure

    def _retry_of(self, decision: Decision, work: Work[Item], error: ProvisionerError) -> Retry | None:
        """The wait before what was decided is tried again, or None when this attempt was the last."""
        state, action = decision.state, decision.action
        releasing = action is Action.RELEASE
        return self._retry(
            work,
            error,
            self._options.release_retries if releasing else self._options.provision_retries,
            until=None if releasing else state.end,
            reservation=state.reservation_id,
            action=action.name.lower(),
        )

    def _retry(
        self,
        work: Work[Item],
        error: ProvisionerError,
        policy: RetryPolicy,
        *,
        until: datetime | None = None,
        **about: str,
    ) -> Retry | None:
        retry = None
        if isinstance(error, Unavailable):
            ceiling = self._options.unavailable_delay
            retry = Retry(random.uniform(ceiling / 2, ceiling), fresh=True)  # noqa: S311 - jitter, not a secret
        elif isinstance(error, Transient):
            delay = policy.delay(work.attempt, _elapsed(work), error.retry_after)
            if delay is not None and (until is None or self._now() + timedelta(seconds=delay) < until):
                retry = Retry(delay)
        log.warning(
            "attempt_failed",
            **about,
            attempt=work.attempt,
            code=error.code,
            why=error.message,
            retry_in=round(retry.delay, 2) if retry else None,
        )
        return retry

    async def _still_stands(self, decision: Decision, remembered: ReservationState | None) -> bool:
        """Whether what was told before holds although it could not be confirmed: then nothing is told, nothing touched.

        Above all, a repeated START must not take away a running environment because its runtime is in trouble.
        """
        if remembered is None:
            return False
        if decision.action is Action.PROVISION and remembered.phase is Phase.ACTIVE:
            return await self._lifecycle.still_runs(remembered)
        return decision.action is Action.RELEASE and remembered.phase is Phase.RELEASED

    async def _clean_up(self, decision: Decision) -> None:
        """Take away what failed attempts left. What cannot be removed now goes with the reservation's END.

        Every runtime is asked: the one that is remembered is not always the one that was tried.
        """
        if decision.action is Action.RELEASE:
            return
        try:
            await self._lifecycle.release(decision.state.model_copy(update={"runtime": None}))
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
                messages.append(publications.notification(context, body, *message_for(body, each.notes)))
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


def _failed(decision: Decision, remembered: ReservationState | None, code: str, message: str) -> Told:
    """The failure of what was decided."""
    reason = Reason(code=code, message=message)
    if decision.action is Action.RELEASE and decision.previous is not None:
        return Told(_still_owed(decision.state, decision.previous, reason), Outcome.FAILED, reason, notify=False)
    nothing = dict.fromkeys(("access", "environment", "runtime", "template", "image"))
    state = decision.state.model_copy(update={"phase": Phase.FAILED, "reason": reason, **nothing})
    return Told(state, Outcome.FAILED, reason, notify=not _failed_alike(remembered, state))


def _still_owed(state: ReservationState, previous: ReservationState, reason: Reason) -> ReservationState:
    """What holds after a release that failed: an end stays an end, so that no late START starts anything.

    Replaying the dead letter removes what is left. After an update, the new booking holds and still counts as running.
    """
    if state.phase is not Phase.RELEASED:
        return previous
    return state.model_copy(update={"reason": reason, "environment": previous.environment})


def _failed_alike(remembered: ReservationState | None, state: ReservationState) -> bool:
    """Whether the user was told of this very failure before, so that a repetition is no news."""
    return (
        remembered is not None
        and remembered.phase is Phase.FAILED
        and remembered.revision == state.revision
        and remembered.reason is not None
        and state.reason is not None
        and remembered.reason.code == state.reason.code
    )


def _elapsed(work: Work[Item]) -> float:
    """Seconds since the first attempt."""
    return asyncio.get_running_loop().time() - work.started_at if work.started_at is not None else 0.0


def _place(record: Record) -> str:
    return f"{record.topic}/{record.partition}/{record.offset}"
