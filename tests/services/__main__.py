"""Services for developers and benchmarks.

eval "$(python -m tests.services up)"   start them, and let tests and benchmarks use them until they are ended
python -m tests.services status         what runs
python -m tests.services down           end it
python -m tests.services prepare        only install and fetch what a start needs

What the variables that `up` prints name already is used, and never started or ended. Kubernetes' programs are those of
the folder KUBEBUILDER_ASSETS; what it lacks is built from Go modules, once for this user (ten minutes, with Go 1.26).
"""

import argparse
import shlex

from tests.services.engine import DockerEngine, stop_engine
from tests.services.kafka_jvm import start_jvm
from tests.services.kubernetes import Kubernetes
from tests.services.missing import ServiceMissing, say
from tests.services.podman import PodmanEngine, stop_podman
from tests.services.prepare import SERVICES, prepare
from tests.services.registry import Registry
from tests.services.rundir import RunDir, end_stale, run_dirs


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.services", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["up", "down", "status", "prepare"])
    parser.add_argument("services", nargs="*", metavar="SERVICE", help=f"{', '.join(SERVICES)} (default: all)")
    parser.add_argument("--nodes", type=int, default=1, help="size of the Kafka cluster (default: 1)")
    arguments = parser.parse_args()
    services = arguments.services or list(SERVICES)
    if unknown := set(services) - set(SERVICES):
        parser.error(f"no such service: {', '.join(sorted(unknown))}")
    try:
        match arguments.command:
            case "up":
                for service in services:
                    _up(service, arguments.nodes)
            case "down":
                _down(services)
            case "status":
                _status()
            case "prepare":
                prepare(services)
    except ServiceMissing as missing:
        parser.exit(1, f"{missing}\n")


def _up(service: str, nodes: int) -> None:
    """Start a service unless it was started so before; print its address for the shell."""
    kept = [run_dir for run_dir in run_dirs() if run_dir.kept and run_dir.service == service]
    if kept:
        variable, address = kept[0].address
    elif service == "kafka":
        variable, address = "MOORAGE_TEST_KAFKA", start_jvm(nodes, {}, keep=True).bootstrap_servers
    elif service == "docker":
        variable, address = "DOCKER_HOST", DockerEngine.start(keep=True).url
    elif service == "podman":
        variable, address = "PODMAN_HOST", PodmanEngine.start(keep=True).url
    elif service == "kubernetes":
        variable, address = "MOORAGE_TEST_KUBECONFIG", str(Kubernetes.start(keep=True).kubeconfig)
    elif service == "kubelet":
        cluster = Kubernetes.start(runs_pods=True, keep=True)
        variable, address = "MOORAGE_TEST_KUBELET_KUBECONFIG", str(cluster.kubeconfig)
    elif service != "registry":  # nothing that runs
        prepare([service])
        return
    else:
        variable, address = "MOORAGE_TEST_REGISTRY", Registry.start(keep=True).address
    print(f"export {variable}={shlex.quote(address)}", flush=True)


def _down(services: list[str]) -> None:
    end_stale()
    for run_dir in run_dirs():
        if run_dir.kept and run_dir.service in services:
            _end(run_dir)
            say(f"{run_dir.service} has ended")


def _end(run_dir: RunDir) -> None:
    if run_dir.service == "docker":
        stop_engine(run_dir)
    elif run_dir.service == "podman":
        stop_podman(run_dir)
    else:
        run_dir.end()


def _status() -> None:
    for run_dir in run_dirs():
        whose = "kept" if run_dir.kept else "left by a killed run" if run_dir.stale else "of a test run"
        pids = ", ".join(str(process.pid) for process in run_dir.processes())
        print(f"{run_dir.service:<10} {whose:<22} {'='.join(run_dir.address):<50} pids {pids or 'none'}")


if __name__ == "__main__":
    main()
