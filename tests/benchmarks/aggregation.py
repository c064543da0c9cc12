"""Seconds per round and peak memory of averaging the sites' replies at the server, beside Flower's FedAvg and a floor.

    python tests/benchmarks/aggregation.py [--sites 8,32] [--parameters 1e6] [--repeats 3] [--json]

Each row has a process of its own: `peak_mb` is the most it held in memory, `startup_seconds` its imports. All rows pull
the same replies, float32 tensors of at most 1M values that are made when they are pulled, from one in-process grid; it
lets go of what is pushed, as a grid that sends it off does. The last line is one JSON object. Rows:

    prostafed   the server's own round: rounds.ask_sites, admission, fedavg
    flower      flwr.serverapp.strategy.FedAvg.start, one round
    floor       a running float32 sum over the replies, no checks, its result depends on their order
"""

import argparse
import json
import logging
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flwr.app import Message
    from flwr.serverapp import Grid

    from prostafed.common.tensors import Tensors

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")

SYSTEMS = ("prostafed", "flower", "floor")
LONGEST = 1_000_000  # values of one tensor
CASES = 10  # of site 0; each next one has one more
DEADLINE_S = 3600.0


def main() -> None:
    """Measure every row and print the JSON object; with --system, be one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sites", default="8,32")
    parser.add_argument("--parameters", type=float, default=1e6)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="nothing but the JSON object")
    parser.add_argument("--systems", default=",".join(SYSTEMS))
    parser.add_argument("--system", choices=SYSTEMS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.system:
        print(json.dumps(run_one(arguments.system, int(arguments.sites), int(arguments.parameters), arguments.repeats)))
        return
    rows = []
    for sites in (int(each) for each in arguments.sites.split(",")):
        for system in arguments.systems.split(","):
            rows.append(measure(system, sites, int(arguments.parameters), arguments.repeats))
            if not arguments.json:
                row = rows[-1]
                print(f"{system:>10} {sites:>3} sites {row['seconds_per_round']:>8} s {row['peak_mb']:>6} MB")
    print(json.dumps({"benchmark": "aggregation", "rows": rows}))


def measure(system: str, sites: int, parameters: int, repeats: int) -> dict[str, object]:
    """Return the row of one system, measured in a fresh process."""
    settings = ("--system", system, "--sites", sites, "--parameters", parameters, "--repeats", repeats)
    command = [sys.executable, __file__, *map(str, settings)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    row: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return row


def run_one(system: str, sites: int, parameters: int, repeats: int) -> dict[str, object]:
    """Run the rounds of one system in this process and return its row."""
    started = time.perf_counter()
    run = {"prostafed": prepare_prostafed, "flower": prepare_flower, "floor": prepare_floor}[system](sites, parameters)
    startup, seconds = time.perf_counter() - started, []
    for _ in range(repeats):
        started = time.perf_counter()
        mean = run()
        seconds.append(time.perf_counter() - started)
    check(mean, sites)
    median = round(statistics.median(seconds), 3)
    return {
        "system": system,
        "seconds": median,
        "seconds_per_round": median,
        "startup_seconds": round(startup, 3),
        "peak_mb": round(read_peak_mb()),
        "bytes": 2 * 4 * parameters * sites,
        "sites": sites,
        "parameters": parameters,
        "repeats": repeats,
    }


def prepare_prostafed(sites: int, parameters: int) -> "Callable[[], Tensors]":
    """Return what runs a round as server/run/stages.py does; the one place that knows its calls."""
    from prostafed.common.aggregation import NoParameters
    from prostafed.common.exchange.messages import Reply, Request
    from prostafed.common.exchange.wire import pack_reply
    from prostafed.common.study import Round
    from prostafed.server.aggregation import build_aggregator
    from prostafed.server.exchange.exchange import Terms, ask_sites
    from prostafed.server.run.checkpoints import RunState
    from prostafed.server.run.updates import OpenUpdates

    tensors, aggregator = make_tensors(parameters), build_aggregator("fedavg", NoParameters())

    def answer(message: "Message", site: int) -> "Message":
        reply = Reply(f"site-{site:03}", "study", 1, 1, CASES + site, make_reply(tensors, site))
        return pack_reply(reply, message)

    def run() -> "Tensors":
        nodes = {f"site-{site:03}": site for site in range(sites)}
        updates = OpenUpdates(RunState(tensors=tensors), frozenset(tensors), aggregator, Round(), sites, seed=0)
        request = Request("train", "run", "study", 1, 1, tensors, returns=updates.returns)
        exchange, _ = ask_sites(make_grid(sites, answer), nodes, request, Terms(DEADLINE_S), updates.take)
        assert len(exchange.replies) == sites, exchange.rejections
        state, _ = updates.finish(1, 1)
        return state.tensors

    return run


def prepare_flower(sites: int, parameters: int) -> "Callable[[], Tensors]":
    """Return what runs one round of Flower's strategy."""
    from flwr.app import ArrayRecord
    from flwr.serverapp.strategy import FedAvg

    logging.getLogger("flwr").setLevel(logging.ERROR)
    tensors = make_tensors(parameters)

    def run() -> "Tensors":
        strategy = FedAvg(fraction_evaluate=0.0, min_train_nodes=sites, min_available_nodes=sites)
        grid = make_grid(sites, partial(answer_flower, tensors))
        result = strategy.start(grid, ArrayRecord(pack_arrays(tensors)), num_rounds=1, timeout=DEADLINE_S)
        return {name: array.numpy() for name, array in result.arrays.items()}

    return run


