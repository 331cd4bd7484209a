"""What the processes of an environment use together. Blocks."""

import contextlib
from datetime import UTC, datetime

import psutil

from consumer.handling.usage import Usage
from consumer.provisioners.process.processes import family
from consumer.provisioners.process.record import Leader


def usage_of_family(key: str, leader: Leader | None) -> Usage:
    """The sum over all processes that run, with what their ended children used. What ends meanwhile is left out.

    Memory that several of them share is counted for each.
    """
    seconds, resident, count, read, written = 0.0, 0, 0, 0, 0
    for process in family(key, leader):
        with contextlib.suppress(psutil.Error), process.oneshot():
            times, memory = process.cpu_times(), process.memory_info().rss
            seconds += times.user + times.system + times.children_user + times.children_system
            resident += memory
            count += 1
            if (counters := getattr(process, "io_counters", None)) is not None:  # not everywhere, as on macOS
                moved = counters()
                read, written = read + moved.read_bytes, written + moved.write_bytes
    return Usage(
        at=datetime.now(UTC),
        cpu_seconds=seconds,
        memory_bytes=resident,
        read_bytes=read,
        written_bytes=written,
        processes=count,
    )
