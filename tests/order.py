"""In which order tests run, and with several workers (`pytest --numprocesses=2`) in which of them.

Each worker starts services of its own. What changes this machine, as Docker Engines with their filter rules do, is for
one worker alone: all tests with such a service are one group. Other tests are grouped by file, so that what a file's
tests share is made once. Groups that may take long come first, and the quick ones fill what is left.
"""

import json
import os
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.needs import services_of

_ONE_WORKERS = ("podman", "docker", "kubelet", "kubernetes")
"""The first of these that a test needs is its group: tests of several engines have Docker's mark beside Podman's."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Quick tests first, unless others run beside: what a real service says matters when the rules hold."""
    if not hasattr(config, "workerinput"):
        items.sort(key=lambda item: bool(services_of(item)))
        return
    groups = {item.nodeid: _group(item) for item in items}
    patience: Counter[str] = Counter()
    for item in items:
        if services_of(item) or item.get_closest_marker("timeout"):
            patience[groups[item.nodeid]] += _time_limit(item)
    items.sort(key=lambda item: -patience[groups[item.nodeid]])
    if config.workerinput["workerid"] == "gw0":
        Path(config.workerinput["groups"]).write_text(json.dumps(groups))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput["groups"] = str(_file_of_groups())


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    config.option.loadscopereorder = False
    return _Scheduling(config, log)


def pytest_unconfigure() -> None:
    _file_of_groups().unlink(missing_ok=True)


class _Scheduling(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no type information
    """By the groups that the first worker wrote down, since only workers collect.

    xdist's own `loadgroup` makes groups a part of tests' names, which pytest 9.2 no longer lets it:
    https://github.com/pytest-dev/pytest-xdist/issues/1386
    """

    _groups: dict[str, str]

    def schedule(self) -> None:
        if self.collection is None:
            self._groups = json.loads(_file_of_groups().read_text())
        super().schedule()

    def _split_scope(self, nodeid: str) -> str:
        return self._groups[nodeid]


def _file_of_groups() -> Path:
    return Path(tempfile.gettempdir()) / f"moorage-groups-{os.getpid()}.json"


def _group(item: pytest.Item) -> str:
    services = services_of(item)
    return next((name for name in _ONE_WORKERS if name in services), str(item.path))


def _time_limit(item: pytest.Item) -> int:
    mark = item.get_closest_marker("timeout")
    return int(mark.args[0] if mark else item.config.getini("timeout"))
