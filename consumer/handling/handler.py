"""One record's item from event to outcome: decide, do it, say it.

A handler never raises. What a runtime could not do becomes a retry while attempts and time last, and then a `failed`
result, a notification and a dead letter; what policy refuses becomes a `failed` result and a notification.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import structlog

from consumer.catalog.errors import Refused
from consumer.dispatch import Continue, Done, Outage, Retry, RetryPolicy, Verdict, Work
from consumer.handling import publications
from consumer.handling.clock import utc_now
from consumer.handling.errors import Busy, ProvisionerError, Queued, Transient, Unavailable
from consumer.handling.interruption import Interrupted, interruptible
from consumer.handling.lifecycle import Lifecycle
from consumer.handling.messages import Messenger
from consumer.handling.placing import newer
from consumer.handling.ports import Report, StateStore
from consumer.handling.publications import Context, Publication
from consumer.handling.records import Item, Record, Review
from consumer.handling.stopwatch import Stopwatch
from consumer.handling.telling import Tell, telling
from consumer.reservations import REASONS, Action, Decision, Policy, another_life, decide, interrupted, review
from schemas.events import EventKind, Ping, ReservationEvent, ResourceEvent
from schemas.inbound import DecodeError
from schemas.outbound import Outcome, Reason, Timings, same_way_in
from schemas.state import Phase, ReservationState

log = structlog.get_logger("moorage.handling")


@dataclass(frozen=True, slots=True)
class Options:
    """How often handling tries. Work for a runtime that does not answer is not bounded: it waits until it does."""

    instance: str = "default"
    provision_retries: RetryPolicy = field(default_factory=RetryPolicy)
    release_retries: RetryPolicy = field(default_factory=lambda: RetryPolicy(max_attempts=30, max_elapsed=1800.0))
    policy: Policy = field(default_factory=Policy)


@dataclass(frozen=True, slots=True)
class Told:
    """One outcome to tell: what holds now, and why. `then` is what holds afterwards, if that is not the same."""

    state: ReservationState
    outcome: Outcome
    reason: Reason | None
    notify: bool
    timings: Timings | None = None
    then: ReservationState | None = None


class Handler:
    """Handles items of work; safe to call concurrently for different reservations.

    `expect` is called with what is known of a reservation that was booked or changed and does not run.
    `tell` sends what nobody depends on, ahead of all that is published afterwards, or drops it.
    """

    def __init__(
        self,
        lifecycle: Lifecycle,
        states: StateStore,
        options: Options,
        *,
        messenger: Messenger | None = None,
        now: Callable[[], datetime] = utc_now,
        expect: Callable[[ReservationState], None] = lambda state: None,
        tell: Tell = lambda publication: None,
    ) -> None:
        self._lifecycle = lifecycle
        self._states = states
        self._options = options
        self._messenger = messenger or Messenger()
        self._now = now
        self._expect = expect
        self._tell = tell

    def group_of(self, work: Work[Item]) -> str | None:
        """The runtime whose concurrency limit this work counts against; None when it will call none, or any."""
        match work.item.content:
            case ReservationEvent() as event:
                state, placing = self._states.get(work.assignment, event.reservation_id), self._lifecycle.placing
                ends = event.kind in (EventKind.END, EventKind.DELETED)
                runtime_of = placing.runtime_of_end if ends else placing.runtime_for
                return runtime_of(work.assignment, state, event.resource)
            case Review(reservation_id=reservation_id):
                state = self._states.get(work.assignment, reservation_id)
                if state is None:
                    return None
                return self._lifecycle.placing.runtime_for(work.assignment, state, state.resource)
            case _:
                return None

    @staticmethod
    def interrupts(work: Work[Item]) -> bool:
        """Whether this work makes pointless what is ahead of it in its lane: nothing is made for who has gone."""
        event = work.item.content
        return isinstance(event, ReservationEvent) and event.kind in (EventKind.END, EventKind.DELETED)

    async def handle(self, work: Work[Item]) -> Verdict[Publication]:
        """What became of the work: publications to make, or a wait before the next attempt."""
        record = work.item.record
        try:
            match work.item.content:
                case DecodeError() as error:
                    log.warning("record_unreadable", record=_place(record), code=error.code, why=error.message)
                    return Done((self._dead_letter(record, error.code, error.message),), dead_letters=1)
                case Ping() as ping:
                    log.info("ping_answered", record=_place(record), webhook=ping.webhook_id)
                    return Done()
                case ResourceEvent() as event:
                    return await self._resource(work, event)
                case ReservationEvent() as event:
                    return await self._reservation(work, event)
                case Review() as wanted:
                    return await self._review(work, wanted)
        except Exception as error:
            log.exception("handling_failed", record=_place(record))
            message = f"{type(error).__name__} while handling this record: a defect of Moorage; see its log."
            return Done((self._dead_letter(record, "internal_error", message),), dead_letters=1)

    async def _resource(self, work: Work[Item], event: ResourceEvent) -> Verdict[Publication]:
        """A deleted resource ends its environments, each through the lane of its own reservation."""
        log.info("resource_changed", record=_place(work.item.record), kind=event.kind, resource=event.resource.id)
        if not event.deleted:
            return Done()
        try:
            environments = await self._lifecycle.on_resource(event.resource.id)
        except ProvisionerError as error:
            retry = self._retry(work, error, self._options.release_retries, resource=event.resource.id)
            return retry or Done((self._dead_letter(work.item.record, error.code, error.message),), dead_letters=1)
        return Done(tuple(publications.end_of(environment, self._now()) for environment in environments))

    async def _reservation(self, work: Work[Item], event: ReservationEvent) -> Verdict[Publication]:
        context = Context(self._options.instance, work.item.record, event, self._now())
        remembered = self._states.get(work.assignment, event.reservation_id)
        decision = decide(remembered, event, context.now, self._options.policy)
        if event.kind in (EventKind.CREATED, EventKind.UPDATED) and decision.state.phase is Phase.PENDING:
            self._expect(decision.state)
        return await self._act(work, context, remembered, decision)

    async def _review(self, work: Work[Item], wanted: Review) -> Verdict[Publication]:
        """What time, or a look at the runtimes, asks for."""
        reservation_id, now = wanted.reservation_id, self._now()
        state = self._states.get(work.assignment, reservation_id)
        try:
            sighting = await self._lifecycle.sighting(reservation_id, state) if wanted.look else None
            if state is None:
                if sighting is not None and sighting.exists:
                    await self._sweep(reservation_id)
                return Done()
        except ProvisionerError as error:
            return _looked_in_vain(reservation_id, error)
        restart = self._lifecycle.restarts(state.resource)
        decision = review(state, sighting, now, self._options.policy, restart=restart)
        if decision is None:
            return Done()
        kind = EventKind.START if decision.action is Action.PROVISION else EventKind.END
        event = publications.event_for(state, kind, now)
        context = Context(self._options.instance, publications.as_record(work.item.record, event), event, now)
        return await self._act(work, context, state, decision)

    async def _sweep(self, reservation_id: str, state: ReservationState | None = None) -> None:
        if await self._lifecycle.sweep(reservation_id, state):
            log.warning("left_over_removed", reservation=reservation_id)

    async def _act(
        self, work: Work[Item], context: Context, remembered: ReservationState | None, decision: Decision
    ) -> Verdict[Publication]:
        """Do what was decided, and say it. Until then, it counts for quotas as what it is to become."""
        verdict: Verdict[Publication] | None = None
        try:
            verdict = await self._attempt(work, context, remembered, decision)
            return verdict
        finally:
            self._lifecycle.ledger.settle(decision.state.reservation_id, waits=isinstance(verdict, Retry | Outage))

    async def _attempt(
        self, work: Work[Item], context: Context, remembered: ReservationState | None, decision: Decision
    ) -> Verdict[Publication]:
        told: list[Told] = []
        letters: tuple[Publication, ...] = ()
        try:
            if (placed := await self._placed(work, decision, remembered)) is not None:
                self._states.put(work.assignment, placed)
                return Continue((publications.state(context, placed),))
            with telling(self._tell, work, context, decision.state, self._now) as report:
                await self._carry_out(work, decision, remembered, told, report)
        except Interrupted:
            stays = remembered if decision.action is Action.PROVISION else None
            decision = interrupted(decision.state, stays)
            decision = replace(decision, state=self._lifecycle.placing.pointing(decision.state, remembered))
            told.append(Told(decision.state, decision.outcome, decision.reason, notify=False))
        except Refused as refusal:
            refused = _failed(decision, remembered, refusal.code, refusal.message)
            told.append(replace(refused, state=refused.state.model_copy(update={"placed": decision.state.placed})))
        except ProvisionerError as error:
            if decision.action is Action.SWEEP:
                return _looked_in_vain(decision.state.reservation_id, error)
            if (retry := self._retry_of(decision, work, error)) is not None:
                return retry
            failed = _failed(decision, remembered, error.code, error.message)
            if not isinstance(error, Queued):  # of one that only waited, nothing was begun
                letters = (self._dead_letter(context.record, error.code, error.message),)
                if await self._still_stands(decision, remembered):
                    return Done(letters, dead_letters=len(letters))
                if not await self._clean_up(decision):
                    failed = replace(failed, state=self._lifecycle.owing(failed.state, decision.state))
            told.append(failed)
        final = told[-1].then or told[-1].state if told else decision.state
        done = self._conclude(work, context, remembered, final, told, letters)
        # What has moved into a pool is placed there next, as any start is.
        return Continue(done.publications) if decision.action is Action.MOVE and final.phase is Phase.PENDING else done

    async def _placed(
        self, work: Work[Item], decision: Decision, remembered: ReservationState | None
    ) -> ReservationState | None:
        """What is to be known for good before anything is made: in a pool, on which engine that will be."""
        if decision.action is not Action.PROVISION:
            return None
        async with interruptible(work):
            at = asyncio.get_running_loop().time()
            return await self._lifecycle.placing.place(work.assignment, decision.state, remembered, at=at)

    async def _carry_out(
        self,
        work: Work[Item],
        decision: Decision,
        remembered: ReservationState | None,
        told: list[Told],
        report: Report,
    ) -> None:
        """Do what was decided, and add each outcome to `told` as it is reached."""
        notify, elapsed, watch = decision.notify, _elapsed(work), Stopwatch(work.admitted_at)
        match decision.action:
            case Action.NOTHING:
                told.append(Told(decision.state, decision.outcome, decision.reason, notify))
            case Action.RELEASE:
                if not await self._lifecycle.release(decision.previous or decision.state):
                    decision = decision.with_nothing_found()
                told.append(Told(decision.state, decision.outcome, decision.reason, decision.notify))
            case Action.SWEEP:
                await self._sweep(decision.state.reservation_id, remembered)
            case Action.PROVISION:
                async with interruptible(work):
                    state = await self._lifecycle.provision(decision.state, remembered, watch, report, elapsed=elapsed)
                runs = remembered if remembered is not None and remembered.phase is Phase.ACTIVE else None
                news = runs is None or not same_way_in(runs.access, state.access)
                if runs is not None and (news or runs.environment != state.environment):
                    state = another_life(state)
                # Whoever is remembered as running was told how to get in; only news is worth a notification.
                told.append(Told(state, decision.outcome, decision.reason, notify and news, watch.timings()))
            case Action.MOVE:
                previous = decision.previous or decision.state
                await self._lifecycle.move(previous, decision.state)
                gone = {"access": None, "environment": None, "notes": (), "life": decision.state.life}
                left = previous.model_copy(update=gone)
                moved = Reason(code="moved", message=REASONS["moved"])
                if self._lifecycle.placing.is_pool(decision.state.resource):
                    later = {"phase": Phase.PENDING, "changed_at": newer(decision.state, previous)}
                    ahead = decision.state.model_copy(update=later | gone)
                    told.append(
                        Told(left, Outcome.RELEASED, moved, previous.user.id != decision.state.user.id, then=ahead)
                    )
                    return
                told.append(Told(left, Outcome.RELEASED, moved, previous.user.id != decision.state.user.id))
                async with interruptible(work):
                    state = await self._lifecycle.provision(decision.state, None, watch, report, elapsed=elapsed)
                told.append(Told(state, decision.outcome, decision.reason, notify, watch.timings()))

    # Failure

    def _retry_of(self, decision: Decision, work: Work[Item], error: ProvisionerError) -> Retry | Outage | None:
        """What is waited for before what was decided is tried again, or None when this attempt was the last."""
        state, action = decision.state, decision.action
        releasing = action is Action.RELEASE
        return self._retry(
            work,
            error,
            self._options.release_retries if releasing else self._options.provision_retries,
            start=state.start,
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
        start: datetime | None = None,
        until: datetime | None = None,
        **about: str,
    ) -> Retry | Outage | None:
        if isinstance(error, Unavailable):
            log.warning("runtime_unavailable", **about, runtime=error.runtime, why=error.message)
            return Outage(error.runtime)
        if isinstance(error, Busy):
            return self._waiting(work, error, start, until, **about)
        retry = None
        if isinstance(error, Transient):
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

    def _waiting(
        self, work: Work[Item], error: Busy, start: datetime | None, until: datetime | None, **about: str
    ) -> Retry | None:
        """The wait for something else to end: as long as there is patience, counted from the reservation's start."""
        admitted = self._now() - timedelta(seconds=asyncio.get_running_loop().time() - work.admitted_at)
        bounds = [until] if until is not None else []
        if error.patience is not None:
            bounds.append(max(admitted, start or admitted) + timedelta(seconds=error.patience))
        delay = random.uniform(1.0, 3.0)  # noqa: S311 - jitter, not a secret
        if any(self._now() + timedelta(seconds=delay) >= bound for bound in bounds):
            return None
        tell = log.debug if isinstance(error, Queued) and error.again else log.info
        tell("waits", **about, code=error.code, why=error.message)
        return Retry(delay, fresh=True)

    async def _still_stands(self, decision: Decision, remembered: ReservationState | None) -> bool:
        """Whether what was told before holds although it could not be confirmed: then nothing is told, nothing touched.

        Above all, a repeated START must not take away a running environment because its runtime is in trouble.
        """
        if remembered is None:
            return False
        if decision.action is Action.PROVISION and remembered.phase is Phase.ACTIVE:
            return await self._lifecycle.still_runs(remembered)
        return decision.action is Action.RELEASE and remembered.phase is Phase.RELEASED

    async def _clean_up(self, decision: Decision) -> bool:
        """Take away what failed attempts left; False when that cannot be done now.

        Every runtime is asked: the one that is remembered is not always the one that was tried.
        """
        if decision.action is Action.RELEASE:
            return True
        try:
            await self._lifecycle.release(decision.state, everywhere=True)
        except ProvisionerError as error:
            log.warning("cleanup_failed", reservation=decision.state.reservation_id, code=error.code, why=error.message)
            return False
        return True

    # Telling

    def _conclude(
        self,
        work: Work[Item],
        context: Context,
        remembered: ReservationState | None,
        final: ReservationState,
        told: list[Told],
        letters: tuple[Publication, ...],
    ) -> Done[Publication]:
        messages: list[Publication] = []
        for each in told:
            body, message = publications.result(context, each.state, each.outcome, each.reason, each.timings)
            messages.append(message)
            if each.notify:
                text, kind = self._messenger.message_for(body)
                messages.append(publications.notification(context, body, text, kind))
            log.info(
                f"reservation_{each.outcome}",
                reservation=body.event_id,
                runtime=body.runtime,
                environment=body.environment,
                reason=body.reason.code if body.reason else None,
                seconds=round((self._now() - context.now).total_seconds(), 3),
            )
        if final != remembered:
            self._states.put(work.assignment, final)
            messages.append(publications.state(context, final))
        return Done((*messages, *letters), dead_letters=len(letters))

    def _dead_letter(self, record: Record, code: str, message: str) -> Publication:
        return publications.dead_letter(
            record, instance=self._options.instance, code=code, message=message, now=self._now()
        )


