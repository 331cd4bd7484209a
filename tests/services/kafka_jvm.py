"""Kafka nodes as JVMs of our own, on jars that Maven fetched once for this user."""

import base64
import os
import re
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Mapping
from functools import partial
from hashlib import sha256
from pathlib import Path

from tests.services.kafka_settings import cluster_properties, knows_members
from tests.services.missing import ServiceMissing, say
from tests.services.packages import need
from tests.services.ports import free_port
from tests.services.rundir import RunDir, wait_until_ready

_POM = Path(__file__).with_name("kafka.pom.xml")
_CLUSTER_ID = "TW9vcmFnZS10ZXN0cy1LYQ"
_OLDEST_JAVA = 17  # what Kafka 4 brokers are compiled for
_START_SECONDS = 45
_LOGGING = """\
rootLogger.level = WARN
rootLogger.appenderRef.console.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d %p %m (%c)%n
"""


def start_jvm(nodes: int, settings: Mapping[str, str], *, keep: bool = False) -> "JvmNodes":
    """Raises ServiceMissing without Java or jars, DidNotStart if a node does not come up."""
    jars = prepare_jars()
    cluster = JvmNodes(RunDir.create("kafka", keep=keep), jars, nodes, settings)
    try:
        cluster.start_all()
    except BaseException:
        cluster.stop()
        raise
    return cluster


def prepare_jars() -> Path:
    """The folder with the jars of kafka.pom.xml, fetched if this user has none yet."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "moorage"
    jars = cache / f"kafka-{sha256(_POM.read_bytes()).hexdigest()[:12]}"
    java = {} if os.environ.get("JAVA_HOME") else {"java": "default-jre-headless"}
    need(java if jars.is_dir() else java | {"mvn": "maven"})
    _check_java()
    if not jars.is_dir():
        say("fetching Apache Kafka's jars with Maven")
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as fetched:
            goal = "dependency:copy-dependencies"
            command = ["mvn", "-B", "-q", "-f", str(_POM), goal, f"-DoutputDirectory={fetched}/jars"]
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
            if done.returncode:
                raise ServiceMissing(f"Maven could not fetch Apache Kafka: {done.stdout.strip()[-1000:]}")
            if not jars.is_dir():  # somebody else was quicker
                Path(fetched, "jars").rename(jars)
    return jars


def _check_java() -> None:
    said = subprocess.run([_java(), "-version"], stdin=subprocess.DEVNULL, capture_output=True, text=True).stderr
    found = re.search(r'version "(\d+)', said)
    if found is None or int(found[1]) < _OLDEST_JAVA:
        raise ServiceMissing(f"Apache Kafka needs Java {_OLDEST_JAVA} or newer, this is: {said.strip()[:200]}")


def _java() -> str:
    home = os.environ.get("JAVA_HOME")
    return str(Path(home, "bin", "java")) if home else "java"


class JvmNodes:
    """Combined broker and controller nodes on loopback, with their data below one folder."""

    def __init__(self, run_dir: RunDir, jars: Path, nodes: int, settings: Mapping[str, str]) -> None:
        self._run_dir = run_dir
        self._jars = jars
        self._numbers = range(1, nodes + 1)
        self._settings = cluster_properties(nodes) | dict(settings)
        self._ports = {number: free_port() for number in self._numbers}
        self._controller_ports = {number: free_port() for number in self._numbers}
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self.bootstrap_servers = ",".join(f"127.0.0.1:{port}" for port in self._ports.values())

    def start_all(self) -> None:
        (self._run_dir.path / "log4j2.properties").write_text(_LOGGING)
        for number in self._numbers:
            self._configure(number)
        self._format()
        for number in self._numbers:
            self._launch(number)
        self._wait()
        self._run_dir.announce("MOORAGE_TEST_KAFKA", self.bootstrap_servers)

    def kill(self, node: int) -> None:
        process = self._processes.pop(node)
        process.kill()
        process.wait()

    def start(self, node: int) -> None:
        if node not in self._processes:
            self._launch(node)
            self._wait()

    def stop(self) -> None:
        for node in list(self._processes):
            self.kill(node)  # a clean stop takes Kafka 6 to 20 s, for data that is thrown away
        self._run_dir.end()

    def _folder(self, node: int) -> Path:
        return self._run_dir.path / f"node-{node}"

    def _configure(self, node: int) -> None:
        voters = (f"{number}@127.0.0.1:{port}" for number, port in self._controller_ports.items())
        properties = self._settings | {
            "node.id": str(node),
            "process.roles": "broker,controller",
            "controller.quorum.voters": ",".join(voters),
            "controller.listener.names": "CONTROLLER",
            "listeners": (
                f"PLAINTEXT://127.0.0.1:{self._ports[node]},CONTROLLER://127.0.0.1:{self._controller_ports[node]}"
            ),
            "log.dirs": str(self._folder(node) / "data"),
        }
        self._folder(node).mkdir()
        lines = (f"{key}={value}\n" for key, value in properties.items())
        (self._folder(node) / "server.properties").write_text("".join(lines))

    def _format(self) -> None:
        """Format the first node's storage; the others get a copy under names of their own (a JVM less for each)."""
        first = self._folder(1)
        arguments = ["format", "--cluster-id", _CLUSTER_ID, "--config", str(first / "server.properties")]
        command = self._command(1, "kafka.tools.StorageTool", *arguments)
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"Kafka's storage tool failed: {(done.stdout + done.stderr).strip()[-2000:]}")
        for node in self._numbers[1:]:
            shutil.copytree(first / "data", self._folder(node) / "data")
            meta = self._folder(node) / "data" / "meta.properties"
            directory = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
            text = re.sub(r"(?m)^node\.id=.*$", f"node.id={node}", meta.read_text())
            meta.write_text(re.sub(r"(?m)^directory\.id=.*$", f"directory.id={directory}", text))

    def _launch(self, node: int) -> None:
        command = self._command(node, "kafka.Kafka", str(self._folder(node) / "server.properties"))
        self._processes[node] = self._run_dir.launch(command, self._log(node))

    def _log(self, node: int) -> Path:
        return self._folder(node) / "kafka.log"

    def _command(self, node: int, main: str, *arguments: str) -> list[str]:
        quick_start = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"]
        logging = f"-Dlog4j2.configurationFile={self._run_dir.path}/log4j2.properties"
        logs = f"-Dkafka.logs.dir={self._folder(node)}"
        options = ["-Xms128m", "-Xmx256m", *quick_start, logging, logs, "-cp", f"{self._jars}/*"]
        return [_java(), *options, main, *arguments]

    def _wait(self) -> None:
        members = {self._ports[node] for node in self._processes}
        for node, process in self._processes.items():
            serving = partial(knows_members, self._ports[node], members)
            wait_until_ready(process, serving, seconds=_START_SECONDS, log=self._log(node))
