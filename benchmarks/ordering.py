"""What a contestant's log proves: nothing lost, what was repeated, whether each key kept its order."""

from array import array
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from benchmarks.workloads import Trace


@dataclass(frozen=True)
class Proof:
    """`overtaken` counts records that started before their key's previous record had ended; 0 means order was kept.

    `together` is the most handlers that ran at one time.
    """

    lost: int
    repeated: int
    overtaken: int
    together: int


def prove(log: Path, trace: Trace) -> Proof:
    entries = array("q", log.read_bytes())
    handlings = sorted(zip(entries[0::3], entries[1::3], entries[2::3], strict=True))
    overtaken, distinct, previous = 0, 0, -1
    last_end: dict[int, int] = defaultdict(int)
    for index, start, end in handlings:
        if index == previous:
            continue  # repeated: whether its key was in order is a matter of the first time
        key = trace.keys[index]
        overtaken += start < last_end[key]
        last_end[key] = max(end, last_end[key])
        distinct, previous = distinct + 1, index
    return Proof(
        lost=len(trace.keys) - distinct,
        repeated=len(handlings) - distinct,
        overtaken=overtaken,
        together=_together([(start, end) for _, start, end in handlings]),
    )


def _together(spans: list[tuple[int, int]]) -> int:
    # An end sorts before a start at the same moment.
    moments = sorted([(start, 1) for start, _ in spans] + [(end, -1) for _, end in spans])
    running = most = 0
    for _, step in moments:
        running += step
        most = max(most, running)
    return most
