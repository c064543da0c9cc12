"""DP-SGD over patients (Abadi et al. 2016): each step takes some patients by lot, one case of each, clips what each
adds to the gradient and adds noise to the sum. All by a NoisePlan, and by nothing else.

Opacus clips, sums and scales. Gradients come from autograd, one case at a time, so that they are exact for any network:
hooks, lists of parameters and operations in place are no matter.
"""

import math
import time

import numpy as np
import numpy.typing as npt
import torch
from opacus.optimizers import DPOptimizer
from torch import Generator, nn

from prostafed.client.training.feed import Feed
from prostafed.client.training.loop import Continuation, OnStep, State, TrainingRecord, handing_out
from prostafed.client.training.machine import choose_dtype, compile_groups
from prostafed.client.training.objective import Objective
from prostafed.client.training.optimisers import Optimisation, OptimiserState, load_state, make_optimiser, read_rates
from prostafed.client.training.sampling import Noise, group_patients
from prostafed.common.errors import ConfigurationError, DataError, DivergedError
from prostafed.common.privacy.noise import Source, draw_gaussian, draw_uniform
from prostafed.common.privacy.plan import NoisePlan

_LARGEST_SEED = 2**53


class NoisyOptimizer(DPOptimizer):  # type: ignore[misc]
    """Opacus's optimiser with noise from a `source`, which is another one at every step."""

    source: Source

    def add_noise(self) -> None:
        """Set `grad` of each parameter to its clipped sum with noise, added with all digits of a double."""
        for parameter in self.params:
            noise = draw_gaussian(self.source, *parameter.shape) * (self.noise_multiplier * self.max_grad_norm)
            noised = parameter.summed_grad.double() + torch.from_numpy(noise).to(parameter.device)
            parameter.grad = noised.to(parameter.dtype)


def optimise_privately(
    network: nn.Module,
    objective: Objective,
    feed: Feed,
    settings: Optimisation,
    noise: Noise,
    joining: tuple[Continuation, OnStep] = (Continuation(), lambda *_: None),
) -> TrainingRecord:
    """Train `network` in place, by the plan, on the patients of `feed` who have a case that the objective can use.

    Every step of the plan is taken, whatever lots and losses say: nothing of how long it takes, or how it ends, depends
    on a single patient. Raises DataError where no case can be used, ConfigurationError where the objective or network
    has no gradient of a single case, or the plan is one for other patients, DivergedError where weights are not finite.
    """
    continuation, on_step = joining
    feed = feed.choose(objective.usable)
    if not feed.chosen:
        raise DataError("The site has no case to train on in this stage. Check its labels and its split.")
    patients = group_patients(feed)
    _check(network, objective, noise.plan, len(patients))
    network.to(feed.device)
    network.train()
    if continuation.machine.compile:
        compile_groups(network)
    taker = _StepTaker(network, objective, feed, settings, noise)
    taker.resume(continuation)
    done, seconds, loss = 0, 0.0, 0.0
    if continuation.start:
        progress = continuation.start["progress"]
        done, seconds, loss = progress["steps"], progress["seconds"], progress["loss"]
    with handing_out(continuation) as after_step:
        while done < noise.plan.steps:
            began = time.monotonic()
            found = taker.step(patients, noise.sources(done), continuation)
            done, loss = done + 1, loss if math.isnan(found) else found
            seconds += time.monotonic() - began
            on_step(done, noise.plan.steps, loss)
            progress = {"steps": done, "seconds": seconds, "loss": loss}
            after_step(lambda progress=progress: {**taker.state(), "progress": progress})  # type: ignore[misc]
    if not all(bool(torch.isfinite(parameter).all()) for parameter in network.parameters()):
        raise DivergedError("Weights are not finite after the round. Lower the stage's learning_rate.")
    rates = read_rates(network, taker.optimiser.original_optimizer)
    moments, scores = taker.state()["optimiser"], tuple(taker.scores.tolist())
    return TrainingRecord(loss, len(feed.chosen), done, seconds, rates, moments, scores=scores)


