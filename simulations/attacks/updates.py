"""Attacks on single updates: a run keeps none, so they are made anew, from the run's own cases."""

import copy
from collections.abc import Iterator, Sequence

import numpy as np

from prostafed.client.training.loop import optimise
from prostafed.client.training.objective import finetuning, pretraining
from prostafed.client.training.optimisers import Optimisation
from prostafed.common.errors import DataError
from prostafed.common.metrics.statistic import FloatArray
from prostafed.common.privacy.attacks.finding import Finding
from prostafed.common.privacy.attacks.interval import mean_interval, share_interval
from prostafed.common.privacy.attacks.inversion import Images, build_small, compare_images, invert, measure_gradient
from prostafed.common.privacy.attacks.origin import name_origins, project
from prostafed.common.privacy.attacks.protections import PROTECTIONS, Protection, protect
from prostafed.common.seeding import derive_seed
from prostafed.common.ssl import build_method
from prostafed.common.study import Finetune
from prostafed.common.study.network import shared_names
from prostafed.common.tasks import build_task
from prostafed.common.tensors import read_tensors
from prostafed.simulations.attacks.federation import Attacked, AttackedSite

CROP = (6, 16, 16)  # voxels in the middle of an image, (z, y, x), at most
INVERTED, STEPS = 4, 300  # images that are sought, steps of the search
LABELS = 60  # steps whose label is guessed
ROUNDS, MOST_CASES = 6, 16  # updates of a site, cases each is trained on
SITE_NOISE = Protection("clip 1, noise 1", clip=1.0, noise=1.0)


def invert_updates(attacked: Attacked, seed: int) -> list[Finding]:
    """Return, per protection, how like an image behind an update is to what was drawn from the update, and beside it to
    other patients' images: what anybody could show.

    The network is small and made for the attack (`build_small`); the images are crops of the run's training cases. Of
    a batch or a sum the drawn image that is most alike counts, and the most alike of as many other patients.
    """
    images, labels = _crop(attacked)
    generator, found = np.random.default_rng(derive_seed(seed, "inversion")), []
    network = build_small(images.shape[1:], derive_seed(seed, "network"))
    for protection in PROTECTIONS:
        needed = protection.cases * protection.sites
        if len(images) < 2 * needed:
            continue
        pairs = []
        for number in range(INVERTED):
            drawn = generator.permutation(len(images))[: 2 * needed]
            chosen = [drawn[start : needed : protection.sites] for start in range(protection.sites)]
            gradients = [measure_gradient(network, images[part], [labels[index] for index in part]) for part in chosen]
            seen = protect(gradients, protection, derive_seed(seed, protection.name, number))
            known = [labels[index] for part in chosen for index in part]
            found_images = invert(network, seen, known, images.shape[1:], number, STEPS)
            image = images[drawn[0]]
            pairs.append((_best(image, found_images), _best(image, images[drawn[needed:]])))
        for place, measure in enumerate(("correlation with the image", "PSNR in dB")):
            values = [pair[0][place] for pair in pairs]
            mean, low, high = mean_interval(values, derive_seed(seed, protection.name))
            found.append(
                Finding(
                    attack="inversion",
                    variant=protection.name,
                    measure=measure,
                    value=mean,
                    low=low,
                    high=high,
                    chance=float(np.mean([pair[1][place] for pair in pairs])),
                    of=f"{len(pairs)} images of {'x'.join(map(str, images.shape[2:]))} voxels",
                )
            )
    return found


def infer_labels(attacked: Attacked, seed: int) -> list[Finding]:
    """Return, per protection, how often the sign of the last bias' gradient is the label of a case behind the update
    (iDLG, Zhao et al. 2020), beside always saying the commoner label.

    The network is that of `invert_updates`; its last layer stands for the head of `classify`.
    """
    images, labels = _crop(attacked)
    generator, found = np.random.default_rng(derive_seed(seed, "labels")), []
    network = build_small(images.shape[1:], derive_seed(seed, "network"))
    for protection in PROTECTIONS:
        needed = protection.cases * protection.sites
        if len(images) < needed:
            continue
        hits, positives = 0, 0
        for number in range(LABELS):
            drawn = generator.permutation(len(images))[:needed]
            parts = [drawn[start :: protection.sites] for start in range(protection.sites)]
            gradients = [measure_gradient(network, images[part], [labels[index] for index in part]) for part in parts]
            seen = protect(gradients, protection, derive_seed(seed, protection.name, number))
            truth = labels[int(parts[0][0])] > 0
            hits += bool(seen[-1] < 0) == truth  # the bias of the last layer comes last
            positives += truth
        share, low, high = share_interval(hits, LABELS)
        commoner = max(positives, LABELS - positives) / LABELS
        found.append(
            Finding(
                attack="labels",
                variant=protection.name,
                measure="labels guessed rightly",
                value=share,
                low=low,
                high=high,
                chance=commoner,
                of=f"{LABELS} updates",
            )
        )
    return found


