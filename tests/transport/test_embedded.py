"""The broker that lives in the process of a demonstration."""

import subprocess
import sys

SIGNALS = """
import os, signal, socket, time
from consumer.transport.embedded import EmbeddedBroker

signal.signal(signal.SIGUSR1, lambda *_: None)
with EmbeddedBroker(["topic"]) as broker:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])  # so it comes to another thread, if one takes it
    for _ in range(50):
        os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(0.01)
    host, _, port = broker.bootstrap_servers.partition(":")
    socket.create_connection((host, int(port)), 5).close()
"""


def test_no_signal_ends_it() -> None:
    command = [sys.executable, "-c", SIGNALS]

    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)  # noqa: S603 - our own words

    assert done.returncode == 0, done.stderr
    assert "Mock cluster failed" not in done.stderr
