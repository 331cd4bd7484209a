"""The process runtime conforms, and what is its own: processes, limits, ports, directories."""

import asyncio
import os
import signal
import socket
import stat
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from consumer.catalog.environment import AccessHints, Limits, Port
from consumer.handling.errors import Permanent, Transient
from consumer.handling.ports import Status
from consumer.provisioners.process import ProcessOptions, ProcessProvisioner
from consumer.provisioners.process.store import Store
from tests.provisioners.conformance import SurvivalConformance
from tests.provisioners.harness import UNTIL, WEB_PORT, fetch, ignore, until
from tests.provisioners.process_harness import ProcessHarness, ended, shell, supervisor_of


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[ProcessHarness]:
    harness = ProcessHarness(tmp_path)
    yield harness
    assert await harness.clean_up() == []


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
        spec = harness.spec(command=shell("trap '' TERM; while true; do sleep 1; done"))
        provisioner = harness.provisioner()
        await provisioner.ensure(spec, ignore)

        await provisioner.remove(spec.key)

        assert harness.processes() == []

    async def test_a_program_may_end_in_its_own_way(self, harness: ProcessHarness, tmp_path: Path) -> None:
        goodbye = tmp_path.parent / f"{tmp_path.name}-goodbye"
        script = f"trap 'sleep 0.2; echo bye > {goodbye}; exit' TERM; while true; do sleep 0.05; done"
        spec, provisioner = harness.spec(command=shell(script)), harness.provisioner()
        await provisioner.ensure(spec, ignore)

        await provisioner.remove(spec.key)

        assert goodbye.read_text() == "bye\n"

    async def test_a_crashed_program_is_started_again(self, harness: ProcessHarness) -> None:
        spec = harness.spec(command=shell("echo started >> starts; exec sleep 1000"))
        made = await harness.provisioner().ensure(spec, ignore)

        supervisor_of(made).children()[0].kill()

        await until(lambda: (harness.home(spec) / "starts").read_text().count("started") == 2)
        found = await harness.provisioner().find(spec.key)
        assert found is not None
        assert (found.status, found.native_id) == (Status.RUNNING, made.native_id)

    async def test_a_program_that_finished_is_left_finished(self, harness: ProcessHarness) -> None:
        spec = harness.spec(command=shell("echo started >> starts; sleep 0.3"))
        provisioner = harness.provisioner()
        made = await provisioner.ensure(spec, ignore)

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

        await until(lambda: ended(made), within=10)

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
            await harness.provisioner().ensure(harness.spec(command=command), ignore)

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
        options = ProcessOptions(harness.root, harness.instance, settle=30, start_timeout=-29.5)
        provisioner = ProcessProvisioner(options)

        with pytest.raises(Transient, match="in time"):
            await provisioner.ensure(harness.spec(command=("sleep", "1000")), ignore)

        assert await harness.leftovers() == []
        await provisioner.close()

    async def test_it_runs_in_a_directory_of_its_own_that_nobody_else_can_enter(self, harness: ProcessHarness) -> None:
        spec = harness.spec(working_dir="/srv/work", command=shell("pwd > where; umask > mask; exec sleep 1000"))
        await harness.provisioner().ensure(spec, ignore)

        assert (harness.home(spec) / "srv/work/where").read_text().strip() == str(harness.home(spec) / "srv/work")
        assert (harness.home(spec) / "srv/work/mask").read_text().strip() == "0077"
        for directory in (harness.root / harness.instance, harness.directory(spec), harness.home(spec)):
            assert stat.S_IMODE(directory.stat().st_mode) == 0o700

    async def test_limits_are_those_of_the_spec(self, harness: ProcessHarness) -> None:
        limits = Limits(memory_bytes=300_000_000, storage_bytes=5_000_000)
        spec = harness.spec(
            limits=limits, command=shell("cat /proc/self/limits > limits; nice > nice; exec sleep 1000")
        )
        await harness.provisioner().ensure(spec, ignore)

        shown = " ".join((harness.home(spec) / "limits").read_text().split())
        assert "Max data size 300000000 300000000" in shown
        assert "Max file size 5000000 5000000" in shown
        assert "Max open files 1024 1024" in shown
        assert "Max core file size 0 0" in shown
        assert int((harness.home(spec) / "nice").read_text()) == os.nice(0) + 5

    async def test_output_is_kept_up_to_a_bound(self, harness: ProcessHarness) -> None:
        spec = harness.spec(command=shell("yes 0123456789abcdef | head -c 3000000; echo end; exec sleep 1000"))
        await harness.provisioner().ensure(spec, ignore)
        directory = harness.directory(spec)

        await until(lambda: any(b"end" in log.read_bytes() for log in directory.glob("output.log*")))

        assert sum(path.stat().st_size for path in directory.glob("output.log*")) < 700_000


