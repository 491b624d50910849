"""The engine of a single process, with torch autocast, accumulation, clipping and the optimizer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

import attrs
import torch
from torch.nn import Module, Parameter
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ltxcore.devices import read_together
from ltxcore.engines.average import WeightAverage
from ltxcore.engines.groups import indices_of, parameter_groups, rates_of
from ltxcore.engines.optim import (
    GROUP,
    Built,
    built,
    moved,
    not_finite,
    optimizer_of,
    put_back,
    state_in_host_memory,
    weights_to_keep,
)
from ltxcore.engines.saved import AVERAGE, AVERAGED_STEPS, PARAMETER, average_in, check_saved
from ltxcore.engines.schedules import advance, schedule_of
from ltxcore.engines.tensor_updates import BackwardUpdates, TensorUpdates
from ltxcore.errors import LtxError
from ltxcore.protocols import Backbone, ModelInput

if TYPE_CHECKING:
    from torch import Tensor

    from ltxcore.config.kept_weights import EmaTable
    from ltxcore.config.run_file import OptimizationTable

T = TypeVar("T")

AUTOCAST: Mapping[str, torch.dtype | None] = {"no": None, "bf16": torch.bfloat16}
"""The dtype of matrix products for each `mixed_precision_mode`; None for the dtype of the weights."""


@attrs.define(eq=False)
class SingleEngine:
    """An engine that trains `parameters` of `backbone` in this process.

    Attributes:
        backbone: the model, called with video and audio.
        parameters: the trained parameters, by name.
        optimizer: the optimizer over `parameters`.
        scheduler: the learning-rate schedule, stepped once per optimizer step.
        accumulation: the number of micro-batches per optimizer step.
        max_grad_norm: the norm to which larger gradients are scaled down; 0 for no limit.
        autocast: the dtype of matrix products; None for the dtype of the weights.
        device: the device of the model.
        makes_room: whether the optimizer's state is moved to host memory while nothing is trained.
        updates: the updates of single tensors, for weights in bfloat16; None if the optimizer updates all tensors at once.
        in_backward: the updates within the backward pass; None if `step` makes the updates.
        average: the moving average of the weights; None if the run keeps none.
        indices: the index in `param_groups` of each parameter group, by name.
    """

    backbone: Backbone
    parameters: Mapping[str, Parameter]
    optimizer: Optimizer
    scheduler: LRScheduler
    accumulation: int
    max_grad_norm: float
    autocast: torch.dtype | None
    device: torch.device
    makes_room: bool = False
    updates: TensorUpdates | None = None
    in_backward: BackwardUpdates | None = None
    average: WeightAverage | None = None
    indices: Mapping[str, int] = attrs.field(factory=lambda: {"": 0})
    _built: Built = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._built = built(self.optimizer)

    @property
    def rank(self) -> int:
        return 0

    @property
    def world_size(self) -> int:
        return 1

    @property
    def data_parallel_rank(self) -> int:
        return self.rank

    @property
    def data_parallel_size(self) -> int:
        return self.world_size

    @property
    def learning_rates(self) -> Mapping[str, float]:
        """The learning rate of each parameter group in the next step, by the group's name."""
        return rates_of(self.optimizer, self.indices)

    def forward(self, inputs: Mapping[str, ModelInput], **options: Any) -> dict[str, Tensor]:
        """Return velocities for each modality, `[B, T + R, D]` float32; `options` are passed to the backbone."""
        with torch.autocast(self.device.type, dtype=self.autocast, enabled=self.autocast is not None):
            predicted = self.backbone(inputs.get("video"), inputs.get("audio"), **options)
        return {name: velocity.float() for name, velocity in predicted.items()}

    def backward(self, loss: Tensor, last: bool = True) -> None:
        """Add the gradients of a micro-batch, or of one of its losses, so that a step's gradients are the mean over its micro-batches.

        If weights are updated in the backward pass, this pass is skipped for a loss that is not finite, so that it updates nothing.
        """
        if self.in_backward is None or bool(torch.isfinite(loss.detach())):
            (loss / self.accumulation).backward()

    def step(self, losses: Tensor | None = None, agreed: Callable[[list[float], bool], bool] | None = None) -> float:
        """Clip, update, advance the learning rate and clear the gradients; return the norm before clipping.

        A parameter that no loss of this step reached gets a gradient of zero, as with several processes, so that weight
        decay and momentum still apply. If the norm is not finite, nothing is updated, and the gradients are kept for inspection.

        Args:
            losses: numbers to read from the device together with the norm, `[N]` float32.
            agreed: is called with the values of `losses` and with whether the norm is finite, before anything is updated; it may raise an
                error.
        """
        if self.in_backward is not None:
            if agreed is not None:
                agreed([] if losses is None else losses.tolist(), not self.in_backward.bad)
            found = self.in_backward.norm()
            if math.isfinite(found):
                self._advance()
            return found
        for parameter in self.parameters.values():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in self.parameters.values() if parameter.grad is not None]
        norm = get_total_norm(gradients)
        values, found = read_together(losses, norm)
        is_finite = math.isfinite(found)
        if not (is_finite if agreed is None else agreed(values, is_finite)):
            return found
        if self.max_grad_norm > 0:
            clip_grads_with_norm_(list(self.parameters.values()), self.max_grad_norm, norm)
        if self.updates is None:
            self.optimizer.step()
        else:
            for name in self.parameters:
                self.updates.update(name, self.scheduler.last_epoch)
        self._advance()
        return found

    def _advance(self) -> None:
        self.scheduler.step()
        self.optimizer.zero_grad()
        if self.average is not None:
            self.average.step()

    @property
    def updates_in_backward(self) -> bool:
        return self.in_backward is not None

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Return a context without gradients and without dropout."""
        module = cast(Module, self.backbone)
        training = module.training
        module.eval()
        try:
            with torch.no_grad(), weights_to_keep(self.optimizer, self.parameters.values()):
                yield
        finally:
            module.train(training)

    def averaged(self) -> AbstractContextManager[None]:
        """Return a context in which the trained weights hold their moving average, if the run keeps one; it may be nested."""
        return nullcontext() if self.average is None or self.average.is_in_place else self.average.in_place()

    @contextmanager
    def trying(self) -> Iterator[None]:
        """Return a context that drops, at its end, all gradients that were added in it."""
        try:
            with self.in_backward.off() if self.in_backward is not None else nullcontext():
                yield
        finally:
            for parameter in self.parameters.values():
                parameter.grad = None

    def making_room(self) -> AbstractContextManager[None]:
        """Return a context in which the optimizer's state is in host memory, if the run asks for this. Gradients take no memory after a
        step.
        """
        return state_in_host_memory(self.optimizer) if self.makes_room else nullcontext()

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all processes in order of rank; here, this is only `value`."""
        return [value]

    def total(self, numbers: Sequence[float]) -> list[float]:
        """Return the sum of each number over all processes; here, these are only `numbers`."""
        return [float(number) for number in numbers]

    def first(self, work: Callable[[], T]) -> T:
        """Do `work` on the first process, which is this one."""
        return work()

    def refuse(self, error: LtxError) -> NoReturn:
        """End the run with an error that all processes have encountered."""
        raise error

    def whole(self, key: str) -> Tensor:
        """Return a tensor of the state by key; `parameter/NAME` also works for parameters that are not trained."""
        kind, _, name = key.partition("/")
        if self.average is not None and f"{kind}/" == AVERAGE:
            return self.average.tensors[name]
        parameter = cast(Module, self.backbone).get_parameter(name)
        found: Tensor = parameter.detach() if f"{kind}/" == PARAMETER else self.optimizer.state[parameter][kind]
        return found

    def bad_gradient(self) -> str:
        """If the norm is not finite, return the name of the last parameter, in the model's order, whose gradient is not finite; "" if all
        gradients are finite.

        Gradients flow backwards, so the cause is after this parameter.
        """
        if self.in_backward is not None:
            return self.in_backward.bad
        gradients = {name: parameter.grad for name, parameter in self.parameters.items() if parameter.grad is not None}
        return next(reversed(not_finite(gradients)), "")

    def state(self, moments: bool = True) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return everything that a later process needs to resume exactly: tensors by `KIND/PARAMETER`, and values for JSON.

        Args:
            moments: whether to include the optimizer's moments.
        """
        tensors = {f"parameter/{name}": parameter.detach() for name, parameter in self.parameters.items()}
        numbers: dict[str, int | float] = {}
        if moments:
            for name, parameter in self.parameters.items():
                for kind, value in self.optimizer.state[parameter].items():
                    if isinstance(value, torch.Tensor):
                        # Parameters may share a table; in a file each has a separate copy.
                        tensors[f"{kind}/{name}"] = value.clone() if kind.startswith("qmap") else value
                    else:
                        numbers[f"{kind}/{name}"] = value
        values: dict[str, Any] = {
            "scheduler": self.scheduler.state_dict(),
            "learning_rates": [group["lr"] for group in self.optimizer.param_groups],
        }
        of_groups, groups = moved(self.optimizer, self._built) if moments else ({}, [])
        if self.average is not None:
            tensors |= {f"{AVERAGE}{name}": tensor for name, tensor in self.average.tensors.items()}
            values[AVERAGED_STEPS] = self.average.steps
        return tensors | of_groups, values | {"numbers": numbers, "groups": groups}

    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Resume from what `state` returned. Without moments, the optimizer's moments start at zero.

        Args:
            tensors: the tensors by key.
            values: the values for JSON. If they have "steps" in place of "scheduler", the run's own schedule continues after this number of
                steps, whatever the saved schedule was. What the optimizer found out by itself ("numbers" and "groups") is restored in
                either case.

        Raises:
            CheckpointError: the saved parameters differ from this run's.
        """
        check_saved(tensors, {name: tuple(parameter.shape) for name, parameter in self.parameters.items()})
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(tensors[f"{PARAMETER}{name}"])
        for key, value in tensors.items():
            kind, _, name = key.partition("/")
            if not key.startswith((PARAMETER, AVERAGE, GROUP)):
                # AdamW counts steps in a tensor, which is on the CPU or, if AdamW is fused, on the parameter's device.
                self.optimizer.state[self.parameters[name]][kind] = value.to(self.device, copy=True)
        for key, number in values.get("numbers", {}).items():
            kind, _, name = key.partition("/")
            self.optimizer.state[self.parameters[name]][kind] = number
        put_back(self.optimizer, tensors, values.get("groups", []))
        if self.average is not None:
            self.average.begin(values.get(AVERAGED_STEPS, 0), average_in(tensors))
        if "scheduler" not in values:
            advance(self.scheduler, values["steps"])
            return
        self.scheduler.load_state_dict(dict(values["scheduler"]))
        for group, rate in zip(self.optimizer.param_groups, values["learning_rates"], strict=True):
            group["lr"] = rate


