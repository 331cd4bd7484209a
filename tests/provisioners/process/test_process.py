"""The process runtime conforms, and what is its own: processes, limits, ports, directories."""

import asyncio
import os
import stat
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from consumer.catalog.environment import EnvironmentSpec, Limits, Readiness
from consumer.handling.errors import Permanent, Transient
from consumer.handling.ports import Progress, Report, Status
from tests.provisioners.conformance import SurvivalConformance
from tests.provisioners.harness import WEB_PORT, fetch, ignore, until
from tests.provisioners.process.harness import ProcessHarness, ended, shell, supervisor_of


class TestConformance(SurvivalConformance):
    """All of it."""


class TestProcesses:
    async def test_no_process_is_ever_a_child_of_ours(self, harness: ProcessHarness) -> None:
        made = await harness.provisioner().ensure(harness.spec(), ignore)

        supervisor = supervisor_of(made)
        assert supervisor.pid not in {child.pid for child in psutil.Process().children(recursive=True)}
        assert os.getsid(supervisor.pid) == supervisor.pid

    async def test_who_left_the_process_group_is_ended_too(self, harness: ProcessHarness) -> None:
        spec = harness.spec(
            command=shell("setsid sleep 1000 & setsid sh -c 'sleep 1001 & sleep 1002' & exec sleep 1003")
        )
        provisioner = harness.provisioner()
        await provisioner.ensure(spec, ignore)
        await until(lambda: sum(each.name() == "sleep" for each in harness.processes()) == 4)

        await provisioner.remove(spec.key)

        assert harness.processes() == []

    async def test_who_threw_the_variables_away_is_ended_too(self, harness: ProcessHarness) -> None:
        spec = harness.spec(command=shell("env -i sleep 1000 & exec env -i sleep 1001"))
        provisioner = harness.provisioner()
        await provisioner.ensure(spec, ignore)

        await provisioner.remove(spec.key)

        assert harness.processes() == []

    async def test_who_ignores_sigterm_is_killed(self, harness: ProcessHarness) -> None:
        spec = harness.spec(command=shell("trap '' TERM; echo deaf > deaf; while true; do sleep 1; done"))
        provisioner = harness.provisioner()
        await provisioner.ensure(spec, ignore)
        await harness.written(spec, "deaf")

        await provisioner.remove(spec.key)

        assert harness.processes() == []

    async def test_a_program_may_end_in_its_own_way(self, harness: ProcessHarness, tmp_path: Path) -> None:
        goodbye = tmp_path.parent / f"{tmp_path.name}-goodbye"
        script = f"trap 'sleep 0.2; echo bye > {goodbye}; exit' TERM; echo up > up; while true; do sleep 0.05; done"
        spec, provisioner = harness.spec(command=shell(script)), harness.provisioner_with(stop_timeout=30)
        await provisioner.ensure(spec, ignore)
        await harness.written(spec, "up")

        await provisioner.remove(spec.key)

        assert goodbye.read_text() == "bye\n"

    async def test_a_crashed_program_is_started_again(self, harness: ProcessHarness) -> None:
        spec = harness.spec(command=shell("echo started >> starts; exec sleep 1000"))
        made = await harness.provisioner().ensure(spec, ignore)
        await harness.written(spec, "starts")

        supervisor_of(made).children()[0].kill()

        await until(lambda: (harness.home(spec) / "starts").read_text().count("started") == 2)
        found = await harness.provisioner().find(spec.key)
        assert found is not None
        assert (found.status, found.native_id) == (Status.RUNNING, made.native_id)

    async def test_a_program_that_finished_is_left_finished(self, harness: ProcessHarness) -> None:
        spec = harness.spec(command=shell("echo started >> starts; until [ -e enough ]; do sleep 0.05; done"))
        provisioner = harness.provisioner()
        made = await provisioner.ensure(spec, ignore)

        (harness.home(spec) / "enough").touch()
        await until(lambda: ended(made))

        found = await provisioner.find(spec.key)
        assert found is not None
        assert found.status is Status.STOPPED
        assert (harness.home(spec) / "starts").read_text() == "started\n"

    async def test_when_the_supervisor_alone_dies_there_is_still_one_environment(self, harness: ProcessHarness) -> None:
        provisioner, spec = harness.provisioner(), harness.spec()
        made = await provisioner.ensure(spec, ignore)
        orphan = supervisor_of(made).children()[0]
        supervisor_of(made).kill()
        await until(lambda: ended(made))

        again = await provisioner.ensure(spec, ignore)

        assert not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE
        assert again.access == made.access
        await harness.variables(again)

    async def test_a_supervisor_whose_directory_is_gone_ends_itself(self, harness: ProcessHarness) -> None:
        made = await harness.provisioner().ensure(harness.spec(), ignore)
        (harness.directory(harness.spec()) / "leader.json").unlink()

        await until(lambda: ended(made))

        assert harness.processes() == []

    async def test_a_recycled_pid_is_not_taken_for_the_environment(self, harness: ProcessHarness) -> None:
        provisioner, spec = harness.provisioner(), harness.spec()
        made = await provisioner.ensure(spec, ignore)
        await harness.stop(made)
        bystander = await asyncio.create_subprocess_exec("sleep", "1000", start_new_session=True)
        leader = harness.directory(spec) / "leader.json"
        leader.write_text(leader.read_text().replace(made.native_id, str(bystander.pid)))

        found = await provisioner.find(spec.key)
        await provisioner.remove(spec.key)

        assert found is not None
        assert found.status is Status.STOPPED
        assert bystander.returncode is None
        assert psutil.Process(bystander.pid).status() != psutil.STATUS_ZOMBIE
        bystander.kill()
        await bystander.wait()

    @pytest.mark.parametrize("damaged", [b"", b"{}", b"[1]", b"null", b'{"pid": "x", "mark": 1}', b"\xff\xfe"])
    async def test_a_damaged_leader_file_means_stopped(self, harness: ProcessHarness, damaged: bytes) -> None:
        provisioner, spec = harness.provisioner(), harness.spec(command=shell("exec sleep 1000"))
        made = await provisioner.ensure(spec, ignore)
        (harness.directory(spec) / "leader.json").write_bytes(damaged)

        found = await provisioner.find(spec.key)
        again = await provisioner.ensure(spec, ignore)

        assert found is not None
        assert found.status is Status.STOPPED
        assert again.native_id != made.native_id
        assert ended(made), "two lived at once"


