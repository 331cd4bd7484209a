"""From single runs to the tables of the contest."""

from collections.abc import Callable, Iterable, Sequence
from statistics import median

from benchmarks.contest import Row
from benchmarks.entrants import FLOOR, GATHER, MOORAGE, Entrant
from benchmarks.report import Table
from benchmarks.workloads import Workload


def standings(rows: Sequence[Row], workloads: Sequence[Workload], entrants: Sequence[Entrant]) -> list[Table]:
    return [
        _times(rows, workloads, entrants),
        _used(rows, workloads, entrants),
        *([_verdict(rows, workloads)] if {FLOOR, MOORAGE} <= set(entrants) else []),
    ]


def _times(rows: Sequence[Row], workloads: Sequence[Workload], entrants: Sequence[Entrant]) -> Table:
    def cell(mine: list[Row], workload: Workload) -> str:
        seconds = median(row.seconds for row in mine)
        ratio = f" ({seconds / workload.lower_bound:.2f}×)" if workload.lower_bound else ""
        return f"{seconds:.2f}{ratio}"

    bounds = ["lower bound", *(f"{workload.lower_bound:.2f}" for workload in workloads), ""]
    return Table(
        "Seconds until everything was handled and committed (and how many times the lower bound)",
        ["", *(workload.name for workload in workloads), "order kept"],
        [bounds, *([*line, _order(rows, entrant)] for entrant, line in _lines(rows, workloads, entrants, cell))],
        [
            f"{workload.name}: {workload.about}, {workload.records:,} records, {workload.partitions} partitions."
            for workload in workloads
        ],
    )


def _used(rows: Sequence[Row], workloads: Sequence[Workload], entrants: Sequence[Entrant]) -> Table:
    def cell(mine: list[Row], workload: Workload) -> str:
        return f"{median(row.cpu for row in mine):.1f} s, {median(row.rss_mib for row in mine):.0f} MiB"

    return Table(
        "Processor time and peak resident memory",
        ["", *(workload.name for workload in workloads)],
        [line for _, line in _lines(rows, workloads, entrants, cell)],
    )


def _verdict(rows: Sequence[Row], workloads: Sequence[Workload]) -> Table:
    """What is asked of Moorage, in the terms it is asked in."""

    def against(reference: Callable[[Workload], float | None]) -> list[str]:
        return [_ratio(_median(rows, workload, MOORAGE), reference(workload)) for workload in workloads]

    lines = [
        ["Moorage / lower bound", *against(lambda workload: workload.lower_bound)],
        ["Moorage / asyncio in memory", *against(lambda workload: _median(rows, workload, FLOOR))],
        ["Moorage / bare gather loop", *against(lambda workload: _median(rows, workload, GATHER))],
    ]
    return Table("Moorage's time as a multiple", ["", *(workload.name for workload in workloads)], lines)


def _lines(
    rows: Sequence[Row],
    workloads: Sequence[Workload],
    entrants: Iterable[Entrant],
    cell: Callable[[list[Row], Workload], str],
) -> list[tuple[Entrant, list[str]]]:
    lines = []
    for entrant in entrants:
        line = [entrant.title]
        for workload in workloads:
            mine = _finished(rows, workload, entrant)
            line.append(cell(mine, workload) if mine else "–")
        lines.append((entrant, line))
    return lines


def _order(rows: Sequence[Row], entrant: Entrant) -> str:
    mine = [row for row in rows if row.entrant == entrant.name and not row.error]
    if not mine:
        return "–"
    return "no" if any(row.overtaken for row in mine) else "yes"


def _finished(rows: Sequence[Row], workload: Workload, entrant: Entrant) -> list[Row]:
    return [row for row in rows if (row.workload, row.entrant) == (workload.name, entrant.name) and not row.error]


def _median(rows: Sequence[Row], workload: Workload, entrant: Entrant) -> float | None:
    mine = _finished(rows, workload, entrant)
    return median(row.seconds for row in mine) if mine else None


def _ratio(seconds: float | None, reference: float | None) -> str:
    return f"{seconds / reference:.2f}" if seconds and reference else "–"