def single_engine(
    backbone: Backbone,
    parameters: Mapping[str, Parameter],
    table: OptimizationTable,
    *,
    precision: str,
    device: torch.device,
    makes_room: bool = False,
    rounding_seed: int | None = None,
    in_backward: bool = False,
    ema: EmaTable | None = None,
) -> SingleEngine:
    """Make an engine for `parameters`.

    Args:
        backbone: the model.
        parameters: the trained parameters, by name.
        table: `[optimization]`.
        precision: a key of `AUTOCAST`.
        device: the device of the model.
        makes_room: whether the optimizer's state is moved to host memory while nothing is trained.
        rounding_seed: the seed of the random bits for stochastic rounding of trained bfloat16 weights; None if there are no such weights.
        in_backward: whether each parameter is updated in the backward pass.
        ema: `[ema]`; None for no average.

    Raises:
        ConfigError: the optimizer is not installed, or the schedule does not accept its parameters.
    """
    optimizer = optimizer_of(table, parameters)
    scheduler = schedule_of(table, optimizer)
    updates = None if rounding_seed is None and not in_backward else TensorUpdates(parameters, optimizer, rounding_seed or 0)
    return SingleEngine(
        backbone=backbone,
        parameters=parameters,
        optimizer=optimizer,
        scheduler=scheduler,
        accumulation=table.gradient_accumulation_steps,
        max_grad_norm=table.max_grad_norm,
        autocast=AUTOCAST[precision],
        device=device,
        makes_room=makes_room,
        updates=updates,
        in_backward=BackwardUpdates(updates, table.max_grad_norm, lambda: scheduler.last_epoch) if updates and in_backward else None,
        average=None if ema is None else WeightAverage.of(ema, parameters),
        indices=indices_of(optimizer, parameter_groups(table, parameters)),
    )
