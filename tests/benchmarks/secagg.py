"""Seconds and bytes of one masked round beside the plain one, and beside Flower's SecAgg+, on the same vectors.

    python tests/benchmarks/secagg.py [--parameters 10000000] [--sites 5] [--repeats 3] [--flower]

The last line is one JSON object: a row per system, whose "seconds" are those of all sites together and the server, in
one process, one after the other. "plain" makes whole numbers and adds them, "masked" does so under masks, with every
key, share, signature and list in between, one site dropping out after its shares. `--flower` (about a minute) runs the
functions of flwr.common.secure_aggregation as its SecAgg+ mod and workflow call them, with as many shares and the same
threshold, and nobody dropping out. Messages are not counted in the seconds: both would send the same.
"""

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.asymmetric import ec

from prostafed.common.secagg.fixed_point import open_total, to_integers, to_mean
from prostafed.common.secagg.masking import add_to, apply_masks
from prostafed.common.secagg.records import AllAgreed, AllKeys, AllShares
from prostafed.common.secagg.steps import agree, begin, find_masks, make_shares, mask_once, mix, open_shares
from prostafed.common.secagg.unmasking import Mixing, check_agreed, check_keys, check_shares, find_left_over
from prostafed.common.tensors import Tensors, count_bytes, hash_tensors

SESSION = "5e" * 32
TRY: dict[str, Any] = {"number": "7a" * 32, "digest": "d1" * 32}