class TestStart:
    @pytest.mark.parametrize(
        ("command", "message"),
        [
            (("no-such-program",), "No such file"),
            (("/etc/passwd",), "Permission denied"),
            (shell("echo 'bad \x1b[31mthing'; echo 'in /secret/path' >&2; exit 3"), "exit code 3.*bad thing | in …"),
            (("true",), "exit code 0"),
            (shell("kill -9 $$"), "signal 9"),
        ],
    )
    async def test_a_program_that_does_not_start_says_why_and_leaves_nothing(
        self, harness: ProcessHarness, command: tuple[str, ...], message: str
    ) -> None:
        with pytest.raises(Permanent, match=message) as error:
            await harness.provisioner_with(settle=30).ensure(harness.spec(command=command), ignore)

        assert error.value.code == "exited_at_start"
        assert str(harness.root) not in error.value.message
        assert "/secret" not in error.value.message
        assert await harness.leftovers() == []

    @pytest.mark.parametrize(
        "changes",
        [
            {"name": "../evil"},
            {"name": ".."},
            {"name": ".keys"},
            {"name": ""},
            {"key": "../evil"},
            {"working_dir": "../../evil"},
            {"environment": {"A=B": "1"}},
            {"environment": {"A": "nul\0"}},
            {"environment": {"A": "\ud800"}},
            {"command": ("sleep", "1\0")},
        ],
    )
    async def test_what_could_not_be_started_or_only_elsewhere_is_refused(
        self, harness: ProcessHarness, changes: dict[str, Any]
    ) -> None:
        with pytest.raises(Permanent) as error:
            await harness.provisioner().ensure(harness.spec(**changes), ignore)

        assert error.value.code == "invalid_spec"

    async def test_a_start_that_hangs_is_ended(self, harness: ProcessHarness) -> None:
        provisioner = harness.provisioner_with(settle=30, start_timeout=-29.5)

        with pytest.raises(Transient, match="in time"):
            await provisioner.ensure(harness.spec(command=("sleep", "1000")), ignore)

        assert await harness.leftovers() == []

    async def test_it_runs_in_a_directory_of_its_own_that_nobody_else_can_enter(self, harness: ProcessHarness) -> None:
        spec = harness.spec(working_dir="/srv/work", command=shell("pwd > where; umask > mask; exec sleep 1000"))
        await harness.provisioner().ensure(spec, ignore)

        assert (await harness.written(spec, "srv/work/where")).strip() == str(harness.home(spec) / "srv/work")
        assert (await harness.written(spec, "srv/work/mask")).strip() == "0077"
        for directory in (harness.root / harness.instance, harness.directory(spec), harness.home(spec)):
            assert stat.S_IMODE(directory.stat().st_mode) == 0o700

    async def test_limits_are_those_of_the_spec(self, harness: ProcessHarness) -> None:
        limits = Limits(memory_bytes=300_000_000, storage_bytes=5_000_000)
        spec = harness.spec(
            limits=limits, command=shell("cat /proc/self/limits > limits; nice > nice; exec sleep 1000")
        )
        await harness.provisioner().ensure(spec, ignore)

        niceness = int(await harness.written(spec, "nice"))
        shown = " ".join((harness.home(spec) / "limits").read_text().split())
        assert "Max data size 300000000 300000000" in shown
        assert "Max file size 5000000 5000000" in shown
        assert "Max open files 1024 1024" in shown
        assert "Max core file size 0 0" in shown
        assert niceness == os.nice(0) + 5

    async def test_output_is_kept_up_to_a_bound(self, harness: ProcessHarness) -> None:
        spec = harness.spec(command=shell("yes 0123456789abcdef | head -c 3000000; echo end; exec sleep 1000"))
        await harness.provisioner().ensure(spec, ignore)
        directory = harness.directory(spec)

        await until(lambda: any(b"end" in log.read_bytes() for log in directory.glob("output.log*")))

        assert sum(path.stat().st_size for path in directory.glob("output.log*")) < 700_000


