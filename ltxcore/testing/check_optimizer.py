"""The test of an optimizer against its protocol, on a few small weights."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module, Parameter
from torch.optim.lr_scheduler import LambdaLR

from ltxcore.config.groups import OptimizationGroup
from ltxcore.config.packages import state_bytes
from ltxcore.config.run_file import OptimizationTable
from ltxcore.declarations import zero_stages_of
from ltxcore.engines.optim import has_modes, optimizer_of
from ltxcore.engines.single import SingleEngine
from ltxcore.engines.tensor_updates import TensorUpdates
from ltxcore.runs import checkpoint
from ltxcore.testing.keys import checking, note_all

Shapes = Mapping[str, tuple[int, ...]]

SHAPES: Shapes = {
    "transformer_blocks.0.attn1.to_q.lora_A.default.weight": (4, 64),
    "transformer_blocks.0.attn1.to_q.lora_B.default.weight": (64, 4),
    "transformer_blocks.0.ff.net.2.weight": (64, 96),
    "transformer_blocks.0.ff.net.2.bias": (64,),
    "transformer_blocks.0.scale_shift_table": (6, 64),
}
"""The shapes of the weights that an optimizer is tried on: weights of a LoRA, one of which begins at 0 as in a run, and weights
of a whole model.
"""

STEPS = 5
LONG = 40
"""The number of steps after which a weight must be nearer to the point that its gradients aim at."""

RATE = 1e-2
LESS, MORE = 0.1, 0.5
"""The shares by which the stated bytes of a state may be too small or too large, since an optimizer may keep nothing for a weight
that begins at 0.
"""

SAME = 1e-6

APART = "attn1"
"""The part of a name that puts a weight into the second group."""


def check_optimizer(optimizer: Any, **fields: Any) -> None:
    """Check that an optimizer does what the core relies on: it learns, distinguishes its groups, resumes to the last bit, and
    keeps as many bytes as it states.

    Args:
        optimizer: an object of the class that `ltx_optimizers` names, or the class.
        fields: the parameters to make an object of the class with.

    Raises:
        AssertionError: there are faults; the error names all of them.
    """
    with checking("optimizer", optimizer, fields) as (one, findings):
        note_all(findings, _faults(one), f'the optimizer "{type(one).__name__}"')


def _faults(one: Any) -> Iterator[str]:
    built = list(_faults_of_groups(one))
    yield from built
    if built:
        return
    of_one = [*_learns(one), *_decays(one)]
    yield from of_one or _tells_groups_apart(one)
    for look in (_keeps, _resumes, _switches, _divides, _updates_alone):
        yield from look(one)


# ---------------------------------------------------------------- trying it


class _Trial:
    """Weights that an engine moves step by step toward a point, as in a run."""

    def __init__(
        self,
        one: Any,
        weight_decay: float = 0.01,
        shapes: Shapes = SHAPES,
        whole: Tensor | None = None,
        apart: float | None = None,
        alone: bool = False,
    ) -> None:
        """Make the weights and the engine.

        Args:
            one: the object of the optimizer's class.
            weight_decay: the weight decay.
            shapes: the shapes of the weights.
            whole: the values of all weights; None for random values.
            apart: the weight decay of a second group; None for a single group.
            alone: whether the optimizer updates one weight at a time.
        """
        draws = torch.Generator().manual_seed(0)
        self.parameters = {}
        for name, shape in shapes.items():
            value = torch.zeros(shape) if "lora_B" in name else torch.randn(shape, generator=draws) * 0.1
            self.parameters[name] = Parameter(value)
        if whole is not None:
            _set(self.parameters, whole)
        self.aim = torch.randn(sum(map(prod, shapes.values())), generator=torch.Generator().manual_seed(1)) * 0.5
        rate = float(getattr(one, "learning_rate", RATE))
        fall = 0.0 if getattr(one, "schedules_itself", False) else 0.5 / LONG
        groups = [] if apart is None else [OptimizationGroup(modules=[APART], weight_decay=apart)]
        name = type(one).__name__
        table = OptimizationTable(learning_rate=rate, weight_decay=weight_decay, optimizer_type=name, optimizer=one, groups=groups)
        optimizer = optimizer_of(table, self.parameters)
        scheduler = LambdaLR(optimizer, lambda step: 1 - fall * min(step, LONG))
        updates = TensorUpdates(self.parameters, optimizer, 0) if alone else None
        self.engine = SingleEngine(
            Module(),  # type: ignore[arg-type]
            self.parameters,
            optimizer,
            scheduler,
            accumulation=1,
            max_grad_norm=0.0,
            autocast=None,
            device=torch.device("cpu"),
            updates=updates,
        )

    @property
    def weights(self) -> Tensor:
        return torch.cat([parameter.detach().flatten() for parameter in self.parameters.values()])

    def copies(self) -> dict[str, Tensor]:
        """Return copies of the present weights, by name."""
        return {name: parameter.detach().clone() for name, parameter in self.parameters.items()}

    @property
    def distance(self) -> float:
        return float((self.weights - self.aim).norm())

    def steps(self, first: int, last: int) -> _Trial:
        """Take the steps in a range of numbers; the gradients of a step depend on its number."""
        for number in range(first, last):
            noise = torch.randn(self.aim.shape, generator=torch.Generator().manual_seed(number)) * 0.01
            gradient = self.weights - self.aim + noise
            for parameter, own in zip(self.parameters.values(), _parts(self.parameters, gradient), strict=True):
                parameter.grad = own.clone()
            self.engine.step()
        return self


def _parts(parameters: Mapping[str, Parameter], whole: Tensor) -> list[Tensor]:
    sizes = [parameter.numel() for parameter in parameters.values()]
    return [part.reshape(parameter.shape) for part, parameter in zip(whole.split(sizes), parameters.values(), strict=True)]


def _set(parameters: Mapping[str, Parameter], whole: Tensor) -> None:
    with torch.no_grad():
        for parameter, part in zip(parameters.values(), _parts(parameters, whole), strict=True):
            parameter.copy_(part)


# ---------------------------------------------------------------- examining it


def _faults_of_groups(one: Any) -> Iterator[str]:
    trial = _Trial(one)
    optimizer: Any = trial.engine.optimizer
    had = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    if sorted(had) != sorted(map(id, trial.parameters.values())):
        yield "does not have every parameter of its groups exactly once in its param_groups"
    if hasattr(optimizer, "train") != hasattr(optimizer, "eval"):
        yield "has only one of train() and eval(); it needs both or neither"


def _learns(one: Any) -> Iterator[str]:
    trial = _Trial(one, weight_decay=0.0)
    before, start = trial.distance, trial.weights
    trial.steps(0, LONG)
    if not bool(torch.isfinite(trial.weights).all()):
        yield f"makes weights that are not finite within {LONG} steps"
        return
    if not trial.distance < before:
        yield f"does not get closer, within {LONG} steps, to the point that all gradients point to"
    both = zip(trial.parameters, _parts(trial.parameters, trial.weights), _parts(trial.parameters, start), strict=True)
    still = [name for name, own, was in both if torch.equal(own, was)]
    if still:
        yield f"never moves {still[0]}"
    if not getattr(one, "schedules_itself", False):
        at = trial.weights
        for group in trial.engine.optimizer.param_groups:
            group["lr"] = 0.0
        if not torch.equal(trial.steps(LONG, LONG + 1).weights, at):
            yield 'moves weights at a learning rate of 0: it does not look at the "lr" of its groups, which a schedule sets'


def _decays(one: Any) -> Iterator[str]:
    plain, decayed = (_Trial(one, weight_decay=decay).steps(0, STEPS).weights for decay in (0.0, 0.5))
    says = getattr(one, "decays_weights", True)
    if says and torch.equal(plain, decayed):
        yield "trains the same with and without weight decay; use the weight decay of the groups, or set decays_weights = False"


def _tells_groups_apart(one: Any) -> Iterator[str]:
    trial = _Trial(one, apart=0.01).steps(0, 2)
    own = {id(parameter) for name, parameter in trial.parameters.items() if APART in name}
    before = trial.copies()
    for group in trial.engine.optimizer.param_groups:
        group["lr"] = 0.0 if any(id(parameter) in own for parameter in group["params"]) else group["lr"]
    trial.steps(2, 3)
    still = {
        apart: all(torch.equal(parameter, before[name]) for name, parameter in trial.parameters.items() if (APART in name) == apart)
        for apart in (False, True)
    }
    if not still[True] and not any(getattr(one, each, False) for each in ("schedules_itself", "shares_learning_rate")):
        yield 'moves weights of a group whose "lr" is 0, while that of another is not'
    if still[False]:
        yield 'moves no weights of a group while the "lr" of another is 0'
    if getattr(one, "decays_weights", True):
        plain, decayed = (_Trial(one, weight_decay=0.0, apart=decay).steps(0, STEPS).copies() for decay in (0.0, 0.5))
        if all(torch.equal(plain[name], decayed[name]) for name in plain if APART in name):
            yield "ignores the weight decay of a second group"


def _keeps(one: Any) -> Iterator[str]:
    trial = _Trial(one).steps(0, 2)
    said = {name: one.state_bytes(name, shape) for name, shape in SHAPES.items()}
    unknown = [name for name, size in said.items() if size is None]
    if unknown and len(unknown) < len(said):
        yield f"states the bytes of state for some parameters, but not for {unknown[0]}"
    kept = {name: state_bytes(trial.engine.optimizer, parameter) for name, parameter in trial.parameters.items()}
    size = sum(each or 0 for each in said.values())
    if not unknown and not (1 - LESS) * sum(kept.values()) <= size <= (1 + MORE) * sum(kept.values()):
        name = max(said, key=lambda name: abs((said[name] or 0) - kept[name]))
        yield f"says that its state for {name}, of shape {SHAPES[name]}, takes {said[name]} bytes, but it takes {kept[name]}"


def _resumes(one: Any) -> Iterator[str]:
    whole = _Trial(one, apart=0.0).steps(0, 2 * STEPS)
    first, second = _Trial(one, apart=0.0).steps(0, STEPS), _Trial(one, apart=0.0)
    with tempfile.TemporaryDirectory() as folder:
        try:
            saved = checkpoint.save(Path(folder), STEPS, {"weights": Path.touch}, first.engine.state())
        except (TypeError, ValueError) as error:
            yield f"keeps state that a checkpoint cannot hold; only tensors, numbers and texts can be saved: {error}"
            return
        second.engine.restore(*checkpoint.load_state(saved))
    if not torch.equal(second.steps(STEPS, 2 * STEPS).weights, whole.weights):
        yield "continues differently after it is resumed: everything that it keeps must be in its state, by parameter, and in its param_groups"


def _switches(one: Any) -> Iterator[str]:
    trial, whole = _Trial(one).steps(0, STEPS), _Trial(one).steps(0, 2 * STEPS)
    if not has_modes(trial.engine.optimizer):
        return
    with trial.engine.evaluating():
        kept = trial.weights
    if not torch.equal(trial.steps(STEPS, 2 * STEPS).weights, whole.weights):
        yield "trains differently after eval() and train() than without them"
    if not bool(torch.isfinite(kept).all()):
        yield "has weights that are not finite after eval()"


def _divides(one: Any) -> Iterator[str]:
    """Report an optimizer that sets `zero_stages` but trains flat pieces of all weights, as ZeRO makes them, differently from the weights
    themselves.
    """
    if not zero_stages_of(one):
        return
    whole = _Trial(one)
    count = whole.weights.numel()
    flat = _Trial(one, shapes={"0": (count // 2,), "1": (count - count // 2,)}, whole=whole.weights)
    if float((whole.steps(0, STEPS).weights - flat.steps(0, STEPS).weights).abs().max()) > SAME:
        yield "sets zero_stages, but trains differently on flat pieces of many weights, as ZeRO makes them"
    optimizer = flat.engine.optimizer
    for parameter in flat.parameters.values():
        for kind, value in optimizer.state[parameter].items():
            if isinstance(value, Tensor) and value.numel() > 1 and value.shape != parameter.shape:
                yield f'sets zero_stages, but keeps "{kind}" in a shape other than that of the weights, which ZeRO cannot shard'
                return


def _updates_alone(one: Any) -> Iterator[str]:
    """Report an optimizer that sets `updates_alone` but trains differently if it updates one weight after another."""
    if not getattr(one, "updates_alone", False):
        return
    whole, alone = (_Trial(one, apart=0.0, alone=alone).steps(0, STEPS).weights for alone in (False, True))
    if float((whole - alone).abs().max()) > SAME:
        yield "sets updates_alone, but trains differently if it updates one weight after another"
