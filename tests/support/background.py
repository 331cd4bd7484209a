"""What goes on in a thread of its own while a test does something else."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def in_background(work: Callable[[threading.Event], None], *, name: str) -> Iterator[None]:
    """Do `work` until it returns, which it does soon after the event is set that it is given: when the block is left.

    What it fails with is told there.
    """
    over = threading.Event()
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work(over)
        except BaseException as error:  # noqa: BLE001 - told where the block is left
            failures.append(error)

    thread = threading.Thread(target=run, name=name)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert failures == []
