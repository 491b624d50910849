"""A test that holds a condition to its protocol, on clips and audio of many shapes."""

from __future__ import annotations

import copy
import inspect
import random
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs
import torch

from ltxcore import state
from ltxcore.conditions import ConditionUse, applied_state, given_from_medium
from ltxcore.config.tables import training_keys
from ltxcore.declarations import content_of, roles_of
from ltxcore.errors import DataError, LtxError, PluginError
from ltxcore.protocols import MODALITIES, DescribesLora, Geometry, Medium
from ltxcore.state import Grid, LatentState
from ltxcore.strategy import Flexible, ModalityTable
from ltxcore.testing.check_strategy import faults_of
from ltxcore.testing.keys import faults_of_class
from ltxcore.testing.trials import GRIDS, Findings, Trial, setting_of, trials

WHERE = "a trial"


def check_condition(condition: Any, *, grids: Mapping[str, Sequence[Grid]] | None = None, **fields: Any) -> None:
    """Check that a condition does what the core relies on, in training and in generation.

    It is applied to three samples at a time, to images, clips and sounds of several shapes, in each modality that it
    names. It may refuse some shapes with a DataError, but not all of them.

    Args:
        condition: an object of the class, or the class.
        grids: the latent grids to try it on, by modality, instead of `ltxcore.testing.trials.GRIDS`.
        fields: the parameters to make an object of the class with.

    Raises:
        AssertionError: for everything that is wrong.
    """
    one: Any = condition(**fields) if inspect.isclass(condition) else condition
    cls: Any = type(one)
    findings = Findings()
    said = f"{cls.__name__} breaks the protocol of conditions:"
    for fault in _faults_of_class(one):
        findings.note(fault)
    findings.tell(said)
    use = ConditionUse(cls.__name__, one, 1.0, {role.name: role.name for role in roles_of(cls)})
    tried: list[tuple[Trial, LatentState]] = []
    for modality in MODALITIES:
        if modality in cls.modalities:
            tried += _tried(use, modality, (grids or GRIDS)[modality], findings)
    findings.tell(said)
    for trial, after in tried:
        # A condition that is not pure fails all other checks too, which would add nothing.
        for fault in list(_purity(use, trial, after)) or [fault for look in LOOKS for fault in look(use, trial.copy(), after)]:
            findings.note(fault, trial.label)
    for fault in _faults_of_all(use, tried):
        findings.note(fault)
    findings.tell(said)
    for fault, label in _faults_in_runs(
        use, {modality: [t.target.grid for t, _ in tried if t.modality == modality] for modality in MODALITIES}
    ):
        findings.note(fault, label)
    findings.tell(said)


# ---------------------------------------------------------------- the class


def _faults_of_class(condition: Any) -> Iterator[str]:
    yield from faults_of_class("condition", condition, training_keys)


# ---------------------------------------------------------------- applying it


def _tried(use: ConditionUse, modality: str, grids: Sequence[Grid], findings: Findings) -> list[tuple[Trial, LatentState]]:
    """Return the trials that the condition accepts, with the states that it makes from them."""
    accepted, refusal = [], None
    for trial in trials(modality, use.roles, grids):
        try:
            own = trial.copy()
            accepted.append((trial, applied_state(use, own.known(), own.inputs, WHERE)))
        except DataError as error:
            refusal = error.problems[0].what
            if _by_the_state(error):
                findings.note(refusal, trial.label)
            elif not all(problem.remedy for problem in error.problems):
                findings.note(f'refuses without a remedy: its error does not say what to do about "{refusal}"', trial.label)
        except PluginError as error:
            findings.note(error.problems[0].what.removeprefix(f'the condition "{use.type}" '), trial.label)
        except Exception as error:  # noqa: BLE001 - it may raise anything, and is told
            place = "; it must refuse shapes that do not fit with a DataError" if isinstance(error, LtxError) else ""
            findings.note(f"raises {type(error).__name__} from apply(): {error}{place}".replace(f"{WHERE}: ", ""), trial.label)
    if not accepted and not findings.faults:
        findings.note(
            f'refuses every {modality} that it is tried on, the last with "{refusal}"; pass other parameters, or grids that suit it'
        )
    return accepted


