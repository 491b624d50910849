"""The state of a ZeRO engine by parameter. Whole tensors are assembled from the parts that the processes hold, and are divided again when a
run resumes.

Thus a saved run does not depend on how it was divided, and any number of processes can resume it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import attrs
import torch
from torch import Tensor
from torch.nn import Parameter

from ltxcore.errors import LtxError


@attrs.define(eq=False)
class ReplacedLinear:
    """DeepSpeed's replacement for `torch.nn.functional.linear` under ZeRO stage 3. It keeps no gathered weight until the backward pass, and
    is installed only where it is needed.

    DeepSpeed itself never removes the replacement. Codecs, text encoders and the next run in this process would then use it too, and its
    results differ from torch's in the last bit.
    """

    _function: Callable[..., Tensor] = attrs.field(factory=lambda: torch.nn.functional.linear)

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Return a context in which DeepSpeed may install its replacement. At the end, the replacement is kept in this object, and torch's
        function is put back.
        """
        plain = torch.nn.functional.linear
        try:
            yield
        finally:
            self._function, torch.nn.functional.linear = torch.nn.functional.linear, plain

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Return a context in which the replacement is installed."""
        plain = torch.nn.functional.linear
        torch.nn.functional.linear = self._function
        try:
            yield
        finally:
            torch.nn.functional.linear = plain


@attrs.frozen(eq=False)
class Divided:
    """The parameters of a DeepSpeed engine. All processes must call every method with the same arguments.

    Attributes:
        engine: DeepSpeed's engine.
        trained: the parameters that the optimizer updates, by name.
        all: all parameters of the model, by name.
        linear: the replacement for `torch.nn.functional.linear` that the model computes with.
        small: the weights that stay whole on every process under stage 3. DeepSpeed would send a message for each of them after every
            update; `gather_small` sends one for all.
    """

    engine: Any
    trained: Mapping[str, Parameter]
    all: Mapping[str, Parameter]
    linear: ReplacedLinear
    small: Sequence[Any] = attrs.field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        if self.is_stage_3:
            object.__setattr__(self, "small", self.optimizer.persistent_parameters)
            self.optimizer.persistent_parameters = []

    @property
    def optimizer(self) -> Any:
        """DeepSpeed's optimizer, which wraps torch's."""
        return self.engine.optimizer

    @property
    def flats(self) -> list[Tensor]:
        """This process's part of the float32 weights, as the tensors that DeepSpeed updates one at a time."""
        for name in ("fp32_partitioned_groups_flat", "single_partition_of_fp32_groups", "fp32_groups_flat_partition"):
            if hasattr(self.optimizer, name):
                return list(getattr(self.optimizer, name))
        raise AttributeError(f"{type(self.optimizer).__name__} keeps its float32 weights where they are not found")

    @property
    def parts(self) -> dict[str, Tensor]:
        """This process's part of each trained weight, float32, as views of `flats`. Weights without a part on this process are left out."""
        if not self.is_stage_3:
            return {name: each._hp_mapping.hp_fragment.detach() for name, each in self.trained.items() if each._hp_mapping is not None}  # type: ignore[attr-defined]
        places = {name: self.optimizer.grad_position[self.optimizer.get_param_id(each)] for name, each in self.trained.items()}
        return {name: self.flats[group].detach().narrow(0, start, size) for name, (group, start, size) in places.items()}

    @torch.no_grad()
    def show_parts(self) -> None:
        """Copy the values of the float32 weights to the model, after something other than an optimizer step changed them."""
        optimizer = self.optimizer
        if not self.is_stage_3:
            optimizer.update_lp_params()
            return
        optimizer._partition_all_parameters()
        for group in range(len(self.flats)):
            optimizer._reassign_or_swap_out_partitioned_parameters(group)
        optimizer._post_step(set())
        self.gather_small()

    @property
    def moments(self) -> list[str]:
        """The names of the tensors in which torch's optimizer keeps one value for every value of a weight; empty before its first step,
        which creates them.
        """
        flat = self.flats[0]
        return [kind for kind, value in self._state(flat).items() if _is_moment(value, flat)]

    @property
    def counts(self) -> dict[str, Any]:
        """The rest of the optimizer's state, which is the same for all parameters, such as the number of finished steps."""
        flat = self.flats[0]
        return {kind: value for kind, value in self._state(flat).items() if not _is_moment(value, flat)}

    @torch.no_grad()
    def whole(self, kind: str, name: str) -> Tensor:
        """Return a whole tensor of a parameter.

        According to `kind`, this is the weight (in float32 if it is trained), a moment, or the number of steps.
        """
        from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

        parameter = self.all[name]
        if kind in self.counts:
            count: Tensor = self.counts[kind].detach().cpu().clone()
            return count
        if kind != "parameter":
            self._link(parameter, kind)
            moment: Tensor = safe_get_full_optimizer_state(parameter, kind)
            return moment.cpu()
        if name in self.trained:
            value: Tensor = safe_get_full_fp32_param(parameter)
            return value.cpu()
        with _gathered([parameter]):
            return parameter.detach().cpu().clone()

    @torch.no_grad()
    def put(self, kind: str, name: str, value: Tensor) -> None:
        """Set what `whole` returns, except for the number of steps, which `start_moments` sets."""
        parameter = self.trained[name]
        value = value.to(device=self.engine.device, dtype=torch.float32)
        if kind != "parameter":
            self._put_part(parameter, value, kind)
            return
        self._put_part(parameter, value, None)
        with _gathered([parameter], modified=True):
            parameter.copy_(value)

    @torch.no_grad()
    def put_part(self, name: str, value: Tensor) -> None:
        """Set this process's part of a whole float32 weight, without copying it to the model."""
        self._put_part(self.trained[name], value.to(device=self.engine.device, dtype=torch.float32), None)

    def start_moments(self, moments: Iterable[str], counts: Mapping[str, Any]) -> None:
        """Create the moments that `put` fills, as torch's optimizer does in its first step, and set the saved counts of steps."""
        for flat in self.flats:
            state = self.optimizer.optimizer.state[flat]
            for kind, count in counts.items():
                # A fused optimizer of torch counts steps on the weights' device.
                state[kind] = count.to(device=flat.device, dtype=torch.float32, copy=True) if isinstance(count, Tensor) else count
            for kind in moments:
                if kind not in state:  # DeepSpeed keeps references to existing tensors
                    state[kind] = torch.zeros_like(flat)
        if hasattr(self.optimizer, "_lazy_init_hp_params_optimizer_state"):
            self.optimizer._lazy_init_hp_params_optimizer_state()

    # ---- gradients

    def early_gradients(self) -> dict[str, Tensor]:
        """Return this process's parts of a step's gradients before DeepSpeed steps, under the stages in which a step clears gradients that
        are not finite.
        """
        if self.is_stage_3:
            return {}
        found = {}
        for name, parameter in self.trained.items():
            mapping = getattr(parameter, "_hp_mapping", None)
            if mapping is not None:
                found[name] = mapping.get_lp_grad_fragment(parameter._index_in_param_group)  # type: ignore[attr-defined]
        return found

    def late_gradients(self) -> dict[str, Tensor]:
        """Return this process's parts of a step's gradients under stage 3, in which gradients still exist after DeepSpeed has refused to
        step.
        """
        if not self.is_stage_3:
            return {}
        from deepspeed.utils import safe_get_local_grad

        return {name: safe_get_local_grad(parameter) for name, parameter in self.trained.items()}

    @torch.no_grad()
    def clear_gradients(self) -> None:
        """Clear the gradients after a step. DeepSpeed would otherwise reuse them for parameters without a gradient in the next step."""
        if not self.is_stage_3:
            return
        self.optimizer.grad_partitions_flat_buffer.zero_()
        for flat in self.flats:
            if flat.grad is not None:  # this is so if the optimizer is in CPU memory
                flat.grad.zero_()

    @contextmanager
    def forgetting_gradients(self) -> Iterator[None]:
        """Return a context, for use between steps, in which backward passes leave nothing behind.

        Gradients are cleared as DeepSpeed clears them when it refuses to step. DeepSpeed's own step cannot be called for this: it would be
        counted, and in bf16 under stages 1 and 2 it would be taken even if no gradient were finite.

        Raises:
            LtxError: gradients are written to NVMe, for which this has not been tested.
        """
        offloads = (self.engine.zero_offload_optimizer(), self.engine.zero_offload_param())
        if any(each is not None and each.device == "nvme" for each in offloads):
            raise LtxError("weights or the optimizer lie on NVMe")
        optimizer = self.optimizer
        passes = getattr(optimizer, "micro_step_id", None)  # from the second pass on, gradients are added to existing ones
        try:
            yield
        finally:
            optimizer.zero_grad()
            for name in ("averaged_gradients", "all_grad_tensors"):
                getattr(optimizer, name, {}).clear()
            if offloads[0] is not None:
                optimizer.reset_cpu_buffers()
            for flat in self.flats:
                if flat.grad is not None:  # this is so if the optimizer is in CPU memory
                    flat.grad.zero_()
            self.clear_gradients()
            if passes is not None:
                optimizer.micro_step_id = passes

    @torch.no_grad()
    def gather_small(self) -> None:
        """Make the weights that stay whole on every process whole again, after an update under stage 3."""
        away = [each for each in self.small if each.ds_status.name == "NOT_AVAILABLE"]
        if away:
            away[0].all_gather_coalesced(away).wait()

    @property
    def is_stage_3(self) -> bool:
        """Whether the weights are divided too, as in stage 3."""
        return bool(self.engine.zero_optimization_partition_weights())

    # ---- parts

    def _link(self, parameter: Any, kind: str) -> None:
        """Let DeepSpeed find the state of every parameter group under stages 1 and 2.

        DeepSpeed itself looks only once, when only the first group has made a step and the other groups have no state yet.
        """
        mapping = getattr(parameter, "_hp_mapping", None)
        if mapping is not None and kind not in (mapping.optim_fragment or ()):
            self.optimizer._hp_optimizer_states_linked = False
            self.optimizer._lazy_init_hp_params_optimizer_state()

    def _state(self, flat: Tensor) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.optimizer.optimizer.state.get(flat, {})
        return found

    def _put_part(self, parameter: Any, value: Tensor, moment: str | None) -> None:
        from deepspeed.utils import (
            safe_set_full_fp32_param,
            safe_set_full_optimizer_state,
            safe_set_local_fp32_param,
            safe_set_local_optimizer_state,
        )

        if not hasattr(parameter, "ds_id"):
            if moment is None:
                safe_set_full_fp32_param(parameter, value)
            else:
                safe_set_full_optimizer_state(parameter, value, moment)
            return
        part = part_of(parameter, value)
        if moment is None:
            safe_set_local_fp32_param(parameter, part)
        else:
            safe_set_local_optimizer_state(parameter, part, moment)


