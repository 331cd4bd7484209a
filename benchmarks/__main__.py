"""Measure Moorage on this machine.

python -m benchmarks              everything, half an hour
python -m benchmarks --quick      everything with fewer records and once, a few minutes
python -m benchmarks dispatch     ordered concurrency beside other consumers
python -m benchmarks cold-read    the whole service reading what leads to nothing, beside a loop that only reads
python -m benchmarks memory       what a record in flight costs
python -m benchmarks restore      reading what is remembered of a million reservations, beside a loop that only reads
python -m benchmarks timers       arming and ringing a million timers
python -m benchmarks environments creating and removing containers on a real engine, beside a bare client
python -m benchmarks kubernetes   the same with pods on a real API server, and how much that is asked

Kafka is the one that KAFKA_BOOTSTRAP_SERVERS names, or one that is started and ended again; so are the Docker Engine,
which DOCKER_HOST names, and the cluster, which MOORAGE_TEST_KUBECONFIG names. Results go to benchmarks/results/; how
they are measured stands in docs/benchmarks.md.
"""

import argparse
import sys
from collections.abc import Callable, Iterable

from benchmarks import cold_read, dispatch, environments, kubernetes, memory, restore, timers
from benchmarks.entrants import ENTRANTS
from benchmarks.workloads import WORKLOADS

_COMMANDS = {
    "dispatch": dispatch.run,
    "cold-read": cold_read.run,
    "memory": memory.run,
    "restore": restore.run,
    "timers": timers.run,
    "environments": environments.run,
    "kubernetes": kubernetes.run,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", nargs="?", choices=["all", *_COMMANDS], default="all")
    parser.add_argument("--quick", action="store_true", help="fewer records, one round")
    parser.add_argument("--rounds", type=int, help="how often each is measured (default: 3, quick: 1)")
    parser.add_argument(
        "--patience", type=float, default=0, help="seconds to wait for a quiet machine, before each run"
    )
    parser.add_argument("--workloads", type=_some_of(WORKLOADS), default=list(WORKLOADS), help=", ".join(WORKLOADS))
    parser.add_argument("--entrants", type=_some_of(ENTRANTS), default=list(ENTRANTS), help=", ".join(ENTRANTS))
    arguments = parser.parse_args()
    arguments.words = sys.argv[1:]
    for name, run in _COMMANDS.items():
        if arguments.command in (name, "all"):
            run(arguments)


def _some_of(known: Iterable[str]) -> Callable[[str], list[str]]:
    """An argument type: comma-separated words, all of them known."""

    def words(text: str) -> list[str]:
        found = [word.strip() for word in text.split(",")]
        if unknown := set(found) - set(known):
            raise argparse.ArgumentTypeError(f"no such: {', '.join(sorted(unknown))}")
        return found

    return words


if __name__ == "__main__":
    main()
