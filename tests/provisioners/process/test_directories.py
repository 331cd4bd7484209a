"""The directories of the process runtime: nobody else's are touched, ours always go."""

import asyncio
import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from consumer.handling.errors import Permanent, Transient, Unavailable
from consumer.provisioners.process import ProcessOptions, ProcessProvisioner
from consumer.provisioners.process.store import Store
from tests.provisioners.harness import ignore
from tests.provisioners.process.harness import ProcessHarness, shell


async def test_what_a_program_closed_to_everybody_is_removed(harness: ProcessHarness) -> None:
    script = "mkdir -p a/b; touch a/b/c; ln -s /etc/passwd link; ln -s /etc dir; chmod 0 a/b a; exec sleep 1000"
    provisioner, spec = harness.provisioner(), harness.spec(command=shell(script))
    await provisioner.ensure(spec, ignore)

    await provisioner.remove(spec.key)

    assert await harness.leftovers() == []


@pytest.mark.parametrize("what", ["link_to_directory", "file", "dangling_link", "directory_with_alien_record"])
async def test_nothing_strange_under_our_name_is_followed_or_deleted(
    harness: ProcessHarness, what: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "precious").touch()
    spec, provisioner = harness.spec(), harness.provisioner()
    place = harness.directory(spec)
    place.parent.mkdir()
    match what:
        case "link_to_directory":
            place.symlink_to(elsewhere)
        case "dangling_link":
            place.symlink_to(elsewhere / "nothing")
        case "file":
            place.touch()
        case _:
            place.mkdir()
            (place / "environment.json").write_text('{"name": "x"}')

    with pytest.raises(Permanent) as error:
        await provisioner.ensure(spec, ignore)

    assert error.value.code == "conflict"
    assert await provisioner.list() == []
    assert await provisioner.remove(spec.key) is False
    assert (elsewhere / "precious").exists()
    await asyncio.to_thread(_delete, place)


async def test_an_environment_whose_key_was_lost_is_listed_and_findable_again(harness: ProcessHarness) -> None:
    provisioner, spec = harness.provisioner(), harness.spec(command=("sleep", "1000"))
    made = await provisioner.ensure(spec, ignore)
    (harness.root / harness.instance / ".keys" / spec.key).unlink()

    assert await provisioner.list() == [made]
    assert await provisioner.find(spec.key) == made


async def test_a_lock_that_is_held_too_long_is_worth_another_try(harness: ProcessHarness) -> None:
    impatient = ProcessProvisioner(ProcessOptions(harness.root, harness.instance, lock_timeout=0.05))
    store = Store(harness.root, harness.instance)
    await harness.provisioner().ensure(harness.spec(), ignore)
    with store.lock(harness.spec().key, 1), pytest.raises(Transient) as error:
        await impatient.remove(harness.spec().key)

    assert error.value.code == "runtime_busy"
    await impatient.close()


@pytest.mark.parametrize("instance", ["", "..", "a/b", ".hidden", "a\0b", "x" * 64])
def test_an_instance_that_is_no_directory_name_is_refused(instance: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="instance"):
        ProcessOptions(tmp_path, instance)


async def test_a_directory_that_resists_is_opened_up_and_deleted(
    harness: ProcessHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = harness.spec(command=shell("mkdir -p a/b; ln -s /etc a/c; chmod 0 a/b a; exec sleep 1000"))
    provisioner = harness.provisioner()
    await provisioner.ensure(spec, ignore)
    delete, attempts = shutil.rmtree, 0

    def resist_once(path: Path) -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 1:  # what everybody but root meets
            raise PermissionError(errno.EACCES, "no")
        delete(path)

    monkeypatch.setattr(shutil, "rmtree", resist_once)

    assert await provisioner.remove(spec.key) is True
    assert attempts == 2


async def test_a_name_that_is_taken_at_the_last_moment_is_a_conflict(
    harness: ProcessHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, put = harness.spec(), Path.rename

    def taken_first(draft: Path, place: Path) -> Path:
        if place.name == spec.name:
            place.touch()
        return put(draft, place)

    monkeypatch.setattr(Path, "rename", taken_first)

    with pytest.raises(Permanent) as error:
        await harness.provisioner().ensure(spec, ignore)

    assert error.value.code == "conflict"
    assert await harness.provisioner().remove(spec.key) is True, "the draft was left for a removal to find"
    harness.directory(spec).unlink()


@pytest.mark.parametrize(
    ("number", "expected", "code"),
    [
        (errno.EMFILE, Transient, "runtime_full"),
        (errno.ENOSPC, Transient, "runtime_full"),
        (errno.EROFS, Unavailable, "runtime_unavailable"),
        (errno.EXDEV, Transient, "runtime_error"),
    ],
)
async def test_an_error_never_passes_for_absence(
    harness: ProcessHarness, monkeypatch: pytest.MonkeyPatch, number: int, expected: Any, code: str
) -> None:
    provisioner, spec = harness.provisioner(), harness.spec(command=("sleep", "1000"))
    await provisioner.ensure(spec, ignore)

    def failing(_: Path) -> Path:
        raise OSError(number, "x", str(harness.root))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "readlink", failing)
        for call in (provisioner.find(spec.key), provisioner.remove(spec.key), provisioner.ensure(spec, ignore)):
            with pytest.raises(expected) as error:
                await call
            assert error.value.code == code
            assert str(harness.root) not in error.value.message

    assert await provisioner.find(spec.key) is not None


async def test_directories_that_belong_to_somebody_else_are_not_used(
    harness: ProcessHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    (harness.root / harness.instance).mkdir()
    with monkeypatch.context() as patched:
        patched.setattr(os, "geteuid", lambda: 12345)
        with pytest.raises(Unavailable):
            await harness.provisioner().ping()


async def test_a_link_in_place_of_our_directory_is_not_followed(harness: ProcessHarness) -> None:
    (harness.root / f"{harness.instance}-b").mkdir()
    (harness.root / harness.instance).symlink_to(harness.root / f"{harness.instance}-b")

    with pytest.raises(Unavailable):
        await harness.provisioner().ping()

    (harness.root / harness.instance).unlink()


async def test_directories_left_open_are_closed_to_others(harness: ProcessHarness) -> None:
    (harness.root / harness.instance).mkdir(mode=0o755)

    await harness.provisioner().ping()

    assert (harness.root / harness.instance).stat().st_mode & 0o777 == 0o700


def _delete(place: Path) -> None:
    """Fails if it is gone already."""
    if place.is_symlink() or place.is_file():
        place.unlink()
    else:
        (place / "environment.json").unlink()
        place.rmdir()
