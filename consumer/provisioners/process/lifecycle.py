"""An environment's whole life on the process runtime, one blocking call each; run in threads.

Every call that changes something holds the lock of its key from looking to done, so two threads, or two Moorages of
one instance, cannot both start what neither found.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime

from consumer.catalog.environment import EnvironmentSpec
from consumer.catalog.identity import EXPIRES_AT
from consumer.handling.errors import Transient
from consumer.handling.ports import Environment, Status
from consumer.handling.usage import Usage
from consumer.provisioners.access import build_access, hints_of, reachable_host
from consumer.provisioners.labels import environment_of, labels_of, refuse_other_spec
from consumer.provisioners.process.errors import os_errors_decided
from consumer.provisioners.process.launch import launch
from consumer.provisioners.process.options import ProcessOptions
from consumer.provisioners.process.processes import alive, end_family
from consumer.provisioners.process.program import check, has_page, page_labels, ports_of, program_of
from consumer.provisioners.process.record import Record
from consumer.provisioners.process.sockets import bound
from consumer.provisioners.process.store import Store
from consumer.provisioners.process.usage import usage_of_family


class Lifecycle:
    def __init__(self, options: ProcessOptions) -> None:
        self._options = options
        self._store = Store(options.root, options.instance)
        self._host = reachable_host(options.bind_host, options.public_host)

    def ensure(self, spec: EnvironmentSpec, abandoned: Callable[[], bool]) -> Environment:
        """Get or create. When the caller has `abandoned` it by the time it is our turn, nothing is made."""
        check(spec)
        with self._locked(spec.key) as lock_fd:
            # A removal that came after the cancellation may have had its turn before us.
            if abandoned():
                raise Transient("runtime_busy", "Nobody waits for this environment any more.")
            record = self._store.read(spec.key)
            if record is not None and record.dying:
                # Whoever began to remove it holds no lock any more: it died, and we finish its work.
                self._remove(record)
                record = None
            if record is None:
                return self._create(spec, lock_fd)
            refuse_other_spec(record.labels, spec)
            record = self._with_end(record, spec.expires_at)
            if alive(leader := self._store.leader(record)):
                return self._shown(record)
            # The supervisor may have been killed alone: what it left running holds the ports.
            end_family(record.key, leader, self._options.stop_timeout)
            return self._start(record, spec, lock_fd)

    def find(self, key: str) -> Environment | None:
        with os_errors_decided():
            self._store.prepare()
            record = self._store.read(key)
            return self._shown(record) if record is not None else None

    def extend(self, key: str, until: datetime) -> bool:
        """Write down until when it goes on; False when there is none, or it is on its way out."""
        with self._locked(key):
            record = self._store.read(key)
            if record is None or record.dying:
                return False
            self._with_end(record, until)
            return True

    def remove(self, key: str) -> bool:
        with self._locked(key):
            if record := self._store.read(key):
                self._remove(record)
                return True
            return self._store.clear_leftovers(key)

    def list(self) -> list[Environment]:
        with os_errors_decided():
            self._store.prepare()
            return [self._shown(record) for record in self._store.read_all()]

    def usage(self, key: str) -> Usage | None:
        """What the environment's processes use together; None when its supervisor does not run."""
        with os_errors_decided():
            self._store.prepare()
            record = self._store.read(key)
            leader = self._store.leader(record) if record is not None else None
            return usage_of_family(key, leader) if alive(leader) else None

    def last_output(self, key: str) -> str:
        """The end of what the environment's program wrote; empty when that cannot be had."""
        with os_errors_decided():
            record = self._store.read(key)
            return self._store.last_output(record) if record is not None else ""

    def ping(self) -> None:
        """Raise Unavailable unless the directories can be written to."""
        with os_errors_decided():
            self._store.prepare()
        with self._locked("ping"):
            return

    @contextmanager
    def _locked(self, key: str) -> Iterator[int]:
        with os_errors_decided():
            self._store.prepare()
            with self._store.lock(key, self._options.lock_timeout) as lock_fd:
                try:
                    yield lock_fd
                finally:
                    if self._store.read(key) is None:
                        self._store.forget_lock(key)

    def _create(self, spec: EnvironmentSpec, lock_fd: int) -> Environment:
        labels = labels_of(spec, self._options.instance) | page_labels(spec)
        record = Record(spec.name, labels, spec.image)
        self._store.create(record)
        try:
            return self._start(record, spec, lock_fd)
        except Exception:
            self._remove(record)
            raise

    def _start(self, record: Record, spec: EnvironmentSpec, lock_fd: int) -> Environment:
        options, directory = self._options, self._store.directory(record)
        page = has_page(spec)
        with bound(options.bind_host, ports_of(spec), before=record.ports, listening=page) as ports:
            record = replace(record, ports=tuple(port.port for port in ports))
            # Written before the start: a crash from here on leaves something that can be found and ended.
            self._store.update(record)
            self._refuse_shared_ports(record, spec)
            launch(
                program_of(spec, directory, ports, options.open_files),
                directory,
                sockets=[port.socket.fileno() for port in ports],
                lock_fd=lock_fd,
                nice=options.nice,
                settle=0.0 if page else options.settle,
                timeout=options.start_timeout if spec.start_timeout is None else spec.start_timeout,
            )
        return self._shown(record)

    def _refuse_shared_ports(self, record: Record, spec: EnvironmentSpec) -> None:
        """A port asked for may be reserved by another of ours whose program does not listen yet: binding works then."""
        wanted = {(port.host, port.protocol) for port in spec.ports if port.host}
        if not wanted:
            return
        for other in self._store.read_all():
            if other.key != record.key and wanted & {(port.host_port, port.protocol) for port in other.ports}:
                raise Transient("port_taken", "A port of the host that this environment needs is in use.")

    def _remove(self, record: Record) -> None:
        dying = self._store.mark_dying(record)
        end_family(dying.key, self._store.leader(dying), self._options.stop_timeout)
        self._store.discard(dying)

    def _with_end(self, record: Record, until: datetime) -> Record:
        """`record` with the reservation's present end, which the page shows."""
        end = {EXPIRES_AT: until.isoformat()}
        if end.items() <= record.labels.items():
            return record
        record = replace(record, labels=dict(record.labels) | end)
        self._store.update(record)
        return record

    def _shown(self, record: Record) -> Environment:
        leader = self._store.leader(record)
        running = Status.RUNNING if alive(leader) else Status.STOPPED
        return environment_of(
            record.labels,
            runtime="process",
            name=record.name,
            native_id=str(leader.pid) if leader is not None else record.name,
            status=Status.DYING if record.dying else running,
            access=build_access(self._host, record.ports, hints_of(record.labels)),
            image=record.image,
        )