class TestPorts:
    async def test_a_program_may_use_the_socket_it_inherits(self, harness: ProcessHarness) -> None:
        script = (
            "import os, socket\n"
            "s = socket.socket(fileno=int(os.environ['LISTEN_FD'])); s.listen()\n"
            "while True:\n"
            "    c, _ = s.accept(); c.recv(999); c.sendall(b'HTTP/1.0 200 OK\\r\\n\\r\\nmine'); c.close()\n"
        )
        made = await harness.provisioner().ensure(harness.spec(command=(sys.executable, "-c", script)), ignore)

        assert made.access.url is not None
        assert await fetch(made.access.url) == "mine"

    async def test_every_port_has_a_variable(self, harness: ProcessHarness) -> None:
        ports = (Port(22), Port(WEB_PORT), Port(53, protocol="udp"))
        made = await harness.provisioner().ensure(
            harness.spec(ports=ports, access=AccessHints(WEB_PORT, 22, "alice")), ignore
        )

        seen = await harness.variables(made)
        outside = {(port.port, port.protocol): str(port.host_port) for port in made.access.ports}
        assert seen["PORT"] == seen["PORT_8080"] == outside[WEB_PORT, "tcp"]
        assert seen["PORT_22"] == outside[22, "tcp"]
        assert seen["PORT_53_UDP"] == outside[53, "udp"]
        assert made.access.ssh == f"ssh -p {outside[22, 'tcp']} alice@127.0.0.1"

    async def test_a_port_in_use_is_worth_another_try(self, harness: ProcessHarness) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            spec = harness.spec(ports=(Port(WEB_PORT, host=taken.getsockname()[1]),))

            with pytest.raises(Transient) as error:
                await harness.provisioner().ensure(spec, ignore)

        assert error.value.code == "port_taken"
        assert await harness.leftovers() == []

    async def test_a_port_reserved_for_another_of_ours_is_in_use(self, harness: ProcessHarness, free_port: int) -> None:
        provisioner = harness.provisioner()
        sleeping: dict[str, Any] = {"ports": (Port(WEB_PORT, host=free_port),), "command": ("sleep", "1000")}
        await provisioner.ensure(harness.spec("r-1", **sleeping), ignore)

        with pytest.raises(Transient) as error:
            await provisioner.ensure(harness.spec("r-2", **sleeping), ignore)

        assert error.value.code == "port_taken"

    async def test_one_that_lost_its_port_gets_another(self, harness: ProcessHarness) -> None:
        provisioner, spec = harness.provisioner(), harness.spec()
        made = await provisioner.ensure(spec, ignore)
        await harness.stop(made)
        with socket.socket() as taken:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(("127.0.0.1", made.access.ports[0].host_port))
            taken.listen()

            again = await provisioner.ensure(spec, ignore)

            assert again.access.ports[0].host_port != made.access.ports[0].host_port
            await harness.variables(again)

    async def test_another_bind_and_public_host(self, harness: ProcessHarness) -> None:
        options = ProcessOptions(harness.root, harness.instance, bind_host="::1", public_host="moorage.example.org")
        provisioner = ProcessProvisioner(options)

        made = await provisioner.ensure(harness.spec(command=()), ignore)

        port = made.access.ports[0].host_port
        assert made.access.url == f"http://moorage.example.org:{port}"
        assert "r-1" in await fetch(f"http://[::1]:{port}")
        await provisioner.close()