class _StepTaker:
    """Takes private steps of one network; holds its optimiser, and the block of the canaries beside the network."""

    def __init__(
        self, network: nn.Module, objective: Objective, feed: Feed, settings: Optimisation, noise: Noise
    ) -> None:
        self._network, self._objective, self._feed, self._plan = network, objective, feed, noise.plan
        optimiser = make_optimiser(network, settings)
        for target in objective.targets:  # it follows the weights alone, and has no gradient to add noise to
            network.get_submodule(target).requires_grad_(False)
        self._own = sum(len(group["params"]) for group in optimiser.param_groups)  # the canaries come after these
        self._canaries = nn.Parameter(torch.zeros(len(noise.canaries), device=feed.device))
        self._planted = np.array(noise.canaries, dtype=bool)
        self.scores: npt.NDArray[np.float64] = np.zeros(len(noise.canaries))
        if noise.canaries:
            optimiser.add_param_group({"params": [self._canaries]})
        self.optimiser = NoisyOptimizer(
            optimiser,
            noise_multiplier=noise.plan.noise,
            max_grad_norm=noise.plan.clip,
            expected_batch_size=noise.plan.expected,
        )
        self._open = [each for each in self.optimiser.params if each is not self._canaries]

    def step(self, patients: list[list[int]], source: Source, continuation: Continuation) -> float:
        """Take a step and return the mean loss of the patients in it, NaN where there is none."""
        # Drawn for every patient, in a fixed order: what is drawn for one depends on no other.
        lots, picks, seeds = draw_uniform(source, 3, len(patients))
        self.optimiser.zero_grad(set_to_none=True)
        self._canaries.summed_grad = self._add_canaries(source)  # type: ignore[attr-defined]
        losses = []
        for lot, pick, seed, cases in zip(lots, picks, seeds, patients, strict=True):
            if lot < self._plan.rate:
                losses.append(self._add_unit(cases[int(pick * len(cases))], int(seed * _LARGEST_SEED), continuation))
        for parameter in self.optimiser.params:
            parameter.grad_sample = parameter.new_zeros((0, *parameter.shape))
        self.optimiser.source = source
        assert self.optimiser.pre_step(), "the last part of a step is not skipped"
        if len(self._planted):
            assert self._canaries.grad is not None
            noised = self._canaries.grad.double().cpu().numpy()
            self.scores = self.scores + noised * (self._plan.expected / self._plan.clip)
        if continuation.adjust is not None:
            continuation.adjust(self._network)  # of the weights alone, which tell no more than noise lets them
        self.optimiser.original_optimizer.step()
        self._objective.after_step(self._network)
        return float(np.mean(losses)) if losses else math.nan

    def _add_canaries(self, source: Source) -> torch.Tensor:
        """Return what canaries add that take part and are in this step, each by its own lot: C at its coordinate."""
        chosen = (draw_uniform(source, len(self._planted)) < self._plan.rate) & self._planted
        return torch.from_numpy(chosen * self._plan.clip).to(self._canaries)

    def _add_unit(self, position: int, seed: int, continuation: Continuation) -> float:
        """Add the clipped gradient of one case; where it or its loss is not finite, nothing. Return the loss."""
        loss = self._backward(position, seed, continuation)
        gradients = [each.grad for each in self._open]
        found = [each for each in gradients if each is not None]
        finite = math.isfinite(loss) and all(bool(torch.isfinite(each).all()) for each in found)
        for parameter, gradient in zip(self._open, gradients, strict=True):
            of_unit = torch.zeros_like(parameter) if gradient is None or not finite else gradient
            parameter.grad_sample, parameter.grad = of_unit[None], None
        self._canaries.grad_sample = torch.zeros_like(self._canaries)[None]  # type: ignore[attr-defined]
        self.optimiser.signal_skip_step(do_skip=True)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        return loss if finite else math.nan

    def _backward(self, position: int, seed: int, continuation: Continuation) -> float:
        device, generator = self._feed.device, Generator().manual_seed(seed)
        dtype = choose_dtype(continuation.machine.precision, device)
        half = dtype == torch.bfloat16  # float16 would need a loss scale, which depends on who is in a batch
        batch = self._feed.draw([position], self._objective.masks, generator)
        part_loss = self._objective.batch_loss(self._network, batch, generator)
        with torch.autocast(device.type, dtype if half else torch.bfloat16, enabled=half):
            loss = part_loss(slice(0, 1))
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.item())

    def state(self) -> State:
        """Return what steps can be gone on with from; it holds the live tensors."""
        kept: OptimiserState = self.optimiser.original_optimizer.state_dict()["state"]
        own = {number: moments for number, moments in kept.items() if number < self._own}
        return {
            "network": self._network.state_dict(),
            "optimiser": own,
            "scores": torch.from_numpy(self.scores),
            "scaler": {},
        }

    def resume(self, continuation: Continuation) -> None:
        """Go on from a state, or from the optimiser of the round before."""
        state: State = continuation.start or {}
        if state:
            self._network.load_state_dict(state["network"])
            self.scores = torch.as_tensor(state["scores"]).numpy().copy()
        moments: OptimiserState | None = state["optimiser"] if state else continuation.optimiser
        if moments:
            load_state(self.optimiser.original_optimizer, moments)


def _check(network: nn.Module, objective: Objective, plan: NoisePlan, patients: int) -> None:
    if not objective.divisible:
        raise ConfigurationError("Noise for patients needs a loss that is a sum over cases; this stage's is none.")
    if shared := next((each for each in network.modules() if isinstance(each, nn.modules.batchnorm._BatchNorm)), None):
        raise ConfigurationError(
            f"Noise for patients cannot be added to a network with {type(shared).__name__}: it mixes the cases of a "
            "batch, and keeps statistics of them. Choose another norm in [model]."
        )
    if (plan.unit, plan.units) != ("patient", patients):
        raise ConfigurationError(
            f"The plan for noise is one for {plan.units} {plan.unit}s, and {patients} patients are trained on."
        )
