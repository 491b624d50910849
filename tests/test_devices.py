"""What a GPU does differently is asked for in one module, so that a test can put another device in its place."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch

from ltxcore.devices import NO_MPS, copying_stream, device_named, gpus, is_gpu, on_stream, own_device, seeded
from ltxcore.errors import ConfigError
from ltxcore.logs import notice

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


def test_the_processor_has_no_stream() -> None:
    assert copying_stream(torch.device("cpu")) is None
    with on_stream(None):
        pass


def test_a_seed_gives_the_numbers_of_torch_and_leaves_the_generator_where_it_was() -> None:
    torch.manual_seed(5)
    expected, later = torch.rand(3), torch.rand(3)
    torch.manual_seed(5)
    torch.rand(3)
    with seeded(5, torch.device("cpu")):
        assert torch.rand(3).equal(expected)
    assert torch.rand(3).equal(later)


def visible(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    for name in ("LOCAL_RANK", "TORCHELASTIC_RUN_ID", "CROSS_RANK"):
        monkeypatch.delenv(name, raising=False)


def refusal(text: str | None) -> str:
    with pytest.raises(ConfigError) as error:
        device_named(text)
    return str(error.value)


@pytest.mark.parametrize(("text", "count"), [("cpu", 0), ("cuda", 1), ("cuda:0", 1), ("cuda:3", 4)])
def test_a_device_that_is_there_is_taken(monkeypatch: pytest.MonkeyPatch, text: str, count: int) -> None:
    visible(monkeypatch, count)
    assert device_named(text) == text
    assert device_named(None) == ("cuda:0" if count else "cpu")


@pytest.mark.parametrize(
    ("text", "count", "said"),
    [
        ("gpu", 2, '--device: "gpu" is not a device\n    Did you mean cuda? Available: cpu, cuda, cuda:0, cuda:1.'),
        ("gpu", 0, '--device: "gpu" is not a device\n    Available: cpu.'),
        ("cuda:", 1, '--device: "cuda:" is not a device\n    Available: cpu, cuda, cuda:0.'),
        ("cuda:one", 1, '--device: "cuda:one" is not a device\n    Available: cpu, cuda, cuda:0.'),
        ("cpu:1", 0, '--device: "cpu:1" is not a device\n    Available: cpu.'),
        ("", 0, '--device: "" is not a device\n    Available: cpu.'),
        ("cuda:7", 1, '--device: "cuda:7" is not available; 1 is visible, cuda:0\n    Use one of the available GPUs, counted from 0.'),
        (
            "cuda:7",
            4,
            '--device: "cuda:7" is not available; 4 are visible, cuda:0 to cuda:3\n    Use one of the available GPUs, counted from 0.',
        ),
        ("mps", 0, f'--device: "mps", the GPU of a Mac, cannot run the model: {NO_MPS}\n    Leave the device out, or use cpu.'),
    ],
)
def test_a_device_that_is_not_there_is_refused_in_words(monkeypatch: pytest.MonkeyPatch, text: str, count: int, said: str) -> None:
    visible(monkeypatch, count)
    assert refusal(text) == said


def test_why_there_is_no_gpu_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    visible(monkeypatch, 0)
    monkeypatch.setattr(torch.version, "cuda", None)
    assert refusal("cuda").startswith('--device: "cuda" is not available: the installed torch was built for the CPU only')
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert refusal("cuda:1").startswith('--device: "cuda:1" is not available: CUDA_VISIBLE_DEVICES hides every GPU')
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert refusal("cuda").startswith('--device: "cuda" is not available: torch finds no GPU here')


@pytest.mark.parametrize("launched", ["TORCHELASTIC_RUN_ID", "CROSS_RANK"])
def test_more_processes_of_a_launcher_than_gpus_are_refused_and_one_that_sees_its_own_gpu_alone_takes_it(
    monkeypatch: pytest.MonkeyPatch, launched: str
) -> None:
    visible(monkeypatch, 1)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert own_device() == "cuda:0"  # as srun does with one GPU a task
    monkeypatch.setenv(launched, "1")
    with pytest.raises(ConfigError) as error:
        own_device()
    assert str(error.value) == (
        "environment: process 3 has no GPU cuda:3; 1 is visible, cuda:0\n"
        "    Start one process for each GPU, or make more GPUs visible (CUDA_VISIBLE_DEVICES)."
    )


def test_that_the_gpu_of_a_mac_is_not_used_is_said_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    visible(monkeypatch, 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    notice.cache_clear()
    assert [own_device(), own_device()] == ["cpu", "cpu"]
    assert caplog.messages == [f"The GPU of this Mac is not used; everything is computed on its CPU: {NO_MPS}."]
