"""What is not as asked for is told with what is ready: to people and machines, and again when it is told again."""

from dataclasses import replace
from typing import Any

import pytest

from consumer.handling.ports import Environment
from consumer.provisioners.memory import MemoryProvisioner
from tests.handling.stage import Stage, end, start

TEMPLATES = """
version: 1
templates:
  - name: linux
    runtime: docker
    image: nginx:1.27
    images: {on_violation: substitute}
"""
START = start(customParameters='{"image": "evil:1"}')
NOTE = 'The image "evil:1" is not allowed here: the environment runs nginx:1.27 instead.'


async def test_notes_are_in_the_result_and_in_the_notification() -> None:
    stage = Stage(TEMPLATES)

    told = await stage.deliver(START)

    assert told.results[0].notes == (NOTE,)
    assert told.notifications[0].message.endswith(NOTE)


async def test_a_repeated_result_has_the_same_notes() -> None:
    stage = Stage(TEMPLATES)
    first = await stage.deliver(START)

    again = await stage.deliver(START)

    assert again.results[0].notes == first.results[0].notes
    assert again.ids == first.ids[:1]


async def test_what_a_runtime_has_to_tell_comes_after_what_the_template_says(monkeypatch: pytest.MonkeyPatch) -> None:
    ensure = MemoryProvisioner.ensure

    async def ensure_with_a_note(*arguments: Any) -> Environment:
        return replace(await ensure(*arguments), notes=("Storage is not limited.",))

    monkeypatch.setattr(MemoryProvisioner, "ensure", ensure_with_a_note)

    assert (await Stage(TEMPLATES).deliver(START)).results[0].notes == (NOTE, "Storage is not limited.")


async def test_notes_end_with_the_environment() -> None:
    stage = Stage(TEMPLATES)
    await stage.deliver(START)

    told = await stage.deliver(end())

    assert (told.results[0].notes, stage.state.notes) == ((), ())
    assert b"notes" not in (told.on(told.publications[0].channel)[0].value or b"")
