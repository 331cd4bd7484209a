"""What goes wrong between the members and the broker."""

import asyncio
import random
from collections.abc import Callable

from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    NotEnoughReplicasError,
    OutOfOrderSequenceNumber,
    RequestTimedOutError,
    TopicAuthorizationFailedError,
)

from consumer.transport.memory import Faults, Operation
from tests.simulation.plan import Plan

Look = Callable[[str, Operation, bool], None]


class Chaos(Faults):
    """Draws what becomes of each request; `look` is told of all of them first, and may kill who makes one."""

    def __init__(self, plan: Plan, look: Look) -> None:
        self._plan = plan
        self._look = look
        self._draws: dict[str, random.Random] = {}
        self.trouble = plan.trouble
        self.isolated: set[str] = set()
        """Clients that do not reach the broker, although they live."""

    async def at(self, client: str, operation: Operation, *, applied: bool) -> None:
        self._look(client, operation, applied)
        if client in self.isolated:
            raise KafkaConnectionError("isolated")
        if not self.trouble.requests:
            return
        if client not in self._draws:
            self._draws[client] = self._plan.rng("requests", client)
        draw, trouble = self._draws[client], self.trouble
        if draw.random() < trouble.request_slow:
            await asyncio.sleep(draw.choice([0.01, 0.3, 3.0]) * draw.random())
        if applied:
            if draw.random() < trouble.reply_lost:
                raise draw.choice([KafkaConnectionError, RequestTimedOutError])("lost reply")
        elif draw.random() < trouble.request_fails:
            raise draw.choice([KafkaConnectionError, RequestTimedOutError, NotEnoughReplicasError])("lost request")
        elif draw.random() < trouble.refused and (errors := _REFUSALS.get(operation)):
            raise draw.choice(errors)("refused")


_REFUSALS: dict[str, list[type[KafkaError]]] = {
    "produce": [OutOfOrderSequenceNumber, TopicAuthorizationFailedError, KafkaError],
    "commit": [TopicAuthorizationFailedError, KafkaError],
}
