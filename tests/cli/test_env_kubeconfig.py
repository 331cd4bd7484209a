"""Kubeconfigs are handed out to operators: to their terminal, or into a file that nobody else can read."""

import stat
from pathlib import Path

import pytest

from consumer.catalog.identity import reservation_key
from consumer.cli.console import Exit
from consumer.handling.errors import Unavailable
from consumer.provisioners.memory import MemoryProvisioner
from tests.cli.conftest import Invoke, Runtimes

TEXT = "apiVersion: v1\nkind: Config\n"


class Giving(MemoryProvisioner):
    """A cluster where one reservation has a kubeconfig."""

    async def kubeconfig(self, key: str) -> str | None:
        return TEXT if key == reservation_key("default", "1841") else None


class Silent(MemoryProvisioner):
    async def kubeconfig(self, key: str) -> str | None:
        raise Unavailable("The Kubernetes API cannot be reached.")


@pytest.fixture(autouse=True)
def cluster(runtimes: Runtimes) -> None:
    runtimes["kubernetes"] = Giving()


def test_it_is_written_as_it_is(invoke: Invoke) -> None:
    done = invoke("env", "kubeconfig", "1841")
    assert (done.exit_code, done.stdout, done.stderr) == (Exit.OK, TEXT, "")


@pytest.mark.parametrize("there", [False, True])
def test_a_file_of_it_is_for_its_owner_alone(invoke: Invoke, tmp_path: Path, there: bool) -> None:
    file = tmp_path / "kubeconfig"
    if there:
        file.write_text("another")
        file.chmod(0o644)

    done = invoke("env", "kubeconfig", "1841", "--output", file, *(["--force"] if there else []))

    assert (done.exit_code, done.stdout) == (Exit.OK, "")
    assert (file.read_text(), stat.S_IMODE(file.stat().st_mode)) == (TEXT, 0o600)
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_that_is_there_is_left_alone(invoke: Invoke, tmp_path: Path) -> None:
    file = tmp_path / "kubeconfig"
    file.write_text("another")

    done = invoke("env", "kubeconfig", "1841", "--output", file)

    assert (done.exit_code, file.read_text()) == (Exit.FAILED, "another")
    assert "--force" in done.stderr


def test_where_nothing_can_be_written_is_told(invoke: Invoke, tmp_path: Path) -> None:
    done = invoke("env", "kubeconfig", "1841", "--output", tmp_path / "nowhere" / "kubeconfig")

    assert done.exit_code == Exit.FAILED
    assert "cannot be written: No such file or directory" in done.stderr


def test_that_there_is_none_is_told_with_what_to_do(invoke: Invoke) -> None:
    done = invoke("env", "kubeconfig", "1842")

    assert (done.exit_code, done.stdout) == (Exit.NOT_FOUND, "")
    assert "kubernetes: {kubeconfig: true}" in done.stderr


def test_a_cluster_that_does_not_answer_is_not_taken_for_one_without(invoke: Invoke, runtimes: Runtimes) -> None:
    runtimes["kubernetes"] = Silent()

    done = invoke("env", "kubeconfig", "1841")

    assert (done.exit_code, done.stdout) == (Exit.FAILED, "")
    assert "kubernetes does not answer: The Kubernetes API cannot be reached." in done.stderr


def test_of_several_clusters_the_one_that_has_it_is_enough(invoke: Invoke, runtimes: Runtimes) -> None:
    runtimes["kubernetes@silent"] = Silent()

    assert invoke("env", "kubeconfig", "1841").stdout == TEXT
