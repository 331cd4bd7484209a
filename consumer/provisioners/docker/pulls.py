"""Getting images: one pull an image at a time, however many environments wait for it."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from consumer.handling.errors import Transient, Unavailable
from consumer.handling.ports import Progress, Report
from consumer.provisioners.docker.engine import Engine
from consumer.provisioners.text import shortened

_REPORT_EVERY = 1.0
_MEGABYTE = 1_000_000


@dataclass(slots=True)
class _Layers:
    """How far a pull is, from the events of its layers."""

    present: dict[str, int] = field(default_factory=dict)
    total: dict[str, int] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)

    def take(self, layer: str, status: str, current: int | None, total: int | None) -> None:
        self.present.setdefault(layer, 0)
        if status == "Downloading" and current is not None:
            self.present[layer] = current
            self.total[layer] = total or current
        elif status in ("Pull complete", "Already exists"):
            self.done.add(layer)
            self.present[layer] = self.total.get(layer, 0)

    def __str__(self) -> str:
        layers = f"{len(self.done)} of {len(self.present)} layers"
        if not self.total:
            return layers
        return f"{layers}, {sum(self.present.values()) // _MEGABYTE} of {sum(self.total.values()) // _MEGABYTE} MB"


@dataclass(slots=True)
class _Pull:
    task: asyncio.Task[None]
    reports: list[Report] = field(default_factory=list)


class ImagePulls:
    """A pull goes on while anybody waits for it, and is told to each of them once a second."""

    def __init__(self, engine: Engine, timeout: float) -> None:
        self._engine = engine
        self._timeout = timeout
        self._running: dict[str, _Pull] = {}

    async def pull(self, image: str, report: Report) -> None:
        """Return when the engine has `image`. Raises `Permanent` if no registry will ever hand it out."""
        pull = self._running.get(image)
        if pull is None:
            pull = _Pull(asyncio.create_task(self._pull(image), name=f"pull-{image}"))
            self._running[image] = pull
            pull.task.add_done_callback(lambda _: self._forget(image, pull))
        pull.reports.append(report)
        report(Progress("pulling", shortened(image, 200)))
        try:
            await asyncio.wait([pull.task])
        finally:
            pull.reports.remove(report)
            if not pull.reports:
                pull.task.cancel()
        if pull.task.cancelled():
            raise Unavailable("The connection to the engine was closed.")
        pull.task.result()

    async def close(self) -> None:
        """Cancel what is under way."""
        tasks = [pull.task for pull in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _forget(self, image: str, pull: _Pull) -> None:
        if self._running.get(image) is pull:
            del self._running[image]
        if not pull.task.cancelled():
            pull.task.exception()  # seen: the last one who waited may be gone

    async def _pull(self, image: str) -> None:
        loop = asyncio.get_running_loop()
        layers, due = _Layers(), loop.time() + _REPORT_EVERY

        def take(event: Mapping[str, Any]) -> None:
            nonlocal due
            if (layer := event.get("id")) is None:
                return
            detail = event.get("progressDetail") or {}
            layers.take(layer, event.get("status", ""), detail.get("current"), detail.get("total"))
            if loop.time() >= due:
                due = loop.time() + _REPORT_EVERY
                self._tell(image, Progress("pulling", f"{shortened(image, 100)}: {layers}"))

        try:
            async with asyncio.timeout(self._timeout):
                await self._engine.pull(image, take)
        except TimeoutError as error:
            raise Transient("image_pull_failed", f"Pulling {shortened(image, 120)} takes too long.") from error

    def _tell(self, image: str, progress: Progress) -> None:
        for report in self._running[image].reports:
            report(progress)
