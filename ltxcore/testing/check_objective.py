"""The test of an objective against its protocol, on samples of many shapes with made-up predictions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor

from ltxcore.config.tables import objective_keys
from ltxcore.declarations import roles_of
from ltxcore.errors import LtxError
from ltxcore.modality_tables import ModalityTable
from ltxcore.objective_types import Pass, Prepared
from ltxcore.objectives import faults_of_passes
from ltxcore.protocols import MODALITIES, ModelInput, Strategy
from ltxcore.state import Grid
from ltxcore.strategy import Flexible
from ltxcore.testing.keys import checking
from ltxcore.testing.trials import NAMES, Looked, draws_of, mask_of, samples_of, setting_of

APPENDED = 2
"""The number of tokens that are appended to each modality, as a reference would."""

TRIED: Sequence[Mapping[str, bool]] = (
    {"video": True, "audio": True},
    {"video": True},
    {"audio": True},
    {"video": False, "audio": True},
)
"""The runs in which the objective is tried: the modalities of each run, and whether each is generated (or frozen)."""

Predictions = Mapping[str, Mapping[str, Tensor]]


@attrs.frozen(eq=False)
class Trial:
    """Samples that an objective is tried on, with possible predictions of a model; `label` names the samples in a message."""

    label: str
    predicted: Predictions
    prepared: Prepared

    def copy(self) -> Trial:
        """Return a copy that shares no memory with the original."""
        return self._each(lambda tensor: tensor.detach().clone().requires_grad_(tensor.requires_grad))

    def alone(self, index: int) -> Trial:
        """Return one sample."""
        return self._each(lambda tensor: tensor[index : index + 1].detach())

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors that an objective must leave unchanged, by name."""
        found = {f'predicted["{name}"]["{of}"]': tensor for name, each in self.predicted.items() for of, tensor in each.items()}
        found |= {f'prepared.masks["{role}"]': mask for role, mask in self.prepared.masks.items()}
        for name, each in self.prepared.inputs.items():
            for of, given in each.items():
                fields = attrs.asdict(given, recurse=False).items()
                found |= {f'prepared.inputs["{name}"]["{of}"].{field}': value for field, value in fields if isinstance(value, Tensor)}
        return found

    def _each(self, change: Any) -> Trial:
        def changed(given: ModelInput) -> ModelInput:
            fields = attrs.asdict(given, recurse=False).items()
            return attrs.evolve(given, **{name: change(value) for name, value in fields if isinstance(value, Tensor)})

        predicted = {name: {of: change(tensor) for of, tensor in each.items()} for name, each in self.predicted.items()}
        inputs = {name: {of: changed(given) for of, given in each.items()} for name, each in self.prepared.inputs.items()}
        masks = {role: change(mask) for role, mask in self.prepared.masks.items()}
        return attrs.evolve(self, predicted=predicted, prepared=attrs.evolve(self.prepared, inputs=inputs, masks=masks))


def check_objective(objective: Any, *, grids: Mapping[str, Sequence[Grid]] | None = None, **fields: Any) -> None:
    """Check that an objective does what the training loop relies on.

    The loss is computed for samples of several shapes, three at a time, with video, with audio, with both, and with one of them frozen. The
    objective need not have a loss in all of these runs.

    Args:
        objective: an object of the class that `ltx_objectives` names, or the class.
        grids: the latent grids to try the objective on, by modality, instead of `ltxcore.testing.trials.GRIDS`.
        fields: the parameters to make an object of the class with.

    Raises:
        AssertionError: there are faults; the error names all of them.
    """
    with checking("objective", objective, fields, objective_keys) as (one, findings):
        for fault in faults_of_passes(one):
            findings.note(fault)
        findings.tell()
        reached, had, asked = set[str](), set[str](), set[str]()
        for trial in _trials(one, grids):
            had |= trial.prepared.masks.keys()
            for fault in _faults_on(one, trial, reached, asked):
                findings.note(fault, trial.label)
        findings.tell()
        for role in roles_of(type(one)):
            if role.name in had - asked:
                findings.note(f'has the role "{role.name}", but never asks for its data, so the key {role.source_key} has no effect')
        for each in one.passes:
            if each.gradient and each.name not in reached:
                findings.note(f'never has a gradient in its pass "{each.name}"; give it gradient=False')