def trace_updates(attacked: Attacked, seed: int) -> list[Finding]:
    """Return how often an update's site is named rightly, without protection and with noise on the update.

    Updates are trained here, ROUNDS of each site, all from the run's final model, each on other cases of the site: as
    many at every site, so that how many there are gives nothing away.
    """
    if len(attacked.sites) < 2:
        raise DataError("There is one site only.")
    count = min(MOST_CASES, *(len(site.members) for site in attacked.sites))
    plain: dict[str, list[FloatArray]] = {}
    noised: dict[str, list[FloatArray]] = {}
    for site in attacked.sites:
        for number, update in enumerate(_train_updates(attacked, site, count, seed)):
            plain.setdefault(site.name, []).append(project(update, seed))
            noisy = protect([update], SITE_NOISE, derive_seed(seed, site.name, number))
            noised.setdefault(site.name, []).append(project(noisy, seed))
    return [name_origins("none", plain), name_origins(SITE_NOISE.name, noised)]


def _train_updates(attacked: Attacked, site: AttackedSite, count: int, seed: int) -> Iterator[FloatArray]:
    stage, place = attacked.study.stage[-1], site.place
    objective = (
        finetuning(build_task(stage.task))
        if isinstance(stage, Finetune)
        else pretraining(build_method(stage.method, stage.method_parameters()))
    )
    begun = attacked.sites[0].network()  # all of a round begin alike
    names = sorted(shared_names(begun, stage)) or sorted(read_tensors(begun))
    before = read_tensors(begun)
    for number in range(ROUNDS):
        key = derive_seed(seed, "origin", site.name, number)
        chosen = np.random.default_rng(key).permutation(np.array(site.members))[:count].tolist()
        network = copy.deepcopy(begun)
        settings = Optimisation(1, stage.batch_size, stage.learning_rate, stage.weight_decay, key, stage.optimiser)
        optimise(network, objective, place.feed(chosen), settings)
        after = read_tensors(network.to("cpu"))
        yield np.concatenate([(after[name] - before[name]).ravel().astype(np.float64) for name in names])


def _crop(attacked: Attacked) -> tuple[Images, list[float]]:
    """Return the middles of up to 40 training images of all sites in turn, mean 0 and standard deviation 1 per
    sequence, and whether each has csPCa; unknown counts as no.
    """
    images, labels = [], []
    for site, index in _take_turns(attacked.sites, 40):
        image = site.place.cases.load_image(index).astype(np.float32)
        size = [min(most, has) for most, has in zip(CROP, image.shape[1:], strict=True)]
        first = [(has - wanted) // 2 for has, wanted in zip(image.shape[1:], size, strict=True)]
        middle = image[:, *(slice(start, start + wanted) for start, wanted in zip(first, size, strict=True))]
        width = middle.std(axis=(1, 2, 3), keepdims=True)
        images.append((middle - middle.mean(axis=(1, 2, 3), keepdims=True)) / np.maximum(width, 1e-6))
        labels.append(float(bool(site.place.cases.records[index].cspca)))
    return np.stack(images), labels


def _take_turns(sites: Sequence[AttackedSite], most: int) -> list[tuple[AttackedSite, int]]:
    turns = max(len(site.members) for site in sites)
    order = [(site, site.members[turn]) for turn in range(turns) for site in sites if turn < len(site.members)]
    return order[:most]


def _best(image: Images, drawn: Images) -> tuple[float, float]:
    compared = [compare_images(image, each) for each in drawn]
    return max(each[0] for each in compared), max(each[1] for each in compared)
