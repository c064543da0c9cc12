"""All attacks on one finished simulation: RUN/attacks.json and RUN/attacks.html."""

from collections.abc import Callable, Collection
from datetime import UTC, datetime
from pathlib import Path

from prostafed.common.bundle.record import hash_file
from prostafed.common.errors import ConfigurationError, DataError, nearest
from prostafed.common.privacy.attacks import ATTACKS
from prostafed.common.privacy.attacks.finding import FILE, Finding, Findings, write_findings
from prostafed.common.privacy.attacks.show import write_attacks_page
from prostafed.simulations.attacks.federation import Attacked, open_attacked
from prostafed.simulations.attacks.membership import infer_members
from prostafed.simulations.attacks.told import read_histograms, subtract_sites
from prostafed.simulations.attacks.updates import infer_labels, invert_updates, trace_updates
from prostafed.simulations.run.export import MODEL

# (name of the attack that is next, attacks done, attacks in all)
OnAttack = Callable[[str, int, int], None]
CARRIED_OUT: dict[str, Callable[[Attacked, int], list[Finding]]] = {
    "membership": infer_members,
    "differencing": subtract_sites,
    "histograms": read_histograms,
    "inversion": invert_updates,
    "labels": infer_labels,
    "origin": trace_updates,
}


def attack_run(
    path: Path, only: Collection[str] = (), seed: int = 0, on_attack: OnAttack = lambda *_: None
) -> Findings:
    """Carry out the attacks `only`, by default all, on the run in `path`; write attacks.json and attacks.html there.

    Raises ConfigurationError for an attack that there is not or a folder that holds no simulation, DataError where the
    run is not finished or its cases are gone.
    """
    if unknown := [name for name in only if name not in ATTACKS]:
        raise ConfigurationError(f"--only: unknown attack '{unknown[0]}'{nearest(unknown[0], ATTACKS)}")
    attacked = open_attacked(path)
    found: list[Finding] = []
    left_out: dict[str, str] = {}
    chosen = [name for name in CARRIED_OUT if not only or name in only]
    for done, name in enumerate(chosen):
        on_attack(name, done, len(chosen))
        try:
            figures = CARRIED_OUT[name](attacked, seed)
            found += figures
            if not figures:
                left_out[name] = "The run has too little for it: patients, sites, or what was told of them."
        except DataError as error:
            left_out[name] = str(error)
    on_attack("", len(chosen), len(chosen))
    findings = Findings(
        run=path.resolve().name,
        study_hash=attacked.run.study_hash,
        model_sha256=hash_file(path / MODEL),
        seed=seed,
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        generated=any(site.generated for site in attacked.run.sites),
        findings=tuple(found),
        left_out=left_out,
    )
    write_findings(path / FILE, findings)
    write_attacks_page(path, findings)
    return findings
