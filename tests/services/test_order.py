"""Several workers share the tests so that none disturbs another, and leave nothing behind."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.services.rundir import RunDir

pytestmark = pytest.mark.timeout(150)  # each run of pytest loads all that there is, three times

CONFIG = Path(__file__).parents[2] / "pyproject.toml"
CONFTEST = "from tests.conftest import *\n"
WITH_ENGINE = """\
import pytest

@pytest.mark.docker
@pytest.mark.parametrize("number", range(3))
def test_engine(number): ...

@pytest.mark.parametrize("at", ["a@docker"])
def test_alone(at): ...
"""
SHARED = """\
import pytest, time

@pytest.fixture(scope="module", autouse=True)
def shared(): time.sleep(0.2)

@pytest.mark.parametrize("number", range(5))
def test_one(number): ...
"""
CRASH = """\
import os
from pathlib import Path

def test_crash(registry):
    Path("started").write_text(str(registry.run_dir.path))
    os._exit(9)
"""


def run(folder: Path, **files: str) -> str:
    """What pytest says of these test files when two workers run them."""
    for name, content in {"conftest": CONFTEST, **files}.items():
        (folder / f"{name}.py").write_text(content)
    workers = ["--numprocesses=2", "--max-worker-restart=0", "-v", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", f"--config-file={CONFIG}", f"--rootdir={folder}", *workers]
    environment = {name: value for name, value in os.environ.items() if name != "MOORAGE_TEST_REGISTRY"}
    done = subprocess.run([*command, folder], cwd=folder, env=environment, capture_output=True, text=True)
    return done.stdout + done.stderr


def workers(said: str, test: str) -> list[str]:
    return re.findall(rf"\[(gw\d)\].* PASSED \S*{test}", said)


def test_an_engine_and_what_a_file_shares_are_one_workers(tmp_path: Path) -> None:
    said = run(tmp_path, test_a=WITH_ENGINE, test_b=WITH_ENGINE, test_c=SHARED, test_d=SHARED)

    engines = workers(said, "test_engine")
    assert (len(engines), len(set(engines))) == (6, 1)
    for file in ("test_c", "test_d"):
        shared = workers(said, file)
        assert (len(shared), len(set(shared))) == (5, 1)
    assert len(workers(said, r"test_alone\[a@docker\]")) == 2


@pytest.mark.usefixtures("registry")  # whose programs are there then
def test_what_a_worker_that_crashed_had_started_is_ended(tmp_path: Path) -> None:
    assert "crashed" in run(tmp_path, test_a=CRASH)

    left = RunDir(Path((tmp_path / "started").read_text()))
    assert left.processes() == []
    assert not left.path.exists()
