"""The first weights the label-budget study compares."""

from dataclasses import dataclass
from pathlib import Path

from prostafed.client.training.feed import Feed
from prostafed.client.training.loop import decayed, optimise
from prostafed.client.training.objective import pretraining
from prostafed.client.training.optimisers import Optimisation
from prostafed.common.aggregation import AGGREGATORS
from prostafed.common.imaging.cases import CasesInMemory
from prostafed.common.models.checkpoint import read_checkpoint, read_weights, save_checkpoint
from prostafed.common.models.encoder import Encoder
from prostafed.common.models.imagenet import inflate
from prostafed.common.seeding import derive_seed
from prostafed.common.shell.files import make_folder
from prostafed.common.ssl import METHODS, build_method
from prostafed.common.tensors import Tensors, read_tensors, select_groups, write_tensors
from prostafed.server.aggregation import Update, build_aggregator
from prostafed.simulations.experiments.budget_cells import Parameters
from prostafed.simulations.experiments.label_curve import SITES, find_device, make_network


@dataclass(frozen=True)
class Initialisation:
    """An initialisation and how it is shown; colours are those of Okabe & Ito (2008), told apart by the colour-blind.

    `method`: the self-supervised method it was pretrained with, if any.
    """

    label: str
    encoder: str
    colour: str
    marker: str
    method: str = ""


STARTS: dict[str, Initialisation] = {
    "random": Initialisation("random", "resenc", "#000000", "o"),
    "simclr": Initialisation("simclr, federated", "resenc", "#0072B2", "s", "simclr"),
    "conditional": Initialisation("conditional, federated", "resenc", "#D55E00", "^", "conditional"),
    "restore": Initialisation("restore, federated", "resenc", "#009E73", "D", "restore"),
    "random_mobilenet": Initialisation("random, MobileNetV2", "mobilenet", "#CC79A7", "v"),
    "imagenet": Initialisation("ImageNet, MobileNetV2", "mobilenet", "#E69F00", "P"),
}


def find_start(
    name: str, seed: int, pool: CasesInMemory, parameters: Parameters, folder: Path, weights: Path | None
) -> Tensors:
    """Return the encoder's tensors of a start, {} for a random one; those pretrained once are kept in `folder`."""
    start = STARTS[name]
    if name == "imagenet":
        assert weights is not None
        encoder = make_network({}, seed, parameters.grid, start.encoder)["encoder"]
        assert isinstance(encoder, Encoder)
        return inflate(read_weights(weights), encoder)
    if not start.method:
        return {}
    path, kept = make_folder(folder) / f"{name}-{seed}.safetensors", {"config": parameters.hash()}
    if path.exists():
        tensors, metadata = read_checkpoint(path)
        if metadata == kept:
            return tensors
    tensors = pretrain_together(start.method, seed, pool, parameters)
    save_checkpoint(path, tensors, kept)
    return tensors


def pretrain_together(method_name: str, seed: int, pool: CasesInMemory, parameters: Parameters) -> Tensors:
    """Return the encoder that the sites of `pool` pretrained together, by federated averaging; what the method does not
    share stays at each site from round to round.
    """
    method, shared = build_method(method_name, METHODS[method_name].parameters()), METHODS[method_name].shared
    networks = [make_network(method.heads, seed, parameters.grid) for _ in SITES]
    tensors = select_groups(read_tensors(networks[0]), shared)
    aggregator, memory = build_aggregator("fedavg", AGGREGATORS["fedavg"].parameters()), Tensors()
    for number in range(1, parameters.rounds + 1):
        state = aggregator.init(tensors, memory)
        for site, network in enumerate(networks):
            write_tensors(network, tensors)
            settings = Optimisation(
                parameters.epochs,
                parameters.batch_size,
                decayed(parameters.learning_rate, number, parameters.rounds),
                parameters.weight_decay,
                derive_seed(seed, method_name, number, site),
            )
            chosen = range(site, len(pool.records), len(SITES))  # the cases of a pool come from the sites in turn
            feed = Feed(pool, chosen, parameters.grid, find_device())
            record = optimise(network, pretraining(method), feed, settings)
            sent = select_groups(read_tensors(network), shared)
            state = aggregator.add(state, Update(SITES[site][0], record.cases, record.steps, sent))
        outcome = aggregator.finish(state)
        tensors, memory = outcome.tensors, outcome.memory
    return select_groups(tensors, ["encoder"])
