"""Write what each engine really enforces into docs/reference/runtimes.md: `python -m tools.engines`.

On each engine Moorage makes a container with every limit; the container reads its own control groups and /proc, and the
table says what it saw. Where an engine takes a limit and lets it pass without a word, only this tells.
"""

import asyncio
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from consumer.catalog.environment import Limits, Port
from consumer.provisioners.docker import DOCKER, PODMAN
from consumer.provisioners.docker.hardening import restrictions
from tests.provisioners.docker.harness import DockerHarness, EngineUnderTest, shell
from tests.provisioners.harness import WEB_PORT, fetch, ignore
from tests.services import DockerEngine, PodmanEngine

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "runtimes.md"
KINDS = ("Docker Engine", "Podman, rootful", "Podman, rootless")

YES, NO, WORKS, BROKEN = "enforced", "**not enforced**", "works", "**does not work**"
LEFT_OUT, DEFAULT = "left out, and said so", "the engine's default"
OF_THE_MACHINE = frozenset({"CPU", "memory", "swap", "processes", "storage", "open files", "processes of a user"})
"""What depends on the control groups, the file system or the rights of the machine that the engine runs on."""

_TABLE = re.compile(r"(<!-- engines:[^\n]*-->\n).*?(<!-- /engines -->)", re.DOTALL)
_UDP_PORT = 5353
_MEMORY = 64 << 20
_LIMITS = Limits(cpu_millis=500, memory_bytes=_MEMORY, storage_bytes=1 << 30)
_PROCESSES = 99
_OUTPUT = 5_000_000
_FILES = (
    "cpu/cpu.cfs_quota_us memory/memory.limit_in_bytes memory/memory.memsw.limit_in_bytes pids/pids.max"
    " cpu.max memory.max memory.swap.max pids.max"
)
_PROBE = f"""
cp /proc/1/status /proc/1/limits /proc/1/uid_map /www; tr '\\0' ' ' < /proc/1/cmdline > /www/init; df -k / > /www/df
ip -o address > /www/addresses; cat /proc/sys/kernel/random/uuid > /www/token
for f in {_FILES}; do echo $f $(cat /sys/fs/cgroup/$f 2> /dev/null); done > /www/groups
yes 'a line of output' | head -c {_OUTPUT}
while sleep 0.1; do cp /proc/net/snmp /www/.snmp; mv /www/.snmp /www/snmp; done &
exec httpd -f -p {WEB_PORT} -h /www
"""


_NEIGHBOUR = f"""
printf 'GET /token HTTP/1.0\\r\\n\\r\\n' | nc -w 3 {{address}} {WEB_PORT} > /www/answer
exec httpd -f -p {WEB_PORT} -h /www
"""


@dataclass(frozen=True)
class Seen:
    """One engine: its version, that of the control groups it works with, and what became of each limit."""

    version: str
    control_groups: str
    rows: Mapping[str, str]


async def look(engine: EngineUnderTest) -> Seen:
    """Make the container and read what it saw. Leaves nothing behind."""
    harness = DockerHarness(engine.url, engine.image, engine.dialect)
    try:
        return await _look(harness)
    finally:
        if left := await harness.clean_up():
            raise RuntimeError(f"left behind: {left}")


async def _look(harness: DockerHarness) -> Seen:
    info = await harness.docker.system.info()
    ports = (Port(WEB_PORT), Port(_UDP_PORT, protocol="udp"))
    spec = harness.spec(command=shell(_PROBE), limits=_LIMITS, ports=ports)
    provisioner = harness.provisioner_with(pids_limit=_PROCESSES, log_megabytes=1)
    made = await provisioner.ensure(spec, ignore)
    names = ("status", "limits", "uid_map", "init", "df", "groups", "addresses", "token")
    files = {name: await fetch(f"{made.access.url}/{name}", within=20) for name in names}
    outside = {port.protocol: port.host_port for port in made.access.ports}
    host = restrictions(spec, harness.options(harness.instance))
    asked = {each["Name"]: int(each["Soft"]) for each in host["Ulimits"]}
    address = re.search(r"eth0 +inet ([\d.]+)|tap0 +inet ([\d.]+)", files["addresses"])
    neighbour = harness.spec(
        "r-2", command=shell(_NEIGHBOUR.format(address=(address[1] or address[2]) if address else ""))
    )
    nearby = await provisioner.ensure(neighbour, ignore)
    answer = await fetch(f"{nearby.access.url}/answer", within=20)
    status = dict(line.partition(":\t")[::2] for line in files["status"].splitlines())
    log = await harness.docker.containers.container(made.native_id).log(stdout=True, stderr=True)
    groups = dict(line.partition(" ")[::2] for line in files["groups"].splitlines())
    rows = {
        **_of_groups(groups),
        "storage": YES if int(files["df"].split()[-5]) * 1024 <= 1 << 30 else LEFT_OUT,
        "open files": _ulimit(files["limits"], "Max open files", asked.get("nofile")),
        "processes of a user": _ulimit(files["limits"], "Max processes", asked.get("nproc")),
        "output kept": YES if sum(map(len, log)) < _OUTPUT / 2 else NO,
        "capabilities, none": YES if int(status["CapBnd"], 16) == 0 else NO,
        "no-new-privileges": YES if status["NoNewPrivs"].strip() == "1" else NO,
        "system calls filtered (seccomp)": YES if status["Seccomp"].strip() == "2" else NO,
        "apart from each other": NO if files["token"] in answer else YES,
        "metadata service out of reach": YES if "inet 169.254.169.254" in files["addresses"] else NO,
        "init": WORKS if "init" in files["init"].split()[0] else BROKEN,
        "TCP port on loopback": WORKS,  # by which all of this was read
        "UDP port on loopback": WORKS if await _arrives(f"{made.access.url}/snmp", outside["udp"]) else BROKEN,
        "root in the container is": "root" if files["uid_map"].split()[:2] == ["0", "0"] else "the engine's user",
    }
    return Seen(info["ServerVersion"].partition("+")[0], str(info.get("CgroupVersion", "1")), rows)