def main() -> None:
    """Measure and print the JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("parameters", 10_000_000), ("sites", 5), ("repeats", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--flower", action="store_true")
    options = parser.parse_args()
    rows = measure(options.parameters, options.sites, options.repeats)
    if options.flower:
        rows.append(measure_flower(options.parameters, options.sites))
    print(json.dumps({"benchmark": "secagg", "rows": rows}))


def measure(parameters: int, sites: int, repeats: int) -> list[dict[str, object]]:
    """Return one row per system and rule, the systems in turn within each repeat."""
    rng = np.random.default_rng(0)
    sent = {f"encoder.{part}": rng.normal(0, 0.05, parameters // 4).astype(np.float32) for part in range(4)}
    trained = {
        f"site-{number:02}": {
            name: array + rng.standard_normal(array.size, np.float32) * np.float32(1e-3) for name, array in sent.items()
        }
        for number in range(sites)
    }
    identities = {site: ec.generate_private_key(ec.SECP384R1()) for site in trained}
    systems: dict[str, Callable[[str], tuple[Tensors, int]]] = {
        "plain": lambda rule: add_plain(sent, trained, rule),
        "masked": lambda rule: add_masked(sent, trained, identities, rule),
    }
    rows: list[dict[str, object]] = []
    for rule in ("fixed16", "fixed32"):
        seconds: dict[str, list[float]] = {name: [] for name in systems}
        told, means = dict[str, int](), dict[str, str]()
        for _ in range(repeats):
            for name, run in systems.items():
                began = time.perf_counter()
                mean, told[name] = run(rule)
                seconds[name].append(time.perf_counter() - began)
                means[name] = hash_tensors(mean)
        assert means["plain"] == means["masked"], "masked is not plain"
        rows += [
            {
                "system": f"{name} {rule}",
                "seconds": round(statistics.median(seconds[name]), 3),
                "bytes_up": told[name],
                "bytes_ratio": round(told[name] / told["plain"], 4),
                "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
                "parameters": parameters,
                "sites": sites,
                "repeats": repeats,
            }
            for name in systems
        ]
    return rows


def add_plain(sent: Tensors, trained: dict[str, Tensors], rule: str) -> tuple[Tensors, int]:
    """Return the mean of all but the first site, and the bytes that sites sent."""
    total, told, share = open_total(sent, rule), 0, Fraction(1, len(trained))
    for site in list(trained)[1:]:
        whole = to_integers(sent, trained[site], share, rule)
        told += count_bytes(whole)
        add_to(total, whole)
    return to_mean(sent, total, share * (len(trained) - 1), rule), told


def add_masked(
    sent: Tensors, trained: dict[str, Tensors], identities: dict[str, ec.EllipticCurvePrivateKey], rule: str
) -> tuple[Tensors, int]:
    """Return the same under masks: the first site drops out after its shares."""
    told, share, sites = 0, Fraction(1, len(trained)), list(trained)
    parties = {site: begin(SESSION, site, 100, identities[site]) for site in sites}
    for site, party in parties.items():
        check_keys(party.keys, site, SESSION)
    among = AllKeys(**TRY, keys=tuple(party.keys for party in parties.values()))
    parties = {site: make_shares(party, among, 0, identities[site]) for site, party in parties.items()}
    shares = tuple(party.shares for party in parties.values() if party.shares)
    for made in shares:
        check_shares(made, made.site, among, SESSION)
    mixed, total = AllShares(**TRY, shares=shares), open_total(sent, rule)
    for site in sites[1:]:
        whole = to_integers(sent, trained[site], share, rule)
        party = parties[site] = mask_once(mix(parties[site], mixed, 0), hash_tensors(whole))
        apply_masks(whole, find_masks(party))
        told += count_bytes(whole)
        add_to(total, whole)
    survivors, mixing = tuple(sites[1:]), Mixing(SESSION, among, mixed, 0)
    parties = {site: agree(parties[site], survivors, 0, identities[site]) for site in survivors}
    agreed = tuple(party.agreed for party in parties.values() if party.agreed)
    for each in agreed:
        check_agreed(each, each.site, survivors, mixing)
    opened = {site: open_shares(party, AllAgreed(**TRY, agreed=agreed), 0) for site, party in parties.items()}
    apply_masks(total, find_left_over(opened, survivors, mixing))
    said = [*(each.keys for each in parties.values()), *shares, *agreed, *opened.values()]
    told += sum(len(each.pack()) for each in said)
    return to_mean(sent, total, share * len(survivors), rule), told


def measure_flower(parameters: int, sites: int) -> dict[str, object]:
    """Return the row of Flower's functions, in the order in which its mod and workflow call them."""
    from flwr.common.secure_aggregation import quantization, secaggplus_utils
    from flwr.common.secure_aggregation.crypto import shamir, symmetric_encryption

    rng, threshold, began = np.random.default_rng(0), sites // 2 + 1, 0.0
    updates = [rng.normal(0, 1e-3, parameters).astype(np.float32) for _ in range(sites)]
    began = time.perf_counter()
    keys = [ec.generate_private_key(ec.SECP384R1()) for _ in range(sites)]
    seeds = [rng.bytes(32) for _ in range(sites)]
    shares = [shamir.create_shares(seed, threshold, sites) for seed in seeds]
    total: npt.NDArray[Any] = np.zeros(parameters, np.int64)
    target, modulus, told = 1 << 22, 1 << 32, 0
    for own, update in enumerate(updates):
        whole = quantization.quantize([update], 8.0, target)
        masked = secaggplus_utils.pseudo_rand_gen(seeds[own], modulus, [update.shape])
        vector = whole[0] + masked[0]
        for other in range(sites):
            if other == own:
                continue
            common = symmetric_encryption.generate_shared_key(keys[own], keys[other].public_key())
            (stream,) = secaggplus_utils.pseudo_rand_gen(common, modulus, [update.shape])
            vector = vector + stream if own > other else vector - stream
        vector %= modulus
        told += vector.nbytes
        total = (total + vector) % modulus
    for made in shares:
        seed = shamir.combine_shares(made[:threshold])
        (stream,) = secaggplus_utils.pseudo_rand_gen(seed, modulus, [updates[0].shape])
        total = (total - stream) % modulus
    quantization.dequantize([total], 8.0 * sites, target * sites)
    return {
        "system": "Flower SecAgg+ functions",
        "seconds": round(time.perf_counter() - began, 3),
        "bytes_up": told,
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "parameters": parameters,
        "sites": sites,
        "repeats": 1,
    }


if __name__ == "__main__":
    main()
