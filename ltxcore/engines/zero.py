"""The engine for several processes. It calls DeepSpeed's ZeRO, stages 1 to 3, directly, with the run's own optimizer and schedule.

Weights are float32, or bf16 with float32 masters. Every process must run the same modules in the same order, since ZeRO would otherwise
wait forever; each forward begins with a small message that checks this.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import attrs
import torch
from torch.nn import Parameter
from torch.optim.lr_scheduler import LRScheduler

from ltxcore.devices import read_together
from ltxcore.engines.average import WeightAverage
from ltxcore.engines.groups import rates_of
from ltxcore.engines.optim import GROUP, Built, are_finite, built, moved, not_finite, put_back
from ltxcore.engines.process_group import Group
from ltxcore.engines.saved import AVERAGE, AVERAGED_STEPS, PARAMETER, average_in, check_saved
from ltxcore.engines.schedules import advance
from ltxcore.engines.zero_state import Divided, keys_of, whole_shape
from ltxcore.errors import LtxError, ProcessError
from ltxcore.protocols import ModelInput
from ltxcore.safetensors_files import Stored

if TYPE_CHECKING:
    from torch import Tensor

    from ltxcore.models.backbone import LTXBackbone

T = TypeVar("T")


@attrs.define(eq=False)
class ZeroEngine:
    """An engine that trains `parameters` of `backbone` in several processes, which all call the same methods in the same order.

    Attributes:
        backbone: the model, called with video and audio; its transformer is DeepSpeed's module.
        parameters: the trained parameters, by name.
        divided: the divided parameters, with access to parts and whole values.
        scheduler: the learning-rate schedule, stepped once per optimizer step.
        group: the processes.
        device: the device of this process.
        accumulation: the number of micro-batches per optimizer step on each process.
        indices: the index in `param_groups` of each parameter group, by name.
        average: this process's part of the weights' moving average; None if the run keeps none.
        sequence_parallel: the number of processes that divide the tokens of a micro-batch among them; 1 for none.
    """

    backbone: LTXBackbone
    parameters: Mapping[str, Parameter]
    divided: Divided
    scheduler: LRScheduler
    group: Group
    device: torch.device
    accumulation: int
    indices: Mapping[str, int]
    average: WeightAverage | None = None
    sequence_parallel: int = 1
    _taken: int = attrs.field(default=0, init=False)
    _bad: str = attrs.field(default="", init=False)
    _built: Built = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._built = built(self.scheduler.optimizer)

    @property
    def rank(self) -> int:
        return self.group.rank

    @property
    def world_size(self) -> int:
        return self.group.world_size

    @property
    def data_parallel_rank(self) -> int:
        return self.rank // self.sequence_parallel

    @property
    def data_parallel_size(self) -> int:
        return self.world_size // self.sequence_parallel

    @property
    def learning_rates(self) -> Mapping[str, float]:
        """The learning rate of each parameter group in the next step, by the group's name."""
        return rates_of(self.scheduler.optimizer, self.indices)

    # ---- training

    def forward(self, inputs: Mapping[str, ModelInput], **options: Any) -> dict[str, Tensor]:
        """Return the velocities for each modality, `[B, T + R, D]` float32; `options` are passed to the backbone.

        Raises:
            ProcessError: the processes call this with different modalities or options.
        """
        number = self.scheduler.last_epoch
        self.group.progress.says(f"step {number + 1}" if torch.is_grad_enabled() else f"evaluating after step {number}")
        self.group.progress.moved()
        self._check_same(called(inputs, options))
        with self.divided.linear.in_place():
            return self.backbone(inputs.get("video"), inputs.get("audio"), runner=self.divided.engine, **options)

    def backward(self, loss: Tensor, last: bool = True) -> None:
        """Add the gradients of a micro-batch's loss, so that a step's gradients are the mean over its micro-batches on all processes.
        `last` is false for all losses of a micro-batch but the last.

        Each process of a group that divides a micro-batch has the part of the gradients that its own tokens give. DeepSpeed takes the mean
        over all processes, so the loss is multiplied by their number to make it the sum within a group.
        """
        self.group.progress.moved()
        engine = self.divided.engine
        engine.set_gradient_accumulation_boundary(last and self._taken == self.accumulation - 1)
        with self.divided.linear.in_place():  # checkpointed blocks are recomputed here
            engine.backward(loss * self.sequence_parallel)
        self._taken += last

    def step(self, losses: Tensor | None = None, agreed: Callable[[list[float], bool], bool] | None = None) -> float:
        """Clip the gradients, update the weights, advance the learning rate and clear the gradients; return the norm before clipping.

        If the norm is not finite, nothing is updated, and `bad_gradient` names the parameter at fault. DeepSpeed itself waits for the
        device for the norm, and computes it only while it updates the weights.

        Args:
            losses: numbers to read from the device, `[N]` float32.
            agreed: is called on every process with the values of `losses` and, under the stages in which a step clears gradients that are
                not finite, with whether this process's gradients are finite, before anything is updated. It returns whether the
                gradients of all processes are finite, and may raise an error.
        """
        self._taken, self._bad = 0, ""
        self.group.progress.moved()
        early = self.divided.early_gradients()
        values, finite = read_together(losses, are_finite(early))
        if not (agreed or self._all_sound)(values, bool(finite)):
            self._bad = self._last_bad(early)
            return math.nan
        self.divided.engine.step()
        norm = float(self.divided.engine.get_global_grad_norm())
        if not math.isfinite(norm):
            self._bad = self._last_bad(self.divided.late_gradients())
            return norm
        self.divided.clear_gradients()
        self.divided.gather_small()
        self.scheduler.step()
        if self.average is not None:
            self.average.step()
        self.group.progress.says(f"after step {self.scheduler.last_epoch}")
        return norm

    def bad_gradient(self) -> str:
        """After a norm that is not finite, return the name of the last parameter, in the model's order, whose gradient is not finite; "" if
        this is not known.
        """
        return self._bad

    @property
    def updates_in_backward(self) -> bool:
        return False

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Return a context without gradients and without dropout."""
        training = self.backbone.training
        self.backbone.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self.backbone.train(training)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Return a context in which the trained weights hold their moving average, if the run keeps one; it may be nested.

        An error within the context ends the run without putting the weights back, since the other processes would not take part.
        """
        if self.average is None or self.average.is_in_place:
            yield
            return
        with self.average.in_place():
            self.divided.show_parts()
            yield
        self.divided.show_parts()

    @contextmanager
    def trying(self) -> Iterator[None]:
        """Return a context that drops, at its end, all gradients that were added in it."""
        with self.divided.forgetting_gradients():
            try:
                yield
            finally:
                self._taken = 0

    def making_room(self) -> AbstractContextManager[None]:
        """Return a context that does nothing. Under ZeRO, `engine.offload` decides what is in host memory during the whole run."""
        return nullcontext()

    # ---- processes

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all processes, in order of rank."""
        return self.group.gather(value)

    def total(self, numbers: Sequence[float]) -> list[float]:
        """Return the sum of each number over all processes, in a single message of tensors."""
        return self.group.total(numbers)

    def first(self, work: Callable[[], T]) -> T:
        """Do `work` on the first process, and return its result on every process.

        Raises:
            LtxError: the error that `work` raised, on the first process; the other processes end.
        """
        return self.group.first(work, self._whole)

    def refuse(self, error: LtxError) -> NoReturn:
        """End the run with an error that all processes have encountered. The first process reports it.

        Raises:
            LtxError: `error` is raised on the first process.
            SystemExit: this is raised on all other processes.
        """
        self.group.refuse(error)

    # ---- state

    def whole(self, key: str) -> Tensor:
        """Return a whole tensor of the state by key, on the CPU. This must be called within `first`. `parameter/NAME` also works for
        parameters that are not trained.
        """
        self.group.progress.says(f"saving after step {self.scheduler.last_epoch}", is_long=True)
        self.group.ask(key)
        return self._whole(key)

    def state(self, moments: bool = True) -> tuple[dict[str, Stored | Tensor], dict[str, Any]]:
        """Return everything that a later process needs to resume exactly: tensors by `KIND/PARAMETER`, and values for JSON.

        This must be called within `first`. Each tensor is assembled only when it is needed, so that no process holds all tensors.

        Args:
            moments: whether to include the optimizer's moments.
        """
        counts = self.divided.counts if moments else {}
        counted = [kind for kind, value in counts.items() if isinstance(value, torch.Tensor)]
        averages = [AVERAGE.rstrip("/")] if self.average is not None else []
        kinds = [*counted, *(self.divided.moments if moments else ()), *averages]
        tensors: dict[str, Stored | Tensor] = {
            key: Stored(torch.float32, () if key.partition("/")[0] in counted else self._shape(key), partial(self.whole, key))
            for key in keys_of(self.parameters, kinds)
        }
        numbers = {f"{kind}/{name}": value for kind, value in counts.items() if kind not in counted for name in self.parameters}
        of_groups, groups = moved(self.scheduler.optimizer, self._built) if moments else ({}, [])
        rates = [group["lr"] for group in self.scheduler.optimizer.param_groups]
        values: dict[str, Any] = {"scheduler": self.scheduler.state_dict(), "learning_rates": rates, "numbers": numbers, "groups": groups}
        if self.average is not None:
            values[AVERAGED_STEPS] = self.average.steps
        return tensors | of_groups, values

    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Resume from what `state` returned in this engine or in another one. Without moments, the optimizer's moments start at zero.

        Args:
            tensors: the tensors by key.
            values: the values for JSON. If they have "steps" in place of "scheduler", the run's own schedule continues after this number of
                steps, whatever the saved schedule was.

        Raises:
            CheckpointError: the saved parameters differ from this run's.
        """
        check_saved(tensors, {name: whole_shape(parameter) for name, parameter in self.parameters.items()})
        first = next(iter(self.parameters))
        of_first = {
            key.partition("/")[0]: tensor
            for key, tensor in tensors.items()
            if key.partition("/")[2] == first and not key.startswith((AVERAGE, GROUP))
        }
        moments = [kind for kind, tensor in of_first.items() if kind != "parameter" and tensor.shape == of_first["parameter"].shape]
        counts = {kind: tensor for kind, tensor in of_first.items() if kind not in ("parameter", *moments)}
        counts |= {key.partition("/")[0]: number for key, number in values.get("numbers", {}).items() if key.partition("/")[2] == first}
        if moments:
            self.divided.start_moments(moments, counts)
        for key in keys_of(self.parameters, moments):
            kind, _, name = key.partition("/")
            self.divided.put(kind, name, tensors[key])
        put_back(self.scheduler.optimizer, tensors, values.get("groups", []))
        if self.average is not None:
            self.average.begin(values.get(AVERAGED_STEPS, 0))
            for name, average in (average_in(tensors) or {}).items():
                with self.average.in_place([name]):
                    self.divided.put_part(name, average)
        if "scheduler" not in values:
            advance(self.scheduler, values["steps"])
            return
        self.scheduler.load_state_dict(dict(values["scheduler"]))
        for group, rate in zip(self.scheduler.optimizer.param_groups, values["learning_rates"], strict=True):
            group["lr"] = rate

    # ---- parts

    def _whole(self, key: str) -> Tensor:
        kind, _, name = key.partition("/")
        if self.average is None or f"{kind}/" != AVERAGE:
            return self.divided.whole(kind, name)
        with self.average.in_place([name]):
            return self.divided.whole(PARAMETER.rstrip("/"), name)

    def _shape(self, key: str) -> tuple[int, ...]:
        return whole_shape(self.parameters[key.partition("/")[2]])

    def _all_sound(self, _: list[float], is_sound: bool) -> bool:
        return self.total([not is_sound])[0] == 0

    def _last_bad(self, gradients: Mapping[str, Tensor]) -> str:
        """Return the name of the last parameter, in the model's order, whose gradient is not finite on some process."""
        bad = {name for names in self.gather(not_finite(gradients)) for name in names}
        return next((name for name in reversed(list(self.parameters)) if name in bad), "")

    def _check_same(self, what: str) -> None:
        if self.group.same(zlib.crc32(what.encode())):
            return
        said = [f"process {rank} {theirs}" for rank, theirs in enumerate(self.gather(what))]
        self.refuse(
            ProcessError(
                f"the processes of this run do not do the same: {', '.join(said)}",
                remedy="Which modalities a run has is decided by its run file and must not depend on the sample; look at the strategy.",
            )
        )


