"""The test of a condition against its protocol, on clips and audio of many shapes."""

from __future__ import annotations

import copy
import inspect
import random
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
import torch

from ltxcore import state
from ltxcore.condition_keys import IF_SET
from ltxcore.conditions import ConditionUse, applied_state, given_from_medium
from ltxcore.config.drawn_values import drawn_value
from ltxcore.config.reading import Unreadable
from ltxcore.config.structurer import Structurer
from ltxcore.config.tables import training_keys
from ltxcore.declarations import content_of, faults_of_columns, roles_of
from ltxcore.drawn import Drawn, corners, spoken
from ltxcore.errors import DataError, LtxError, PluginError
from ltxcore.modality_tables import ModalityTable
from ltxcore.protocols import MODALITIES, DescribesLora, Geometry, Medium
from ltxcore.registry import Registry, load
from ltxcore.state import Grid, Group, LatentState
from ltxcore.strategy import Flexible
from ltxcore.testing.check_strategy import faults_of
from ltxcore.testing.keys import checking
from ltxcore.testing.trials import GRIDS, Findings, Trial, grids_with, setting_of, trials

WHERE = "a trial"

TENSORS = ("denoise_mask", "appended", "positions", "levels")
"""The fields of a state that a condition may change."""


def check_condition(condition: Any, *, grids: Mapping[str, Sequence[Grid]] | None = None, **fields: Any) -> None:
    """Check that a condition does what the core relies on, in training and in generation.

    The condition is applied to images, clips and audio of several shapes, three samples at a time, in each modality that it names. The
    condition may refuse some shapes with a DataError, but not all of them.

    Args:
        condition: an object of the class, or the class.
        grids: the latent grids to try the condition on, by modality, instead of those of `ltxcore.testing.trials.GRIDS`.
        fields: the parameters to make an object of the class with. A parameter may be drawn, as in a run file. The condition is then tried
            with all values at which it is validated, and together with samples that draw different values.

    Raises:
        AssertionError: there are faults; the error names all of them.
    """
    drawn, grids = _drawn(condition, fields), grids_with(grids)
    every, accepts = list(corners(drawn)), False
    for number, values in enumerate(every, 1):
        try:
            # What a class draws anew, it may refuse for all shapes, but not whatever it draws.
            may_refuse = getattr(condition, "redraws", 0) > 0 and (accepts or number < len(every))
            accepts |= _check(condition, {**fields, **values}, drawn, grids, may_refuse)
        except AssertionError as error:
            raise AssertionError(f"with {spoken(values)}, {error}" if values else str(error)) from error
    if drawn:
        findings = Findings(f"{condition.__name__} breaks the protocol of conditions where its values are drawn:")
        first = condition(**{**fields, **next(corners(drawn))})
        use = ConditionUse(condition.__name__, first, 1.0, {role.name: role.name for role in roles_of(condition)}, drawn)
        for fault, label in _faults_in_runs(use, grids):
            findings.note(fault, label)
        findings.tell()


def _drawn(cls: Any, fields: Mapping[str, Any]) -> dict[str, Drawn]:
    """Read the ranges or choices that parameters are drawn from, written as in a run file.

    Raises:
        AssertionError: a run file with these parameters would be refused.
    """
    structurer = Structurer(Registry({}), Path.cwd())
    found = {}
    tables = {name for name, value in fields.items() if isinstance(value, dict)}
    for key in training_keys(cls) if tables and inspect.isclass(cls) and attrs.has(cls) else ():
        if key.is_drawable and key.name in tables:
            with structurer.reading.at(key.name), suppress(Unreadable):
                found[key.name] = drawn_value(structurer, key, fields[key.name])
    if structurer.reading.mistakes:
        raise AssertionError("\n".join(f"{'.'.join(map(str, each.path))}: {each.what}" for each in structurer.reading.mistakes))
    return found