class TestDirectories:
    async def test_what_a_program_closed_to_everybody_is_removed(self, harness: ProcessHarness) -> None:
        script = "mkdir -p a/b; touch a/b/c; ln -s /etc/passwd link; ln -s /etc dir; chmod 0 a/b a; exec sleep 1000"
        provisioner, spec = harness.provisioner(), harness.spec(command=shell(script))
        await provisioner.ensure(spec, ignore)

        await provisioner.remove(spec.key)

        assert await harness.leftovers() == []

    @pytest.mark.parametrize("what", ["link_to_directory", "file", "dangling_link", "directory_with_alien_record"])
    async def test_nothing_strange_under_our_name_is_followed_or_deleted(
        self, harness: ProcessHarness, what: str, tmp_path_factory: pytest.TempPathFactory
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

    async def test_an_environment_whose_key_was_lost_is_listed_and_findable_again(
        self, harness: ProcessHarness
    ) -> None:
        provisioner, spec = harness.provisioner(), harness.spec(command=("sleep", "1000"))
        made = await provisioner.ensure(spec, ignore)
        (harness.root / harness.instance / ".keys" / spec.key).unlink()

        assert await provisioner.list() == [made]
        assert await provisioner.find(spec.key) == made

    async def test_a_lock_that_is_held_too_long_is_worth_another_try(self, harness: ProcessHarness) -> None:
        impatient = ProcessProvisioner(ProcessOptions(harness.root, harness.instance, lock_timeout=0.05))
        store = Store(harness.root, harness.instance)
        await harness.provisioner().ensure(harness.spec(), ignore)
        with store.lock(harness.spec().key, 1), pytest.raises(Transient) as error:
            await impatient.remove(harness.spec().key)

        assert error.value.code == "runtime_busy"
        await impatient.close()

    @pytest.mark.parametrize("instance", ["", "..", "a/b", ".hidden", "a\0b", "x" * 64])
    def test_an_instance_that_is_no_directory_name_is_refused(self, instance: str, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="instance"):
            ProcessOptions(tmp_path, instance)


class TestPage:
    async def test_it_tells_whose_the_environment_is_and_until_when(self, harness: ProcessHarness) -> None:
        made = await harness.provisioner().ensure(harness.spec("<script>alert(1)</script>", command=()), ignore)

        assert made.access.url is not None
        page = await fetch(made.access.url)
        assert "gpu-01" in page
        assert "Alice Ö&#x27;Hara &lt;b&gt;" in page
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
        assert UNTIL.isoformat() in page
        assert "<script" not in page

    async def test_it_follows_the_end_of_the_reservation(self, harness: ProcessHarness) -> None:
        provisioner, spec = harness.provisioner(), harness.spec(command=())
        made = await provisioner.ensure(spec, ignore)
        later = UNTIL + timedelta(days=1)

        again = await provisioner.ensure(replace(spec, expires_at=later), ignore)

        assert (again.native_id, again.expires_at) == (made.native_id, later)
        assert made.access.url is not None
        assert later.isoformat() in await fetch(made.access.url)

    async def test_it_has_a_port_and_a_url_even_if_the_template_names_none(self, harness: ProcessHarness) -> None:
        spec = harness.spec(command=(), ports=(), access=AccessHints())

        made = await harness.provisioner().ensure(spec, ignore)

        assert [port.port for port in made.access.ports] == [80]
        assert made.access.url is not None
        assert "gpu-01" in await fetch(made.access.url)

    async def test_it_answers_within_the_blink_of_an_eye(self, harness: ProcessHarness) -> None:
        provisioner, clock = harness.provisioner(), asyncio.get_running_loop().time
        await provisioner.ping()
        began = clock()

        made = await provisioner.ensure(harness.spec(command=()), ignore)
        assert made.access.url is not None
        await fetch(made.access.url)

        assert clock() - began < 1.0, "about 0.07 s on an idle machine"

    async def test_a_slow_visitor_and_a_crowd_keep_nobody_from_it(self, harness: ProcessHarness) -> None:
        made = await harness.provisioner().ensure(harness.spec(command=()), ignore)
        port = made.access.ports[0].host_port
        crowd = [await asyncio.open_connection("127.0.0.1", port) for _ in range(60)]
        for _, writer in crowd:
            writer.write(b"GET / HT")

        assert made.access.url is not None
        assert "gpu-01" in await fetch(made.access.url)

        for _, writer in crowd:
            writer.close()
            await writer.wait_closed()

    async def test_the_supervisor_brings_it_back(self, harness: ProcessHarness) -> None:
        made = await harness.provisioner().ensure(harness.spec(command=()), ignore)
        supervisor_of(made).children()[0].send_signal(signal.SIGSEGV)

        assert made.access.url is not None
        assert "gpu-01" in await fetch(made.access.url)


def _delete(place: Path) -> None:
    """Fails if it is gone already."""
    if place.is_symlink() or place.is_file():
        place.unlink()
    else:
        (place / "environment.json").unlink()
        place.rmdir()
