"""A test that holds an optimizer to its protocol, on a few small weights."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module, Parameter
from torch.optim.lr_scheduler import LambdaLR

from ltxcore.config.packages import state_bytes
from ltxcore.config.run_file import OptimizationTable
from ltxcore.engines.optim import has_modes, optimizer_of
from ltxcore.engines.single import SingleEngine
from ltxcore.errors import LtxError
from ltxcore.registry import zero_stages_of
from ltxcore.runs import checkpoint
from ltxcore.testing.keys import faults_of_class
from ltxcore.testing.trials import Findings

Shapes = Mapping[str, tuple[int, ...]]

SHAPES: Shapes = {
    "transformer_blocks.0.attn1.to_q.lora_A.default.weight": (4, 64),
    "transformer_blocks.0.attn1.to_q.lora_B.default.weight": (64, 4),
    "transformer_blocks.0.ff.net.2.weight": (64, 96),
    "transformer_blocks.0.ff.net.2.bias": (64,),
    "transformer_blocks.0.scale_shift_table": (6, 64),
}
"""The shapes of the weights that it is tried on: those of a LoRA, one of which begins at 0 as in a run, and those of a whole model."""

STEPS = 5
LONG = 40
"""The number of steps after which a weight that is drawn to a point must be nearer to it."""

RATE = 1e-2
LESS, MORE = 0.1, 0.5
"""How much too few or too many the stated bytes of a state may be: an optimizer may keep nothing for a weight that begins at 0."""

SAME = 1e-6


def check_optimizer(optimizer: Any, **fields: Any) -> None:
    """Check that an optimizer does what the core relies on: that it learns, resumes to the last bit, and keeps as many
    bytes as it states.

    Args:
        optimizer: an object of the class that `ltx_optimizers` names, or the class.
        fields: the parameters to make an object of the class with.

    Raises:
        AssertionError: for everything that is wrong.
    """
    one: Any = optimizer(**fields) if inspect.isclass(optimizer) else optimizer
    findings = Findings()
    said = f"{type(one).__name__} breaks the protocol of optimizers:"
    for fault in faults_of_class("optimizer", one):
        findings.note(fault)
    findings.tell(said)
    try:
        looks = (_learns, _decays, _keeps, _resumes, _switches, _divides)
        for fault in list(_faults_of_groups(one)) or [fault for look in looks for fault in look(one)]:
            findings.note(fault)
    except LtxError as error:
        findings.note(error.problems[0].what.removeprefix(f'the optimizer "{type(one).__name__}" '))
    except Exception as error:  # noqa: BLE001 - it may raise anything, and is told
        findings.note(f"raises {type(error).__name__}: {error}")
    findings.tell(said)


# ---------------------------------------------------------------- trying it


class _Trial:
    """Weights that are drawn to a point, step by step, by an engine as in a run."""

    def __init__(self, one: Any, weight_decay: float = 0.01, shapes: Shapes = SHAPES, whole: Tensor | None = None) -> None:
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
        table = OptimizationTable(learning_rate=rate, weight_decay=weight_decay, optimizer_type=type(one).__name__, optimizer=one)
        optimizer = optimizer_of(table, self.parameters)
        scheduler = LambdaLR(optimizer, lambda step: 1 - fall * min(step, LONG))
        self.engine = SingleEngine(Module(), self.parameters, optimizer, scheduler, 1, 0.0, None, torch.device("cpu"))  # type: ignore[arg-type]

    @property
    def weights(self) -> Tensor:
        return torch.cat([parameter.detach().flatten() for parameter in self.parameters.values()])

    @property
    def distance(self) -> float:
        return float((self.weights - self.aim).norm())

    def steps(self, first: int, last: int) -> _Trial:
        """Make the steps from one number to another, each with its own gradients."""
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
        yield "has one of train() and eval(), which come together"


def _learns(one: Any) -> Iterator[str]:
    trial = _Trial(one, weight_decay=0.0)
    before, start = trial.distance, trial.weights
    trial.steps(0, LONG)
    if not bool(torch.isfinite(trial.weights).all()):
        yield f"makes weights that are not finite within {LONG} steps"
        return
    if not trial.distance < before:
        yield f"does not come nearer to a point that all gradients show, within {LONG} steps"
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
        yield "does the same with weight decay as without; use that of the groups, or say decays_weights = False"


def _keeps(one: Any) -> Iterator[str]:
    trial = _Trial(one).steps(0, 2)
    said = {name: one.state_bytes(name, shape) for name, shape in SHAPES.items()}
    unknown = [name for name, size in said.items() if size is None]
    if unknown and len(unknown) < len(said):
        yield f"knows the bytes of its state of some parameters, and not of {unknown[0]}"
    kept = {name: state_bytes(trial.engine.optimizer, parameter) for name, parameter in trial.parameters.items()}
    size = sum(each or 0 for each in said.values())
    if not unknown and not (1 - LESS) * sum(kept.values()) <= size <= (1 + MORE) * sum(kept.values()):
        name = max(said, key=lambda name: abs((said[name] or 0) - kept[name]))
        yield f"says that its state of {name}, of shape {SHAPES[name]}, takes {said[name]} bytes, and it takes {kept[name]}"


def _resumes(one: Any) -> Iterator[str]:
    whole = _Trial(one).steps(0, 2 * STEPS)
    first, second = _Trial(one).steps(0, STEPS), _Trial(one)
    with tempfile.TemporaryDirectory() as folder:
        try:
            saved = checkpoint.save(Path(folder), STEPS, {"weights": Path.touch}, first.engine.state())
        except (TypeError, ValueError) as error:
            yield f"keeps what a checkpoint cannot hold, which are tensors, numbers and texts: {error}"
            return
        second.engine.restore(*checkpoint.load_state(saved))
    if not torch.equal(second.steps(STEPS, 2 * STEPS).weights, whole.weights):
        yield "resumes otherwise than it would have gone on: all that it keeps must be in its state, by parameter, and in its param_groups"


def _switches(one: Any) -> Iterator[str]:
    trial, whole = _Trial(one).steps(0, STEPS), _Trial(one).steps(0, 2 * STEPS)
    if not has_modes(trial.engine.optimizer):
        return
    with trial.engine.evaluating():
        kept = trial.weights
    if not torch.equal(trial.steps(STEPS, 2 * STEPS).weights, whole.weights):
        yield "trains otherwise after eval() and train() than without them"
    if not bool(torch.isfinite(kept).all()):
        yield "has weights that are not finite after eval()"


def _divides(one: Any) -> Iterator[str]:
    """Return whether training flat pieces of all weights, as ZeRO hands them out, gives the same result as training the weights."""
    if not zero_stages_of(one):
        return
    whole = _Trial(one)
    count = whole.weights.numel()
    flat = _Trial(one, shapes={"0": (count // 2,), "1": (count - count // 2,)}, whole=whole.weights)
    if float((whole.steps(0, STEPS).weights - flat.steps(0, STEPS).weights).abs().max()) > SAME:
        yield "names zero_stages, but trains otherwise on flat pieces of many weights, which is what ZeRO gives it"
    optimizer = flat.engine.optimizer
    for parameter in flat.parameters.values():
        for kind, value in optimizer.state[parameter].items():
            if isinstance(value, Tensor) and value.numel() > 1 and value.shape != parameter.shape:
                yield f'names zero_stages, but keeps "{kind}" in another shape than the weights, which ZeRO cannot divide'
                return
