"""Key-ordered concurrency: lanes, scheduler, watermark. Knows asyncio, not Kafka and not our events."""

from consumer.dispatch.allowance import DeadLetterBudget
from consumer.dispatch.assignment import Assignment, Watermark
from consumer.dispatch.breaker import BreakerPolicy
from consumer.dispatch.budget import Limits
from consumer.dispatch.dispatcher import Dispatcher
from consumer.dispatch.lanes import NO_OFFSET, Work
from consumer.dispatch.offset_map import OffsetMap, OffsetMapError
from consumer.dispatch.retries import RetryPolicy
from consumer.dispatch.unfinished import Unfinished
from consumer.dispatch.verdicts import Continue, Done, Outage, Retry, Verdict

__all__ = [
    "NO_OFFSET",
    "Assignment",
    "BreakerPolicy",
    "Continue",
    "DeadLetterBudget",
    "Dispatcher",
    "Done",
    "Limits",
    "OffsetMap",
    "OffsetMapError",
    "Outage",
    "Retry",
    "RetryPolicy",
    "Unfinished",
    "Verdict",
    "Watermark",
    "Work",
]