def _trials(one: Any, grids: Mapping[str, Sequence[Grid]] | None) -> Iterator[Trial]:
    roles = roles_of(type(one))
    for streams in TRIED:
        tables = {name: ModalityTable(is_generated, f"{name}_latents") for name, is_generated in streams.items()}
        strategy = Flexible(**tables).build(setting_of(grids))
        fit = [role for role in roles if streams.get(role.modality)]
        if roles and not fit:
            continue
        for number, samples in enumerate(samples_of(strategy.sources(), grids)):
            given = {name: _with_appended(each) for name, each in strategy.prepare(samples.batch, draws_of(number=number)).items()}
            # In every other trial one role alone has data, as a run file may have it.
            there = fit if number % 2 else fit[number // 2 % len(fit) :][:1] if fit else []
            masks = {role.name: mask_of(_target(given[role.modality]), number) for role in there}
            words = " and ".join(name if streams[name] else f"frozen {name}" for name in streams)
            yield _trial(f"{words}, {samples.label}", one.passes, strategy, given, masks)


def _trial(label: str, passes: Sequence[Pass], strategy: Strategy, given: Mapping[str, ModelInput], masks: Mapping[str, Tensor]) -> Trial:
    predicted = {}
    for seed, each in enumerate(passes):
        random = torch.Generator().manual_seed(seed)
        predicted[each.name] = {
            name: torch.randn(inputs.tokens.shape, generator=random).requires_grad_(each.gradient) for name, inputs in given.items()
        }
    return Trial(label, predicted, Prepared({each.name: given for each in passes}, masks, strategy.loss))


def _with_appended(given: ModelInput) -> ModelInput:
    """Return inputs with appended tokens and with a given target token, so that not all tokens count."""

    def longer(tensor: Tensor, dim: int = 1) -> Tensor:
        shape = [APPENDED if axis == dim else size for axis, size in enumerate(tensor.shape)]
        return torch.cat([tensor, tensor.new_zeros(shape)], dim=dim)

    mask = given.loss_mask
    if mask is not None and mask.shape[1] > 1:
        mask = torch.cat([torch.zeros_like(mask[:, :1]), mask[:, 1:]], dim=1)
    return attrs.evolve(
        given,
        tokens=longer(given.tokens),
        timesteps=longer(given.timesteps),
        positions=longer(given.positions, 2),
        denoise_mask=None if given.denoise_mask is None else longer(given.denoise_mask),
        marked=None if given.marked is None else longer(given.marked),
        loss_mask=mask,
    )


def _target(given: ModelInput) -> int:
    return given.tokens.shape[1] - APPENDED


def _faults_on(one: Any, trial: Trial, reached: set[str], asked: set[str]) -> Iterator[str]:
    """Find faults of the objective in a trial, and add to `reached` the passes in which the loss has a gradient, and to `asked` the roles
    whose data it asks for.
    """
    fresh, state = trial.copy(), torch.get_rng_state()
    masks = Looked(dict(fresh.prepared.masks))
    try:
        losses = one.loss(fresh.predicted, attrs.evolve(fresh.prepared, masks=masks))
    except LtxError as error:
        yield f"refuses from loss() with {error.problems[0].what!r}; unsupported settings must be refused when the keys are read"
        return
    except Exception as error:  # noqa: BLE001 - it may raise anything, and is told
        yield f"raises {type(error).__name__} from loss(): {error}"
        return
    asked |= masks.names
    if not torch.equal(torch.get_rng_state(), state):
        yield "draws from the global random number generator; an objective must not draw numbers"
    before, after = trial.tensors(), fresh.tensors()
    if changed := [name for name, tensor in before.items() if not torch.equal(tensor, after[name])]:
        yield f"changes {', '.join(changed)} in place; make new tensors instead"
        return
    faults = list(_faults_of_losses(losses, trial))
    yield from faults
    if faults or not losses:
        return
    again = trial.copy()
    second = one.loss(again.predicted, again.prepared)
    if second.keys() != losses.keys() or any(not torch.equal(loss, second[name]) for name, loss in losses.items()):
        yield "returns a different loss for the same input the second time"
    yield from _neighbours(one, trial, losses)
    yield from _faults_of_gradients(one, trial, reached)


def _faults_of_losses(losses: Any, trial: Trial) -> Iterator[str]:
    given = next(iter(trial.prepared.inputs.values()))
    generated = {name for name, each in given.items() if each.is_generated}
    if not isinstance(losses, Mapping):
        yield f"returns {type(losses).__name__} from loss(); it must return a mapping from modalities to losses"
        return
    if not set(losses) <= generated:
        yield f"has losses of {sorted(losses)}, but only {' and '.join(name for name in MODALITIES if name in generated)} is generated"
    for name, loss in losses.items():
        if not isinstance(loss, Tensor) or tuple(loss.shape) != (len(NAMES),) or loss.dtype != torch.float32:
            what = f"{list(loss.shape)} {loss.dtype}" if isinstance(loss, Tensor) else type(loss).__name__
            yield f"has a loss for {name} that is {what}; it must be one float32 number per sample, [B]"
        elif not bool(loss.isfinite().all()):
            yield f"has a loss for {name} that is not finite"


def _neighbours(one: Any, trial: Trial, losses: Mapping[str, Tensor]) -> Iterator[str]:
    """Report a loss that depends on other samples in the micro-batch."""
    for index in range(len(NAMES)):
        single = trial.alone(index)
        try:
            found = one.loss(single.predicted, single.prepared)
        except Exception as error:  # noqa: BLE001 - as above
            yield f"raises {type(error).__name__} from loss() for a sample alone, without gradients: {error}"
            return
        if found.keys() != losses.keys():
            yield "returns losses of different modalities for a single sample and for the same sample in a micro-batch, so processes would disagree"
            return
        if any(not torch.allclose(found[name], loss[index : index + 1].detach(), rtol=1e-4, atol=1e-6) for name, loss in losses.items()):
            yield "returns a different loss for a single sample than for the same sample in a micro-batch"
            return


def _faults_of_gradients(one: Any, trial: Trial, reached: set[str]) -> Iterator[str]:
    """Report a loss that reads tokens that do not count, and a gradient that is wrong."""
    passes, given = [each.name for each in one.passes if each.gradient], next(iter(trial.prepared.inputs.values()))
    whole = _gradients(one, trial, 1.0)
    if whole is None:
        return
    for name in passes:
        found = {of: each for of, each in whole[name].items() if each is not None}
        if any(bool(each.any()) for each in found.values()):
            reached.add(name)
        if any(not bool(each.isfinite().all()) for each in found.values()):
            yield f'has a gradient in its pass "{name}" that is not finite'
        if any(bool(each[:, _target(given[of]) :].any()) for of, each in found.items()):
            yield "reads what is predicted for appended tokens; only target tokens count"
    half = _gradients(one, trial, 0.5)
    if half is None or any(
        (each is None) != (half[name][of] is None)
        or (each is not None and not torch.allclose(each / 2, half[name][of], rtol=1e-4, atol=1e-7))
        for name in passes
        for of, each in whole[name].items()
    ):
        yield "has a gradient that is not proportional to its weight; leave the weight to the core, and keep the loss differentiable"


def _gradients(one: Any, trial: Trial, weight: float) -> dict[str, dict[str, Any]] | None:
    """Return the gradients of the loss with respect to the predictions, by pass and modality; None if the loss has no gradient."""
    copied = trial.copy()
    total = torch.stack([loss.sum() * weight for loss in one.loss(copied.predicted, copied.prepared).values()]).sum()
    if not total.requires_grad:
        return None
    total.backward()
    return {name: {of: tensor.grad for of, tensor in each.items()} for name, each in copied.predicted.items()}
