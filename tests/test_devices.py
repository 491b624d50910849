"""What a GPU does differently is asked for in one module, so that a test can put another device in its place."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch

from ltxcore.devices import copying_stream, gpus, is_gpu, on_stream, own_device, with_random_state

CORE = Path(__file__).parents[1] / "ltxcore"
QUESTIONS = {"is_available", "device_count", "is_cuda"}


def asks(path: Path) -> list[str]:
    """Where a file asks for a GPU by itself, as `line: what`."""
    tree = ast.parse(path.read_text())
    by_name = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and str(node.value).partition(":")[0] == "cuda"]
    by_call = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr in QUESTIONS]
    return [f"{node.lineno}: {ast.unparse(node)}" for node in (*by_name, *by_call)]


@pytest.mark.parametrize("path", sorted(CORE.rglob("*.py")), ids=lambda path: str(path.relative_to(CORE)))
def test_a_module_asks_for_a_gpu_through_devices_alone(path: Path) -> None:
    assert bool(asks(path)) == (path == CORE / "devices.py")


def test_a_gpu_is_told_by_its_name_and_its_device() -> None:
    assert is_gpu("cuda:1")
    assert is_gpu(torch.device("cuda"))
    assert not is_gpu("cpu")
    assert not is_gpu(torch.device("mps"))


def test_a_process_computes_on_the_gpu_of_its_number_or_on_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert (gpus(), own_device(3)) == (0, "cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert (gpus(), own_device(), own_device(3)) == (4, "cuda:0", "cuda:3")
    monkeypatch.setenv("LOCAL_RANK", "2")
    assert own_device() == "cuda:2"


def test_the_processor_has_no_stream_and_no_random_state_beside_the_global_one() -> None:
    cpu = torch.device("cpu")
    assert copying_stream(cpu) is None
    assert with_random_state(cpu) == []
    assert with_random_state(torch.device("cuda", 1)) == [torch.device("cuda", 1)]
    with on_stream(None):
        pass
