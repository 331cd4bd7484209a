"""Podman's networks where CNI plugins make them, and the filter rules that those leave behind."""

import re
import shlex
import subprocess
from typing import Any

_CHAIN_OF_A_CONTAINER = re.compile(r"CNI-(DN-)?[0-9a-f]{8,}")


def default_network(bridge: str, subnet: str) -> dict[str, Any]:
    """The network that containers join when told none, as Podman itself would describe it."""
    gateway = subnet.replace(".0/24", ".1")
    addresses = {"type": "host-local", "routes": [{"dst": "0.0.0.0/0"}]}
    return {
        "cniVersion": "0.4.0",
        "name": "podman",
        "plugins": [
            {
                "type": "bridge",
                "bridge": bridge,
                "isGateway": True,
                "ipMasq": True,
                "hairpinMode": True,
                "ipam": addresses | {"ranges": [[{"subnet": subnet, "gateway": gateway}]]},
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
            {"type": "firewall"},
            {"type": "tuning"},
        ],
    }


def remove_rules(addresses: str) -> None:
    """Take out what the plugins set up for containers with addresses that begin so (`10.201.`).

    What they keep for all containers together goes too once no container needs it; they make it anew at the next.
    """
    for table in ("filter", "nat"):
        _remove_rules_of_containers(table, addresses)
        chains = [rule[1] for rule in _rules(table) if rule[0] == "-N" and rule[1].startswith("CNI-")]
        in_use = any(_CHAIN_OF_A_CONTAINER.fullmatch(chain) for chain in chains)
        forwards = any(rule[:2] == ["-A", "CNI-FORWARD"] and ("-s" in rule or "-d" in rule) for rule in _rules(table))
        if not in_use and not forwards:
            _remove_chains(table, chains)


def _remove_rules_of_containers(table: str, addresses: str) -> None:
    ours = {
        chain
        for _, chain, *rest in _rules(table)
        if _CHAIN_OF_A_CONTAINER.fullmatch(chain) and any(word.startswith(addresses) for word in rest)
    }
    for command, chain, *rest in _rules(table):
        mentions = any(word.startswith(addresses) for word in rest) or not ours.isdisjoint(rest)
        if command == "-A" and chain not in ours and mentions:
            _iptables(table, "-D", chain, *rest)
    for chain in ours:
        _iptables(table, "-F", chain)
        _iptables(table, "-X", chain)


def _remove_chains(table: str, chains: list[str]) -> None:
    for command, chain, *rest in _rules(table):
        if command == "-A" and not {chain, *rest}.isdisjoint(chains) and chain != "CNI-ADMIN":
            _iptables(table, "-D", chain, *rest)
    for chain in chains:
        _iptables(table, "-X", chain)  # fails, and shall, for CNI-ADMIN with an administrator's rules in it


def _rules(table: str) -> list[list[str]]:
    """Each rule and chain as the words of the command that would make it."""
    done = subprocess.run(["iptables", "-w", "-t", table, "-S"], capture_output=True, text=True)
    return [shlex.split(line) for line in done.stdout.splitlines()] if done.returncode == 0 else []


def _iptables(table: str, *arguments: str) -> None:
    subprocess.run(["iptables", "-w", "-t", table, *arguments], check=False, capture_output=True)
