"""What an engine of our own changes in the host's network: a bridge, addresses, filter rules. All of it is put back."""

import ipaddress
import json
import os
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.services.missing import ServiceMissing
from tests.services.rundir import one_at_a_time, run_dirs

_FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
_TABLES = ("filter", "nat")
_RECORD = "host-network.json"


@dataclass(frozen=True)
class HostNetwork:
    """A bridge of our own and a range of addresses that nothing here uses, beside what there was before."""

    bridge: str
    own: str
    """The range of the bridge itself."""
    pool: str
    """That of further networks."""
    usable: bool
    """Whether iptables works here."""
    filters: bool
    """Whether a Docker Engine of ours may use it: not where another's rules are, which it would overwrite."""
    rules_before: dict[str, list[str]]
    forwarding_before: str

    @classmethod
    def claim(cls, run_dir: Path, *, filter_rules: bool = True) -> "HostNetwork":
        """Raises ServiceMissing where bridges cannot be made (in a container without rights, say).

        Whoever makes no filter rules out here says so, lest those that others make meanwhile are taken for theirs.
        """
        with one_at_a_time("network"):
            return cls._claim(run_dir, filter_rules)

    @classmethod
    def _claim(cls, run_dir: Path, filter_rules: bool) -> "HostNetwork":
        addresses, pool = ipaddress.ip_network(_unused_range()).subnets()
        rules = {table: _rules(table) for table in _TABLES}
        usable = all(rules.values())
        taken = any("DOCKER" in rule for table in rules.values() for rule in table)
        bridge = f"mrg{run_dir.name[-8:]}"
        own = f"{addresses[0]}/24"
        forwarding = next((other.forwarding_before for other in _claims()), _FORWARDING.read_text())
        filters = filter_rules and usable and not taken
        network = cls(bridge, own, str(pool), usable, filters, rules, forwarding)
        (run_dir / _RECORD).write_text(json.dumps(asdict(network)))
        _ip("link", "add", "name", bridge, "type", "bridge")
        _ip("address", "add", f"{addresses[1]}/24", "dev", bridge)
        _ip("link", "set", bridge, "up")
        return network

    @classmethod
    def filters_at(cls, run_dir: Path) -> bool:
        """Whether the engine of this folder may use iptables; so it is with one whose folder claimed nothing."""
        network = cls.claimed(run_dir)
        return network is None or network.filters

    @classmethod
    def give_back(cls, run_dir: Path) -> None:
        """Undo `claim` and what the engine did since. Does nothing for a folder that never claimed."""
        network = cls.claimed(run_dir)
        if network is None:
            return
        with one_at_a_time("network"):
            network._give_back(run_dir)

    def _give_back(self, run_dir: Path) -> None:
        for link in _bridges_in(self.pool) | {self.bridge}:
            subprocess.run(["ip", "link", "delete", link], check=False, capture_output=True)
        if self.filters:
            for table in _TABLES:
                _put_back(table, self)
        (run_dir / _RECORD).unlink(missing_ok=True)
        if not any(_claims()):  # packets of others go through this machine as well
            _FORWARDING.write_text(self.forwarding_before)

    @classmethod
    def claimed(cls, run_dir: Path) -> "HostNetwork | None":
        """What `claim` gave to this folder, until it is given back."""
        record = run_dir / _RECORD
        if not record.exists():
            return None
        # An engine that was kept may be older than some of what is written down now.
        return cls(**{"own": "", "usable": False, **json.loads(record.read_text())})

    @property
    def prefix(self) -> str:
        """How all of its addresses begin."""
        return ".".join(self.pool.split(".")[:2]) + "."


@contextmanager
def one_more_address(address: str) -> Iterator[None]:
    """This machine has `address` too, for as long as it is needed. Raises ServiceMissing where that cannot be."""
    bridge = f"mrgx{os.getpid()}"
    _ip("link", "add", "name", bridge, "type", "bridge")
    try:
        _ip("address", "add", f"{address}/32", "dev", bridge)
        _ip("link", "set", bridge, "up")
        yield
    finally:
        _ip("link", "delete", bridge)


def _claims() -> Iterator[HostNetwork]:
    """What others of this user have now."""
    for run_dir in run_dirs():
        if (network := HostNetwork.claimed(run_dir.path)) is not None:
            yield network


def _unused_range() -> str:
    routes = [ipaddress.ip_network(route["dst"]) for route in _ip_json("route") if route["dst"] != "default"]
    ranges = (ipaddress.ip_network(f"10.{second}.0.0/16") for second in range(200, 250))
    return next(str(candidate) for candidate in ranges if not any(candidate.overlaps(route) for route in routes))


def _bridges_in(pool: str) -> set[str]:
    """Bridges of networks that a killed engine left."""
    network = ipaddress.ip_network(pool)
    return {
        link["ifname"]
        for link in _ip_json("address")
        for address in link.get("addr_info", [])
        if address["family"] == "inet" and ipaddress.ip_address(address["local"]) in network
    }


def _rules(table: str) -> list[str]:
    """The table as commands that would make it; empty where iptables does not work."""
    done = subprocess.run(["iptables", "-w", "-t", table, "-S"], capture_output=True, text=True)
    return done.stdout.splitlines() if done.returncode == 0 else []


def _put_back(table: str, network: HostNetwork) -> None:
    """Take out the rules and chains that our engine made, and set the chains' policies as they were."""
    before = network.rules_before[table]
    marks = ("DOCKER", network.bridge, " br-", " mrg-", f" {network.prefix}")  # mrg-: networks that Moorage made
    added = [shlex.split(rule) for rule in _rules(table) if rule not in before and any(mark in rule for mark in marks)]
    for command, chain, *rest in added:
        if command == "-A":
            _iptables(table, "-D", chain, *rest)
    for command, chain, *_ in added:
        if command == "-N":
            _iptables(table, "-X", chain)
    for rule in before:
        if rule.startswith("-P"):
            _iptables(table, *shlex.split(rule))


def _iptables(table: str, *arguments: str) -> None:
    subprocess.run(["iptables", "-w", "-t", table, *arguments], check=False, capture_output=True)


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise ServiceMissing(f"`ip {' '.join(arguments)}` failed: {done.stderr.strip()}")


def _ip_json(what: str) -> list[dict[str, Any]]:
    done = subprocess.run(["ip", "-json", what], capture_output=True, text=True, check=True)
    listed: list[dict[str, Any]] = json.loads(done.stdout or "[]")
    return listed
