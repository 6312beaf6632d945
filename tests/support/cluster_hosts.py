"""A cluster of several hosts on one machine: a network namespace, a host name and a working folder for each.

The hosts hang on a bridge that stands in a namespace of its own, so nothing of the machine's network is touched. Ray
runs on them with token authentication. Everything is taken down by its process ids and its names.
"""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
HEAD_PORT = 6379
SUBNET = "10.213.77"


def lacking() -> str | None:
    """Why no hosts can be made here, if so."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "network namespaces take Linux and root"
    if not shutil.which("ip"):
        return "there is no `ip`; apt install iproute2"
    name = f"cur{os.getpid()}p"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"no network namespace can be made: {made.stderr.strip()}"
    tried = subprocess.run(
        ["ip", "netns", "exec", name, "unshare", "--uts", "--mount", "ip", "link", "add", "br0", "type", "bridge"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    subprocess.run(["ip", "netns", "del", name], check=False)
    return f"no bridge can be made in a namespace: {tried.stderr.strip()}" if tried.returncode else None


@dataclass
class Host:
    """One host: its namespace, its address, the folder that its processes work in."""

    namespace: str
    name: str
    address: str
    folder: Path
    processes: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def pids(self) -> list[int]:
        """Everything that runs on it."""
        said = subprocess.run(["ip", "netns", "pids", self.namespace], capture_output=True, text=True, check=False)
        return [int(word) for word in said.stdout.split()]

    def kill(self) -> None:
        """Cut the power."""
        deadline = time.monotonic() + 20
        while (pids := self.pids()) and time.monotonic() < deadline:
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.1)
        for process in self.processes:
            process.wait(20)


@dataclass
class Hosts:
    """The hosts of a cluster; the first is its head."""

    folder: Path
    token: str = field(default_factory=lambda: secrets.token_hex(32))
    hosts: list[Host] = field(default_factory=list)

    @property
    def address(self) -> str:
        """Of the head."""
        return f"{self.hosts[0].address}:{HEAD_PORT}"

    @property
    def hub(self) -> str:
        """The namespace of the bridge."""
        return f"cur{os.getpid()}hub"

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "CURATE_"))}
        return kept | {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.token,
            "RAY_USAGE_STATS_ENABLED": "0",
            "PYTHONPATH": str(ROOT),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        }

    def add(self, *, hidden: Sequence[Path] = ()) -> Host:
        """Start another host, and Ray on it.

        Args:
            hidden: folders that are empty as seen from it.
        """
        number = len(self.hosts) + 1
        name = f"host-{number}"
        host = Host(f"cur{os.getpid()}h{number}", name, f"{SUBNET}.{number}", self.folder / name)
        host.folder.mkdir()
        self.hosts.append(host)
        ip("netns", "add", host.namespace)
        peer = ("peer", "name", f"h{number}", "netns", self.hub)
        ip("link", "add", "eth0", "netns", host.namespace, "type", "veth", *peer)
        ip("-n", self.hub, "link", "set", f"h{number}", "master", "br0", "up")
        ip("-n", host.namespace, "address", "add", f"{host.address}/24", "dev", "eth0")
        ip("-n", host.namespace, "link", "set", "eth0", "up")
        ip("-n", host.namespace, "link", "set", "lo", "up")
        ip("-n", host.namespace, "route", "add", "default", "dev", "eth0")  # by which Ray finds its own address
        ray = [sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start", "--block"]
        ray += [f"--node-ip-address={host.address}", "--num-cpus=1", "--object-store-memory=100000000"]
        ray += ["--disable-usage-stats"]
        if number == 1:
            ray += ["--head", f"--port={HEAD_PORT}", "--include-dashboard=false", f"--temp-dir=/tmp/cur{os.getpid()}"]
        else:
            ray += [f"--address={self.address}"]
        covered = "".join(f"mount -t tmpfs none '{folder}' && " for folder in hidden)
        script = f'hostname {host.name} && {covered}exec "$@"'
        with (host.folder / "ray.log").open("wb") as log:
            apart = ["ip", "netns", "exec", host.namespace, "unshare", "--uts", "--mount", "sh", "-c", script, "sh"]
            process = subprocess.Popen([*apart, *ray], cwd=host.folder, env=self.environment(), stdout=log, stderr=log)
        host.processes.append(process)
        return host

    def wait(self, count: int, timeout_s: float = 120.0) -> None:
        """Until so many hosts belong to the cluster."""
        code = (
            "import sys, time, ray\n"
            "ray.init(address=sys.argv[1], log_to_driver=False)\n"
            "while sum(node['Alive'] for node in ray.nodes()) < int(sys.argv[2]): time.sleep(0.5)\n"
        )
        deadline = time.monotonic() + timeout_s
        while True:
            asked = self.command([sys.executable, "-c", code, self.address, str(count)])
            try:
                _, said = asked.communicate(timeout=max(1.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                asked.kill()
                raise RuntimeError("; ".join((h.folder / "ray.log").read_text()[-800:] for h in self.hosts)) from None
            if asked.returncode == 0:
                return
            if time.monotonic() > deadline:
                raise RuntimeError(said.decode()[-2000:])
            time.sleep(1.0)

    def command(self, words: Sequence[str], cwd: Path | None = None) -> "subprocess.Popen[bytes]":
        """A command on the head's host, in a folder that is no other host's."""
        full = ["ip", "netns", "exec", self.hosts[0].namespace, *words]
        folder = cwd or self.folder
        return subprocess.Popen(
            full, cwd=folder, env=self.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )


def ip(*words: str) -> None:
    """`ip`, or an error with what it said."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr.strip()}")


@contextmanager
def cluster(folder: Path, count: int) -> Iterator[Hosts]:
    """So many hosts, and whatever is added to them; all gone afterwards."""
    made = Hosts(folder)
    try:
        ip("netns", "add", made.hub)
        ip("-n", made.hub, "link", "add", "br0", "type", "bridge")
        ip("-n", made.hub, "link", "set", "br0", "up")
        made.add()
        made.wait(1)
        for _ in range(count - 1):
            made.add()
        made.wait(count)
        yield made
    finally:
        for host in made.hosts:
            host.kill()
        for namespace in (*(host.namespace for host in made.hosts), made.hub):
            subprocess.run(["ip", "netns", "del", namespace], capture_output=True, check=False)
        shutil.rmtree(f"/tmp/cur{os.getpid()}", ignore_errors=True)