def _check(
    condition: Any, fields: Mapping[str, Any], drawn: Mapping[str, Drawn], grids: Mapping[str, Sequence[Grid]], may_refuse: bool
) -> bool:
    """Check a condition with fixed values, and return whether it accepts at least one shape."""
    with checking("condition", condition, fields, training_keys) as (one, findings):
        for fault in faults_of_columns(type(one), _columns_for(type(one))):
            findings.note(fault)
        use = ConditionUse(type(one).__name__, one, 1.0, {role.name: role.name for role in roles_of(type(one))})
        tried: list[tuple[Trial, LatentState]] = []
        for modality in MODALITIES:
            if modality in attrs.evolve(use, drawn=drawn).modalities:
                tried += _tried(use, modality, grids[modality], findings, may_refuse)
        findings.tell()
        if not tried:
            return False
        for trial, after in tried:
            # A condition that appends NaN or is not pure fails all other checks too, which would add nothing.
            faults = list(_not_finite(after)) or list(_purity(use, trial, after))
            for fault in faults or [fault for look in LOOKS for fault in look(use, trial.copy(), after)]:
                findings.note(fault, trial.label)
        for fault in _faults_of_all(use, tried):
            findings.note(fault)
        findings.tell()
        of = {modality: [trial.target.grid for trial, _ in tried if trial.modality == modality] for modality in MODALITIES}
        for fault, label in _faults_in_runs(use, of):
            findings.note(fault, label)
    return True


def _columns_for(cls: type) -> dict[str, Any]:
    """Return the columns that a condition may read: those of installed plugins, and those in the module that defines its class or a class
    that it extends; this module may be a local file.
    """
    found = {name: named.value for name, named in load().of_kind("column").items()}
    for each in cls.__mro__:
        found |= getattr(sys.modules.get(each.__module__), "ltx_columns", dict)()
    return found


# ---------------------------------------------------------------- applying it


def _tried(
    use: ConditionUse, modality: str, grids: Sequence[Grid], findings: Findings, may_refuse: bool
) -> list[tuple[Trial, LatentState]]:
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
    if not accepted and not findings.faults and not may_refuse:
        findings.note(
            f'refuses every {modality} that it is tried on, the last with "{refusal}"; pass other parameters, or grids that suit it'
        )
    return accepted


def _by_the_state(error: BaseException) -> bool:
    """Return whether given() or append() raised an error; then the condition is at fault, because the trials supply valid inputs."""
    raised = traceback.extract_tb((error.__cause__ or error).__traceback__)
    return raised[-1].filename == state.__file__


def _again(use: ConditionUse, trial: Trial, before: LatentState) -> LatentState | str:
    """Return the state that the condition makes from a state that it should accept, or the text of its error."""
    try:
        return applied_state(use, before, trial.inputs, WHERE)
    except Exception as error:  # noqa: BLE001 - as above
        return f"{type(error).__name__}: {error}".replace(f"{WHERE}: ", "").splitlines()[0]


def _same(one: LatentState, other: LatentState) -> bool:
    same = (torch.equal(getattr(one, name), getattr(other, name)) for name in TENSORS[1:])
    return _same_mask(one, other) and one.groups == other.groups and all(same)


def _same_mask(one: LatentState, other: LatentState) -> bool:
    """Compare denoise masks, ignoring differences in rounding between products in different orders."""
    return one.denoise_mask.shape == other.denoise_mask.shape and torch.allclose(one.denoise_mask, other.denoise_mask, atol=1e-6)


# ---------------------------------------------------------------- examining it


def _not_finite(after: LatentState) -> Iterator[str]:
    for what, tensor in (("tokens", after.appended), ("positions", after.positions)):
        if not bool(tensor.isfinite().all()):
            yield f"appends {what} that are not finite"


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
        if found.groups != after.groups or not all(torch.equal(getattr(found, name), getattr(after, name)[row]) for name in TENSORS):
            yield "treats a sample differently alone than in a batch"
            return


def _order(use: ConditionUse, trial: Trial, after: LatentState) -> Iterator[str]:
    def other(before: LatentState) -> LatentState:
        amount = torch.linspace(0, 0.5, before.num_target)
        return before.append(before.clean[:, :1] + 1, before.positions[:, :, :1] + 1, level=0.5, strength=0.5).given(amount)

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
        levels=torch.cat([first.levels[:, :target], first.levels[:, target:].roll(1, 1)], dim=1),
        groups=(*first.groups[-1:], *first.groups[:-1]),
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


