"""`dispatch`: Moorage's concurrency beside its peers', one trace for all, each taking turns with the others."""

import asyncio
from argparse import Namespace

from benchmarks.contest import hold
from benchmarks.entrants import ENTRANTS
from benchmarks.kafka import real_kafka
from benchmarks.machine import describe
from benchmarks.report import publish
from benchmarks.standings import standings
from benchmarks.topics import topics_on
from benchmarks.workloads import WORKLOADS

_QUICK = 10
"""Quick runs have a tenth of the records."""


def run(arguments: Namespace) -> None:
    workloads = [WORKLOADS[name] for name in arguments.workloads]
    if arguments.quick:
        workloads = [workload.smaller(_QUICK) for workload in workloads]
    entrants = [ENTRANTS[name] for name in arguments.entrants]
    rounds = arguments.rounds or (1 if arguments.quick else 3)
    about = describe(arguments.words)

    async def contest(bootstrap: str) -> None:
        async with topics_on(bootstrap) as topics:
            rows = await hold(topics, workloads, entrants, rounds=rounds, patience=arguments.patience)
        publish("dispatch", about, standings(rows, workloads, entrants), [row.as_json() for row in rows])

    with real_kafka() as bootstrap:
        asyncio.run(contest(bootstrap))
