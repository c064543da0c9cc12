"""A line between two network namespaces that is slow, long and lossy: frames of one TAP device, handed on to the other.

What `tc netem` does, on kernels that are built without it.
"""

import ctypes
import fcntl
import heapq
import os
import random
import select
import struct
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

_NEW_NET = 0x40000000
_SET_NAME, _TAP, _PLAIN = 0x400454CA, 0x0002, 0x1000  # TUNSETIFF, IFF_TAP, IFF_NO_PI


@dataclass
class SlowLine:
    """Frames wait `delay_s` each way, pass at `bits_per_s` and are lost with probability `loss`."""

    ends: tuple[tuple[str, str], tuple[str, str]]  # (namespace, name of its device)
    bits_per_s: float = 1e6
    delay_s: float = 0.15
    loss: float = 0.02
    _stopped: threading.Event = field(default_factory=threading.Event)
    _ready: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        threading.Thread(target=self._relay, daemon=True).start()
        assert self._ready.wait(5.0)

    def stop(self) -> None:
        self._stopped.set()

    def _relay(self) -> None:
        ends = [_open_tap(*end) for end in self.ends]
        self._ready.set()
        drawn = random.Random(1)
        free = {end: 0.0 for end in ends}  # when the line towards an end has sent what it holds
        under_way: list[tuple[float, int, int, bytes]] = []
        number = 0
        while not self._stopped.is_set():
            wait = max(0.0, under_way[0][0] - time.monotonic()) if under_way else 0.2
            readable, _, _ = select.select(ends, [], [], min(wait, 0.2))
            now = time.monotonic()
            for source in readable:
                frame, target = os.read(source, 65536), ends[1 - ends.index(source)]
                if drawn.random() < self.loss or free[target] > now + 0.5:  # half a second's worth is queued
                    continue
                free[target] = max(now, free[target]) + 8 * len(frame) / self.bits_per_s
                number += 1
                heapq.heappush(under_way, (free[target] + self.delay_s, number, target, frame))
            while under_way and under_way[0][0] <= time.monotonic():
                _, _, target, frame = heapq.heappop(under_way)
                with suppress(OSError):  # the other end is down
                    os.write(target, frame)
        for end in ends:
            os.close(end)


def _open_tap(namespace: str, device: str) -> int:
    """Return a TAP device of a namespace; only the calling thread enters that."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path(f"/var/run/netns/{namespace}").open() as file:
        if libc.setns(file.fileno(), _NEW_NET):
            raise OSError(ctypes.get_errno(), "setns")
    tap = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tap, _SET_NAME, struct.pack("16sH22s", device.encode(), _TAP | _PLAIN, b""))
    return tap