def _shared_keys(use: ConditionUse, trial: Trial, after: LatentState) -> Iterator[str]:
    """Report a condition that has a key of `ltxcore.api.conditions`, but does not do what the key says."""
    for name in (field.name for field in attrs.fields(type(use.condition)) if IF_SET in field.metadata):
        found = _again(attrs.evolve(use, condition=attrs.evolve(use.condition, **{name: 0.5})), trial, trial.known())
        if isinstance(found, str):
            yield f"fails with {name} = 0.5 ({found})"
        elif name == "level" and not torch.equal(found.levels, 0.5 * (found.denoise_mask == 0)):
            yield "does not give all of its tokens at its level; pass self.level to given() and append()"
        elif name == "strength" and found.groups != tuple(Group(group.tokens, 0.5) for group in after.groups):
            yield "does not append all of its tokens with its strength; pass self.strength to append()"
        elif name == "strength" and not found.groups and not use.appends:
            yield "has the key strength, but does not append tokens"


def _something_left(use: ConditionUse, trial: Trial, after: LatentState) -> Iterator[str]:
    left = (after.denoise_mask[:, : after.num_target] == 1).any(dim=1)
    if not bool(left.all()):
        yield "leaves no token that is generated entirely, so the sample has no loss; refuse such samples with a DataError, or give nothing there"


Look = Callable[[ConditionUse, Trial, LatentState], Iterator[str]]
LOOKS: tuple[Look, ...] = (_neighbours, _order, _sampling, _shared_keys, _something_left)


# ---------------------------------------------------------------- over all trials


def _faults_of_all(use: ConditionUse, tried: Sequence[tuple[Trial, LatentState]]) -> Iterator[str]:
    for modality in dict.fromkeys(trial.modality for trial, _ in tried):
        if not any(_gives(after).any() or after.num_appended for trial, after in tried if trial.modality == modality):
            yield f"gives and appends nothing on any {modality} that it is tried on"
    yield from _misplaced(use, tried)
    for role in use.roles if tried else ():
        # Without the data, what asks for them is refused.
        if all(
            isinstance(_again(use, without, without.known()), LatentState) for trial, _ in tried for without in [trial.without(role.name)]
        ):
            yield f'has the role "{role.name}", but never asks for its data, so the key {role.source_key} has no effect'
    if isinstance(use.condition, DescribesLora):
        yield from _faults_of_metadata(use.condition, [trial for trial, _ in tried])


def _gives(after: LatentState) -> torch.Tensor:
    """Return the frames in which any token is given, `[F]` bool."""
    given = (after.denoise_mask[:, : after.num_target] < 1).any(dim=0)
    return torch.stack([given[after.grid.frame == frame].any() for frame in range(after.grid.frames)])


def _misplaced(use: ConditionUse, tried: Sequence[tuple[Trial, LatentState]]) -> Iterator[str]:
    """Report a condition whose medium could always be shorter if the medium were placed at the other end of the target."""
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
        yield f'sets content = "{content}", but gives tokens at the {other}: its medium must be {own} latent frames long, although {shorter} would be enough'


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
    """Find faults of the condition in the flexible strategy, on a generated modality and, if it appends tokens, also on a frozen
    modality.
    """
    both = {modality: own or GRIDS[modality] for modality, own in grids.items()}
    for modality in sorted(use.modalities):
        tables = {name: ModalityTable(True, f"{name}_latents") for name in MODALITIES}
        for is_generated in (True, False) if use.appends else (True,):
            own = {modality: ModalityTable(is_generated, f"{modality}_latents", [use])}
            for fault, label in faults_of(Flexible(**(tables | own)).build(setting_of(both)), both):
                yield f"in the flexible strategy, on {'generated' if is_generated else 'frozen'} {modality}, {fault}", label