def part_of(parameter: Any, value: Tensor) -> Tensor:
    """Return this process's part of a whole tensor under stage 3. The last part is padded with zeros if the tensor cannot be divided
    evenly.
    """
    import deepspeed

    size = int(parameter.ds_tensor.numel())
    start = size * deepspeed.comm.get_rank(group=parameter.ds_process_group)
    part = value.new_zeros(size)
    mine = value.flatten()[start : start + size]
    part[: mine.numel()] = mine
    return part


def partition(transformer: Any, config: Mapping[str, Any], dtype: torch.dtype) -> None:
    """Divide the weights among the processes block by block, so that no process ever holds more than one whole block.

    Each process gets a copy in `dtype`, since the original weights may be pages of a file, and DeepSpeed writes to what it divides.
    """
    import deepspeed

    for part in (*transformer.transformer_blocks, transformer):
        for parameter in part.parameters():
            if not hasattr(parameter, "ds_id"):
                parameter.data = parameter.data.to(dtype, copy=True)
        deepspeed.zero.Init(module=part, config_dict_or_path=dict(config))


def whole_shape(parameter: Any) -> tuple[int, ...]:
    """Return the shape of a whole parameter, whether or not it is divided."""
    return tuple(getattr(parameter, "ds_shape", parameter.shape))


def _gathered(parameters: Iterable[Parameter], modified: bool = False) -> Any:
    """Return a context in which the parameters are whole. With `modified`, changes on the first process are kept."""
    import deepspeed

    return deepspeed.zero.GatheredParameters(list(parameters), modifier_rank=0 if modified else None)


def _is_moment(value: Any, flat: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == flat.shape


def keys_of(parameters: Mapping[str, Parameter], kinds: Collection[str]) -> Iterator[str]:
    """Return the keys of a saved state in the order in which they are saved."""
    for name in parameters:
        yield f"parameter/{name}"
    for name in parameters:
        yield from (f"{kind}/{name}" for kind in kinds)