def called(inputs: Mapping[str, ModelInput], options: Mapping[str, Any]) -> str:
    """Describe the modules that a forward pass runs. If two descriptions are equal, the same modules run."""
    streams = " and ".join(f"{'generates' if given.is_generated else 'reads'} {name}" for name, given in sorted(inputs.items()))
    gradients = "" if torch.is_grad_enabled() else " without gradients"
    told = "".join(
        f", {name}={_spelled(value)}" for name, value in sorted(options.items()) if not isinstance(value, Mapping | torch.Tensor)
    )
    return f"{streams or 'runs nothing'}{gradients}{told}"


def _spelled(value: Any) -> str:
    """Return a text for a value. The text is the same on every process, even if the order of a set, or of a mapping made from a set,
    differs between processes.
    """
    if isinstance(value, Mapping):
        return "{" + ", ".join(sorted(f"{key}: {_spelled(inner)}" for key, inner in value.items())) + "}"
    if isinstance(value, set | frozenset):
        return "{" + ", ".join(sorted(map(_spelled, value))) + "}"
    if attrs.has(type(value)):
        fields = (f"{field.name}={_spelled(getattr(value, field.name))}" for field in attrs.fields(type(value)))
        return f"{type(value).__name__}({', '.join(fields)})"
    return repr(value)