def prepare_floor(sites: int, parameters: int) -> "Callable[[], Tensors]":
    """Return what sums the replies as they are pulled."""
    import numpy as np
    from flwr.app import ArrayRecord, Message, RecordDict

    tensors = make_tensors(parameters)

    def run() -> "Tensors":
        grid = make_grid(sites, partial(answer_flower, tensors))
        content = RecordDict({"arrays": ArrayRecord(pack_arrays(tensors))})
        asked = grid.push_messages([Message(content, dst_node_id=n, message_type="train") for n in range(sites)])
        sums, cases = {name: np.zeros_like(array) for name, array in tensors.items()}, 0
        for message_id in asked:
            for message in grid.pull_messages([message_id]):
                weight = int(message.content["metrics"]["num-examples"])
                for name, array in message.content["arrays"].items():
                    sums[name] += array.numpy() * np.float32(weight)
                cases += weight
        return {name: array / np.float32(cases) for name, array in sums.items()}

    return run


def make_tensors(parameters: int) -> "Tensors":
    """Return global tensors of so many float32 values in all."""
    import numpy as np

    rng, sizes = np.random.default_rng(0), [LONGEST] * (parameters // LONGEST)
    sizes += [parameters % LONGEST] if parameters % LONGEST else []
    return {
        f"encoder.stages.{number:04}.weight": rng.normal(scale=0.05, size=size).astype(np.float32)
        for number, size in enumerate(sizes)
    }


def make_reply(tensors: "Tensors", site: int) -> "Tensors":
    """Return what a site made of `tensors`: each value a little larger, by 1e-3 (site + 1)."""
    import numpy as np

    return {name: array + np.float32(1e-3 * (site + 1)) for name, array in tensors.items()}


def check(mean: "Tensors", sites: int) -> None:
    """Stop the benchmark where a system did not give the weighted mean."""
    import numpy as np

    name = min(mean)
    shift = np.average(1e-3 * np.arange(1, sites + 1), weights=CASES + np.arange(sites))
    np.testing.assert_allclose(mean[name], make_tensors(len(mean[name]))[name] + shift, rtol=1e-4, atol=1e-6)


def pack_arrays(tensors: "Tensors") -> "dict[str, object]":
    """Return the tensors as Flower's arrays."""
    from flwr.app import Array

    return {name: Array(array) for name, array in tensors.items()}


def answer_flower(tensors: "Tensors", message: "Message", site: int) -> "Message":
    """Return a site's reply as Flower's FedAvg expects it."""
    from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict

    arrays = ArrayRecord(pack_arrays(make_reply(tensors, site)))
    return Message(
        RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": CASES + site})}), reply_to=message
    )


def make_grid(sites: int, answer: "Callable[[Message, int], Message]") -> "Grid":
    """Return a grid of nodes 0, 1, ... whose replies `answer` makes when they are pulled."""
    from flwr.app import Message, RecordDict
    from flwr.supercore.task_identity import TaskIdentity

    from prostafed.simulations.run.engine.grid import LocalGrid, identify

    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1

    class LazyGrid(LocalGrid):
        """Keeps the head of a message alone."""

        def get_node_ids(self) -> Iterable[int]:
            return range(sites)

        def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
            pushed = []
            for message in messages:
                to, kind, group = (
                    getattr(message.metadata, key) for key in ("dst_node_id", "message_type", "group_id")
                )
                head = identify(Message(RecordDict(), dst_node_id=to, message_type=kind, group_id=group))
                self._pushed[head.metadata.message_id] = head
                pushed.append(head.metadata.message_id)
            return pushed

        def _answer(self, message: Message) -> Message:
            return identify(answer(message, message.metadata.dst_node_id))

    return LazyGrid(lambda *_: None, [], {})  # type: ignore[arg-type]


def read_peak_mb() -> float:
    """Return the most this process held in memory."""
    status = Path("/proc/self/status")
    if status.exists():  # unlike getrusage, it does not count what the parent held before this process began
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        assert found is not None
        return int(found[1]) / 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024**2 if sys.platform == "darwin" else peak / 1024


if __name__ == "__main__":
    main()
