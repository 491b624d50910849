"""Room on the device while nothing is trained: the optimizer's state in CPU memory, and back with the same bits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import Parameter

from engines.test_single import CPU, gradients, one_step, table, tiny
from ltxcore.engines.optim import in_host_memory, state_in_host_memory
from ltxcore.engines.single import single_engine
from ltxcore.models.lora import lora_parameters


def device_names(state: dict[str, Any]) -> dict[str, str]:
    return {kind: value.device.type for kind, value in state.items() if isinstance(value, Tensor)}


def test_the_state_of_an_optimizer_leaves_its_device_and_comes_back_to_it() -> None:
    with FakeTensorMode():  # which knows devices that are not here
        parameter = Parameter(torch.empty(8, 4, device="cuda"))
        optimizer = torch.optim.AdamW([parameter])
        state = optimizer.state[parameter]
        state.update(step=torch.zeros(()), exp_avg=torch.zeros(8, 4, device="cuda"), exp_avg_sq=torch.zeros(8, 4, device="cuda"))
        with state_in_host_memory(optimizer):
            assert device_names(state) == {"step": "cpu", "exp_avg": "cpu", "exp_avg_sq": "cpu"}
            assert parameter.device.type == "cuda"
        assert device_names(state) == {"step": "cpu", "exp_avg": "cuda", "exp_avg_sq": "cuda"}


def test_a_table_that_parameters_share_moves_once_and_is_shared_afterwards() -> None:
    with FakeTensorMode():
        parameters = [Parameter(torch.empty(4, device="cuda")) for _ in range(3)]
        optimizer = torch.optim.AdamW(parameters)
        table = torch.zeros(256, device="cuda")
        for parameter in parameters:
            optimizer.state[parameter].update(step=7, state1=torch.zeros(4, dtype=torch.uint8, device="cuda"), qmap1=table)
        for _ in range(2):
            with state_in_host_memory(optimizer):
                assert {state["state1"].device.type for state in optimizer.state.values()} == {"cpu"}
                assert len({id(state["qmap1"]) for state in optimizer.state.values()}) == 1
        assert len({id(state["qmap1"]) for state in optimizer.state.values()}) == 1
        assert {str(state["qmap1"].device) for state in optimizer.state.values()} == {"cuda:0"}
        assert {state["state1"].dtype for state in optimizer.state.values()} == {torch.uint8}
        assert {state["step"] for state in optimizer.state.values()} == {7}


def test_the_state_comes_back_although_what_was_drawn_meanwhile_failed() -> None:
    with FakeTensorMode():
        parameter = Parameter(torch.empty(4, device="cuda"))
        optimizer = torch.optim.AdamW([parameter])
        optimizer.state[parameter]["exp_avg"] = torch.zeros(4, device="cuda")
        with pytest.raises(RuntimeError, match="out of memory"), state_in_host_memory(optimizer):
            raise RuntimeError("out of memory")
        assert device_names(optimizer.state[parameter]) == {"exp_avg": "cuda"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint8])
def test_a_copy_in_host_memory_has_the_same_bits(dtype: torch.dtype) -> None:
    tensor = torch.arange(24).reshape(4, 6).to(dtype).t()
    copy = in_host_memory(tensor)
    assert torch.equal(copy, tensor)
    assert (copy.dtype, copy.shape, copy.stride()) == (tensor.dtype, tensor.shape, tensor.stride())
    assert copy.data_ptr() != tensor.data_ptr()


@pytest.mark.parametrize(("asked", "meanwhile"), [(True, "cpu"), (False, "cuda")])
def test_the_engine_makes_room_where_the_run_asks_for_it_and_has_no_gradients_by_then(asked: bool, meanwhile: str) -> None:
    backbone = tiny()
    engine = single_engine(backbone, lora_parameters(backbone), table(), precision="no", device=CPU, makes_room=asked)
    one_step(engine, 0)
    assert gradients(engine) == {}
    state = engine.optimizer.state[next(iter(engine.parameters.values()))]
    with FakeTensorMode():
        state["exp_avg"] = torch.zeros(4, device="cuda")
        with engine.making_room():
            assert state["exp_avg"].device.type == meanwhile
        assert state["exp_avg"].device.type == "cuda"
