"""Confluent's parallel-consumer: jars from Maven Central, one class compiled against them."""

import shutil
from pathlib import Path

from benchmarks.cache import PEERS, Missing, cached, run

_POM = PEERS / "parallel_consumer.pom.xml"
_SOURCE = Path(__file__).parent / "contestants" / "ParallelConsumerContestant.java"


def parallel_consumer() -> list[str]:
    """The command that its arguments are appended to. Raises Missing without Java, its compiler or Maven."""
    for program in ("java", "javac", "mvn"):
        if shutil.which(program) is None:
            raise Missing(f"there is no {program} on this machine (apt-get install default-jdk-headless maven)")
    folder = cached("parallel-consumer", [_POM, _SOURCE], _make)
    return ["java", "-cp", f"{folder}/classes:{folder}/jars/*", _SOURCE.stem]


def _make(folder: Path) -> None:
    goal = "dependency:copy-dependencies"
    run(["mvn", "-B", "-q", "-f", str(_POM), goal, f"-DoutputDirectory={folder}/jars"])
    run(["javac", "-cp", f"{folder}/jars/*", "-d", f"{folder}/classes", str(_SOURCE)])
