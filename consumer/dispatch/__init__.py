"""Key-ordered concurrency: lanes, scheduler, watermark. Knows asyncio, not Kafka and not our events."""

from consumer.dispatch.assignment import Assignment, Watermark
from consumer.dispatch.budget import Limits
from consumer.dispatch.dispatcher import Dispatcher, Unfinished
from consumer.dispatch.lanes import Work
from consumer.dispatch.retries import RetryPolicy
from consumer.dispatch.verdicts import Done, Retry, Verdict

__all__ = [
    "Assignment",
    "Dispatcher",
    "Done",
    "Limits",
    "Retry",
    "RetryPolicy",
    "Unfinished",
    "Verdict",
    "Watermark",
    "Work",
]
