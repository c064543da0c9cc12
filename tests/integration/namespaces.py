"""Network namespaces on this machine, joined by a bridge: hospitals that reach each other by a network only."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from .slow_line import SlowLine


def why_not() -> str:
    """Return why namespaces cannot be made here, "" where they can."""
    if shutil.which("ip") is None:
        return "network namespaces need the program ip (package iproute2)"
    if os.geteuid() != 0:
        return "network namespaces can be made by root only"
    name = f"pf-probe-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"network namespaces cannot be made here: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", name], check=False)
    return ""


@dataclass(frozen=True)
class Network:
    """Namespaces by name; each has the address 10.77.0.N and fd77::N, N counted from 1 in the order of names."""

    prefix: str
    names: tuple[str, ...]

    def address(self, name: str, version: int = 4) -> str:
        number = self.names.index(name) + 1
        return f"10.77.0.{number}" if version == 4 else f"fd77::{number}"

    def inside(self, name: str) -> list[str]:
        """Return what stands before a command that runs in a namespace."""
        return ["ip", "netns", "exec", f"{self.prefix}{name}"]

    def cut(self, name: str) -> None:
        """Take a namespace off the network."""
        call("ip", "-n", f"{self.prefix}net", "link", "set", name, "down")

    def mend(self, name: str) -> None:
        """Put it back."""
        call("ip", "-n", f"{self.prefix}net", "link", "set", name, "up")


@contextmanager
def make_network(*names: str, slow: str = "") -> Iterator[Network]:
    """Yield namespaces of these names, each up to 12 characters; they are removed with all that is left in them. The
    one named `slow` is reached by a line of 1 Mbit/s that takes 150 ms each way and loses 2 %.
    """
    network = Network(f"pf{os.getpid()}-", names)
    middle, line = f"{network.prefix}net", None
    try:
        call("ip", "netns", "add", middle)
        call("ip", "-n", middle, "link", "add", "bridge", "type", "bridge")
        call("ip", "-n", middle, "link", "set", "bridge", "up")
        for name in names:
            inside = f"{network.prefix}{name}"
            call("ip", "netns", "add", inside)
            call("ip", "-n", inside, "link", "set", "lo", "up")
            if name == slow:
                line = SlowLine(((middle, name), (inside, "eth0")))
                line.start()
            else:
                pair = ["type", "veth", "peer", "name", "eth0", "netns", inside]
                call("ip", "-n", middle, "link", "add", name, *pair)
            call("ip", "-n", middle, "link", "set", name, "master", "bridge", "up")
            call("ip", "-n", inside, "addr", "add", f"{network.address(name)}/24", "dev", "eth0")
            call("ip", "-n", inside, "addr", "add", f"{network.address(name, 6)}/64", "dev", "eth0", "nodad")
            call("ip", "-n", inside, "link", "set", "eth0", "up")
        yield network
    finally:
        if line:
            line.stop()
        for name in (*names, "net"):
            with suppress(subprocess.CalledProcessError):
                call("ip", "netns", "del", f"{network.prefix}{name}")


def call(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