UNTIL_LET_GO = "until [ -e go ]; do sleep 0.05; done"


def letting_go(harness: ProcessHarness, spec: EnvironmentSpec, steps: list[Progress]) -> Report:
    """Collects the steps of a start whose program does `UNTIL_LET_GO`, and has it go on once it is waited for."""

    def report(step: Progress) -> None:
        steps.append(step)
        if step.stage == "waiting":
            (harness.home(spec) / "go").touch()

    return report


class TestReadiness:
    async def test_a_server_that_needs_a_while_is_waited_for(self, harness: ProcessHarness) -> None:
        command = shell(f"{UNTIL_LET_GO}; exec {sys.executable} -m http.server --bind 127.0.0.1 $PORT")
        spec = harness.spec(command=command, ready=Readiness(WEB_PORT, "/"))
        steps: list[Progress] = []

        made = await harness.provisioner().ensure(spec, letting_go(harness, spec, steps))

        assert made.access.url is not None
        assert "Directory listing" in await fetch(made.access.url, within=0)
        assert steps[-1].stage == "waiting"

    async def test_one_that_never_answers_is_removed_and_its_last_words_are_told(self, harness: ProcessHarness) -> None:
        command = shell("echo token=abcdef in /etc/lab; exec sleep 600")
        spec = harness.spec(command=command, ready=Readiness(WEB_PORT, within=3.0))

        with pytest.raises(Permanent) as error:
            await harness.provisioner().ensure(spec, ignore)

        assert error.value.code == "not_ready"
        assert error.value.message == f"Nothing answered on port {WEB_PORT} within 3 s. It said: token=… in …"
        assert await harness.provisioner().find(spec.key) is None

    async def test_one_that_ends_meanwhile_is_not_waited_for(self, harness: ProcessHarness) -> None:
        command = shell(f"{UNTIL_LET_GO}; echo done; exit 0")
        spec = harness.spec(command=command, ready=Readiness(WEB_PORT, within=300))

        with pytest.raises(Permanent, match=r"ended before it was ready\. It said: done"):
            await harness.provisioner().ensure(spec, letting_go(harness, spec, []))