def _failed(decision: Decision, remembered: ReservationState | None, code: str, message: str) -> Told:
    """The failure of what was decided."""
    reason = Reason(code=code, message=message)
    if decision.outcome is Outcome.EXPIRED and decision.previous is not None:
        # It stays expired, so that it is told once: what is left is swept away as soon as that works.
        owed = {"reason": reason, "environment": decision.previous.environment, "placed": decision.previous.placed}
        return Told(decision.state.model_copy(update=owed), Outcome.FAILED, reason, notify=False)
    if decision.action is Action.RELEASE and decision.previous is not None:
        return Told(_still_owed(decision.state, decision.previous, reason), Outcome.FAILED, reason, notify=False)
    fields = (
        "access",
        "environment",
        "runtime",
        "placed",
        "template",
        "image",
        "image_digest",
        "cpu_millis",
        "memory_bytes",
    )
    nothing = dict.fromkeys(fields) | {"notes": ()}
    state = decision.state.model_copy(update={"phase": Phase.FAILED, "reason": reason, **nothing})
    if decision.action is Action.PROVISION and remembered is not None and remembered.phase is Phase.ACTIVE:
        state = another_life(state)
    return Told(state, Outcome.FAILED, reason, notify=not _failed_alike(remembered, state))


def _still_owed(state: ReservationState, previous: ReservationState, reason: Reason) -> ReservationState:
    """What holds after a release that failed: an end stays an end, so that no late START starts anything.

    Replaying the dead letter removes what is left. After an update, the new booking holds and still counts as running.
    """
    if state.phase is not Phase.RELEASED:
        return previous
    owed = {"environment": previous.environment, "placed": previous.placed}
    return state.model_copy(update={"reason": reason, **owed})


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


def _looked_in_vain(reservation_id: str, error: ProvisionerError) -> Done[Publication]:
    """A review that failed: nothing is told, and the next one shows the same again."""
    log.warning("review_failed", reservation=reservation_id, code=error.code, why=error.message)
    return Done()


def _place(record: Record) -> str:
    return f"{record.topic}/{record.partition}/{record.offset}"