def _of_groups(groups: Mapping[str, str]) -> dict[str, str]:
    """With control groups of version 2 the files have other names; those of the other version are empty."""

    def first(*files: str) -> str:
        return next((groups[file].split()[0] for file in files if groups.get(file)), "")

    return {
        "CPU": YES if first("cpu/cpu.cfs_quota_us", "cpu.max") == "50000" else NO,
        "memory": YES if first("memory/memory.limit_in_bytes", "memory.max") == str(_MEMORY) else NO,
        "swap": YES if first("memory/memory.memsw.limit_in_bytes", "memory.swap.max") in ("0", str(_MEMORY)) else NO,
        "processes": YES if first("pids/pids.max", "pids.max") == str(_PROCESSES) else NO,
    }


def _ulimit(limits: str, name: str, asked: int | None) -> str:
    if asked is None:
        return DEFAULT
    found = re.search(rf"^{name} +(\S+)", limits, re.MULTILINE)
    return YES if found and found[1] == str(asked) else NO


async def _arrives(counters: str, port: int) -> bool:
    """Whether a datagram gets in. Nobody answers there: the container counts what came for nobody."""
    before = _for_nobody(await fetch(counters))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(20):
            sender.sendto(b"ahoy", ("127.0.0.1", port))
            await asyncio.sleep(0.25)
            if _for_nobody(await fetch(counters)) > before:
                return True
    return False


def _for_nobody(counters: str) -> int:
    names, values = (line.split() for line in counters.splitlines() if line.startswith("Udp:"))
    return int(values[names.index("NoPorts")])


def table(seen: Mapping[str, Seen]) -> str:
    """What was seen, as a Markdown table."""
    heads = [f"{kind}<br>{each.version}, cgroups v{each.control_groups}" for kind, each in seen.items()]
    rows = [f"| {row} | {' | '.join(each.rows[row] for each in seen.values())} |" for row in _rows(seen)]
    return "\n".join([f"| | {' | '.join(heads)} |", "| --- " * (len(heads) + 1) + "|", *rows])


def written(text: str) -> dict[str, Seen]:
    """What the page says."""
    found = _TABLE.search(text)
    if found is None:
        raise ValueError("the page has lost its markers")
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in found[0].splitlines()[1:-1]]
    seen = {}
    for number, head in enumerate(cells[0][1:], 1):
        kind, version, control_groups = re.split(r"<br>|, cgroups v", head)
        seen[kind] = Seen(version, control_groups, {row[0]: row[number] for row in cells[2:]})
    return seen


def with_table(text: str, seen: Mapping[str, Seen]) -> str:
    """`text` with the table between its two markers."""
    return _TABLE.sub(lambda found: f"{found[1]}{table(seen)}\n{found[2]}", text)


def _rows(seen: Mapping[str, Seen]) -> list[str]:
    return list(dict.fromkeys(row for each in seen.values() for row in each.rows))


def main() -> None:
    engines = (DockerEngine.start(), PodmanEngine.start(), PodmanEngine.start_own(rootless=True))
    try:
        seen = {}
        for kind, engine in zip(KINDS, engines, strict=True):
            dialect, image = (DOCKER, engine.image) if kind == KINDS[0] else (PODMAN, f"docker.io/{engine.image}")
            seen[kind] = asyncio.run(look(EngineUnderTest(engine.url, image, dialect)))
        PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), seen), encoding="utf-8")
        print(table(seen))
    finally:
        for engine in engines:
            engine.stop()


if __name__ == "__main__":
    main()
