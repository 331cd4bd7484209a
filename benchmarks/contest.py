"""The contest: for each workload one topic filled once, and rounds in which contestants take turns on it."""

import json
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.cache import Missing
from benchmarks.contestants.harness import Task
from benchmarks.entrants import Entrant
from benchmarks.machine import quiet
from benchmarks.ordering import prove
from benchmarks.process import ContestantError, run_to_the_end
from benchmarks.report import say
from benchmarks.topics import Topics, unique
from benchmarks.workloads import Workload

_SLOW = 60.0
"""Whoever takes longer than this many seconds for a workload is measured in one round only."""


@dataclass(frozen=True)
class Row:
    """What one contestant did in one round. `error` is None when it finished, and then all else is filled in."""

    workload: str
    entrant: str
    round: int
    error: str | None = None
    seconds: float = 0.0
    handled: float = 0.0
    cpu: float = 0.0
    rss_mib: float = 0.0
    lost: int = 0
    repeated: int = 0
    overtaken: int = 0
    together: int = 0
    stalled: float = 0.0

    def as_json(self) -> dict[str, object]:
        return asdict(self)


async def hold(
    topics: Topics, workloads: Iterable[Workload], entrants: Sequence[Entrant], *, rounds: int, patience: float
) -> list[Row]:
    """Let them all compete; what each did in each round.

    Before each the machine has up to `patience` seconds to come to rest.
    """
    commands, rows = _commands(entrants), list[Row]()
    for workload in workloads:
        say(f"\n{workload.name}: {workload.about}, {workload.records:,} records, bound {workload.lower_bound:.2f} s")
        counts = await _fill(topics, workload)
        slow: set[str] = set()
        for number in range(rounds):
            # Everybody goes first once in a while: a broker has moods.
            turn = number % len(entrants)
            for entrant in (*entrants[turn:], *entrants[:turn]):
                if entrant.name in slow:
                    continue
                command = commands[entrant.name]
                await quiet(patience)
                row = (
                    Row(workload.name, entrant.name, number, error=command)
                    if isinstance(command, str)
                    else await _compete(topics, workload, entrant, command, counts, number)
                )
                say(_line(row))
                rows.append(row)
                if row.error or row.seconds > _SLOW:
                    slow.add(entrant.name)
        await topics.delete(counts.topic)
    return rows


@dataclass(frozen=True)
class _Filled:
    topic: str
    partitions: dict[int, int]


async def _fill(topics: Topics, workload: Workload) -> _Filled:
    topic = await topics.create(workload.name, workload.partitions)
    return _Filled(topic, await topics.fill(topic, workload.trace.messages()))


def _commands(entrants: Iterable[Entrant]) -> dict[str, list[str] | str]:
    """How to start each, or why it cannot be."""
    commands: dict[str, list[str] | str] = {}
    for entrant in entrants:
        try:
            commands[entrant.name] = entrant.prepare()
        except Missing as missing:
            commands[entrant.name] = str(missing)
    return commands


async def _compete(
    topics: Topics, workload: Workload, entrant: Entrant, command: list[str], filled: _Filled, number: int
) -> Row:
    timeout = 60 + 3 * workload.trace.work
    group = unique(entrant.name)

    async def committed() -> None:
        if entrant.on_kafka:
            await topics.committed(group, filled.topic, filled.partitions, timeout=60)

    with tempfile.TemporaryDirectory(prefix="moorage-bench-") as folder:
        settings, log = entrant.settings_for(workload.name), Path(folder, "log")
        if not entrant.on_kafka:
            settings["trace"] = str(_write_trace(Path(folder), workload))
        task = Task(
            bootstrap=topics.bootstrap,
            topic=filled.topic,
            group=group,
            partitions=workload.partitions,
            records=workload.records,
            concurrency=workload.concurrency,
            log=str(log),
            settings=settings,
        )
        arguments = entrant.arguments(task)
        try:
            run = await run_to_the_end(
                [*command, *arguments], committed, timeout=timeout, stderr=Path(folder, "stderr")
            )
        except ContestantError as error:
            return Row(workload.name, entrant.name, number, error=str(error))
        proof = prove(log, workload.trace)
    return Row(
        workload.name,
        entrant.name,
        number,
        seconds=round(run.committed, 3),
        handled=round(run.handled, 3),
        cpu=round(run.cpu, 2),
        rss_mib=round(run.rss / 1024, 1),
        stalled=round(run.stalled, 2),
        **asdict(proof),
    )


def _write_trace(folder: Path, workload: Workload) -> Path:
    path = folder / "trace.json"
    path.write_text(json.dumps([(key.decode(), value.decode()) for key, value in workload.trace.messages()]))
    return path


def _line(row: Row) -> str:
    if row.error:
        return f"  {row.entrant:<18} {row.error}"
    order = "in order" if not row.overtaken else f"{row.overtaken} overtaken"
    extra = "".join(f", {n} {word}" for n, word in ((row.lost, "LOST"), (row.repeated, "repeated")) if n)
    return (
        f"  {row.entrant:<18} {row.seconds:7.2f} s  cpu {row.cpu:6.2f} s  {row.rss_mib:5.0f} MiB  "
        f"stalled {row.stalled:4.0%}  "
        f"≤ {row.together} together, {order}{extra}"
    )