def _by_the_state(error: BaseException) -> bool:
    """Return whether given() or append() refused: the trials supply valid inputs, so the condition is at fault."""
    raised = traceback.extract_tb((error.__cause__ or error).__traceback__)
    return raised[-1].filename == state.__file__


def _again(use: ConditionUse, trial: Trial, before: LatentState) -> LatentState | str:
    """Return the state that the condition makes from one that it should accept, or the text of its error."""
    try:
        return applied_state(use, before, trial.inputs, WHERE)
    except Exception as error:  # noqa: BLE001 - as above
        return f"{type(error).__name__}: {error}".replace(f"{WHERE}: ", "").splitlines()[0]


def _same(one: LatentState, other: LatentState) -> bool:
    return _same_mask(one, other) and torch.equal(one.appended, other.appended) and torch.equal(one.positions, other.positions)


def _same_mask(one: LatentState, other: LatentState) -> bool:
    """Compare denoise masks, ignoring rounding differences between products in different orders."""
    return one.denoise_mask.shape == other.denoise_mask.shape and torch.allclose(one.denoise_mask, other.denoise_mask, atol=1e-6)


# ---------------------------------------------------------------- examining it


def _purity(use: ConditionUse, trial: Trial, after: LatentState) -> Iterator[str]:
    fresh, before, random_before = trial.copy(), copy.deepcopy(use.condition), _random_states()
    start = fresh.known()
    found = _again(use, fresh, start)
    changed = [name for name, tensor in trial.copy().tensors().items() if not torch.equal(tensor, fresh.tensors()[name])]
    if not torch.equal(start.denoise_mask, torch.ones_like(start.denoise_mask)):
        changed.append("state.denoise_mask")
    if changed:
        yield f"changes {', '.join(changed)} in place; make new tensors instead"
    if use.condition != before:
        yield "changes itself in apply(); use @attrs.frozen and keep nothing between calls"
    if _random_states() != random_before:
        yield "draws from a global random number generator; only the core may draw random numbers"
    elif use.condition == before and (not isinstance(found, LatentState) or not _same(found, after)):
        yield "returns different results for the same input"


def _random_states() -> tuple[bytes, object]:
    return bytes(torch.get_rng_state().tolist()), random.getstate()


def _neighbours(use: ConditionUse, trial: Trial, after: LatentState) -> Iterator[str]:
    for index in range(after.batch_size):
        alone = trial.alone(index)
        found = _again(use, alone, alone.known())
        if isinstance(found, str):
            yield f"refuses a sample alone that it accepts in a batch ({found})"
            return
        row = slice(index, index + 1)
        expected = (after.denoise_mask[row], after.appended[row], after.positions[row])
        if not all(torch.equal(a, b) for a, b in zip((found.denoise_mask, found.appended, found.positions), expected, strict=True)):
            yield "treats a sample differently alone than in a batch"
            return


def _order(use: ConditionUse, trial: Trial, after: LatentState) -> Iterator[str]:
    def other(before: LatentState) -> LatentState:
        amount = torch.linspace(0, 0.5, before.num_target)
        return before.append(before.clean[:, :1] + 1, before.positions[:, :, :1] + 1).given(amount)

    second = _again(use, trial, other(trial.known()))
    if isinstance(second, str):
        yield f"fails after another condition has given and appended tokens ({second})"
        return
    first = other(after)
    count, target = after.num_appended, after.num_target
    moved = attrs.evolve(
        first,
        appended=first.appended.roll(1, 1) if count else first.appended,
        positions=torch.cat([first.positions[:, :, :target], first.positions[:, :, target:].roll(1, 2)], dim=2),
    )
    if not _same(moved, second):
        yield "behaves differently after another condition than before it; do not read denoise_mask or appended"


def _sampling(use: ConditionUse, trial: Trial, after: LatentState) -> Iterator[str]:
    medium = trial.target if content_of(type(use.condition)) is not None else None
    try:
        found = given_from_medium(use, trial.unknown(), medium, trial.inputs, WHERE)
    except Exception as error:  # noqa: BLE001 - as above
        text = str(error).removeprefix(f'{WHERE}: the condition "{use.type}" ').splitlines()[0]
        yield f"fails in sampling, with the target as its medium: {text}"
        return
    given = after.denoise_mask[:, : after.num_target] < 1
    if not _same(found, after) or not torch.equal(found.clean[given], after.clean[given]):
        yield "behaves differently in sampling, with the target as its medium, than in training"


