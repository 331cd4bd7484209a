"""deploy/ and the Dockerfile cannot be run everywhere; what they refer to can be checked everywhere."""

import configparser
import re
from pathlib import Path

import pytest
import yaml

from consumer.settings import TERMINATION_GRACE

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())


def copied_into_the_image() -> list[str]:
    lines = re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
    return [source for line in lines for source in line.split()[:-1]]


@pytest.mark.parametrize("source", copied_into_the_image())
def test_what_the_dockerfile_copies_exists_and_is_not_kept_from_it(source: str) -> None:
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]

    assert (ROOT / source).exists()
    assert any(Path(source).match(pattern) for pattern in allowed)


def test_the_image_installs_locked_packages_only() -> None:
    installs = re.findall(r"pip install ([^&\n]+)", DOCKERFILE)

    assert installs
    for options in installs:
        assert "--require-hashes" in options or "--no-deps --no-build-isolation" in options


@pytest.mark.parametrize("name", ["build", "run", "demo", "dev"])
def test_locked_packages_have_hashes_and_name_no_place_to_get_them_from(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    packages = re.findall(r"^[\w.-]+==.+$", text, re.MULTILINE)

    assert packages
    assert all(package.rstrip().endswith("\\") for package in packages)
    assert "://" not in text


def test_what_two_lock_files_have_in_common_has_one_version() -> None:
    def versions(name: str) -> set[str]:
        return set(re.findall(r"^[\w.-]+==\S+", (ROOT / "requirements" / f"{name}.txt").read_text(), re.MULTILINE))

    assert versions("run") | versions("demo") | versions("build") <= versions("dev")


def test_every_way_to_run_gives_a_stopping_instance_its_time() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.read(ROOT / "deploy/systemd/moorage.service")

    assert COMPOSE["services"]["moorage"]["stop_grace_period"] == f"{TERMINATION_GRACE}s"
    assert unit["Service"]["TimeoutStopSec"] == str(TERMINATION_GRACE)


def test_people_run_the_kafka_that_the_tests_run() -> None:
    pom = (ROOT / "tests/services/kafka.pom.xml").read_text()
    container = (ROOT / "tests/services/kafka_container.py").read_text()
    image = COMPOSE["services"]["kafka"]["image"]

    assert f"<version>{image.removeprefix('apache/kafka:')}</version>" in pom
    assert f'"{image}"' in container