def _something_left(use: ConditionUse, trial: Trial, after: LatentState) -> Iterator[str]:
    left = (after.denoise_mask[:, : after.num_target] == 1).any(dim=1)
    if not bool(left.all()):
        yield "leaves no token wholly to generate, so that the sample has no loss; refuse it with a DataError, or give nothing there"


Look = Callable[[ConditionUse, Trial, LatentState], Iterator[str]]
LOOKS: tuple[Look, ...] = (_neighbours, _order, _sampling, _something_left)


# ---------------------------------------------------------------- over all trials


def _faults_of_all(use: ConditionUse, tried: Sequence[tuple[Trial, LatentState]]) -> Iterator[str]:
    for modality in dict.fromkeys(trial.modality for trial, _ in tried):
        if not any(_gives(after).any() or after.num_appended for trial, after in tried if trial.modality == modality):
            yield f"gives and appends nothing on any {modality} that it is tried on"
    yield from _misplaced(use, tried)
    if isinstance(use.condition, DescribesLora):
        yield from _faults_of_metadata(use.condition, [trial for trial, _ in tried])


def _gives(after: LatentState) -> torch.Tensor:
    """Return the frames in which something is given, `[F]` bool."""
    given = (after.denoise_mask[:, : after.num_target] < 1).any(dim=0)
    return torch.stack([given[after.grid.frame == frame].any() for frame in range(after.grid.frames)])


def _misplaced(use: ConditionUse, tried: Sequence[tuple[Trial, LatentState]]) -> Iterator[str]:
    """Report a condition for which, wherever it gives something, its medium could be shorter if it were laid at the other end."""
    content = content_of(type(use.condition))
    if content not in ("start", "end"):
        return
    lengths = []
    for _, after in tried:
        frames = _gives(after).nonzero().flatten().tolist()
        if frames:
            needed = {"start": frames[-1] + 1, "end": after.grid.frames - frames[0]}
            lengths.append((needed.pop(content), needed.popitem()[1]))
    if lengths and all(own > shorter for own, shorter in lengths):
        other = "end" if content == "start" else "start"
        own, shorter = lengths[-1]
        yield f'sets content = "{content}", but what it gives is at the {other}: its medium must be {own} latent frames long, although {shorter} would be enough'


def _faults_of_metadata(condition: DescribesLora, tried: Sequence[Trial]) -> Iterator[str]:
    def geometry(trial: Trial, medium: Medium) -> Geometry:
        return Geometry(medium.grid, float(medium.rate[0]), trial.modality)

    for trial in tried:
        pair = (geometry(trial, trial.target), {role: geometry(trial, medium) for role, medium in trial.inputs.media.items()})
        try:
            found = condition.metadata([pair])
        except Exception as error:  # noqa: BLE001 - as above
            yield f"accepts {trial.label}, but raises {type(error).__name__} from metadata(): {error}"
            return
        if not isinstance(found, Mapping) or not all(isinstance(text, str) for pair in found.items() for text in pair):
            yield f"returns {found!r} from metadata(); it must return a mapping from texts to texts"
            return


def _faults_in_runs(use: ConditionUse, grids: Mapping[str, Sequence[Grid]]) -> Iterator[tuple[str, str]]:
    """Find faults when the flexible strategy uses the condition on a generated modality and, if it appends, also on a frozen one."""
    both = {modality: own or GRIDS[modality] for modality, own in grids.items()}
    for modality in sorted(use.modalities):
        tables = {name: ModalityTable(True, f"{name}_latents") for name in MODALITIES}
        for is_generated in (True, False) if use.appends else (True,):
            own = {modality: ModalityTable(is_generated, f"{modality}_latents", [use])}
            for fault, label in faults_of(Flexible(**(tables | own)).build(setting_of(both)), both):
                yield f"in the flexible strategy, on {'generated' if is_generated else 'frozen'} {modality}, {fault}", label
