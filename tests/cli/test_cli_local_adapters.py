"""A type of adapters in a Python file, named by `--plugin` or by a run file, is known to every command that reads a LoRA file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from helpers.training_runs import ONLY_TINY
from ltxcore.cli.main import main
from ltxcore.models.load_base import load_backbone
from ltxcore.models.lora import add_lora, lora_parameters, save_lora
from ltxcore.registry import load_with

SHIFT = """
from collections.abc import Mapping
from typing import ClassVar

import attrs
from ltxcore.api import hookimpl
from ltxcore.api.adapters import AdapterShape


@attrs.frozen
class Shift:
    file_names: ClassVar[Mapping[str, str]] = {"shift": "shift"}
    takes_dropout = False

    def wrap(self, linear, settings):
        import torch
        from torch import nn

        class Shifted(nn.Module):
            def __init__(self):
                super().__init__()
                self.linear = linear
                self.shift = nn.Parameter(torch.zeros(linear.in_features))

            def forward(self, x):
                return self.linear(x) + (x * self.shift).sum(dim=-1, keepdim=True).to(x.dtype)

        return Shifted()

    def tensors(self, layer):
        return {"shift": layer.shift}

    def shapes(self, outputs, inputs, settings):
        return {"shift": (inputs,)}

    def start(self, layer, linear, generator):
        layer.shift.zero_()

    def weight(self, layer, base):
        return base + layer.shift

    def measure(self, shapes):
        return AdapterShape(None, shapes["shift"][0]) if "shift" in shapes else None


@hookimpl
def ltx_adapters():
    return {"shift": Shift}
"""

QUICK = (
    "--model",
    "tiny",
    "--inference-steps",
    "2",
    "--device",
    "cpu",
    "--audio-cfg-scale=1",
    "--audio-stg-scale=0",
    "--no-generate-video",
)
UNKNOWN = 'the adapters are of the type "shift", which no installed plugin provides\n    Install the plugin that the LoRA was trained with, or name its file with --plugin.'


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("loras")
    plugin = folder / "shift.py"
    plugin.write_text(SHIFT)
    adapter = load_with([plugin]).get("adapter", "shift").value()
    for name in ("a", "b"):
        backbone = load_backbone("tiny", frozenset({"audio"}), dtype=torch.float32)
        add_lora(backbone, rank=1, alpha=1, dropout=0.0, target_modules=["audio_attn1.to_q"], type="shift", adapter=adapter)
        for parameter in lora_parameters(backbone).values():
            parameter.data = torch.full(parameter.shape, 0.3)
        save_lora(backbone, folder / f"{name}.safetensors", metadata={}, dtype=torch.float32)
    (folder / "run.toml").write_text('plugins = ["shift.py"]\n[model]\nmodel_path = "tiny"\n[[validation.samples]]\nprompt = "a hum"\n')
    return folder


@pytest.fixture
def folder(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(made)
    return made


def ltx(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, arguments)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


COMMANDS: Sequence[tuple[Sequence[str], str, int]] = [
    (("sample", "a hum", *QUICK, "--lora", "a.safetensors", "-o", "a.wav"), "a.wav\n", 0),
    (("export", "a.safetensors", "--for", "comfyui", "-o", "c.safetensors"), '"comfyui" cannot load adapters of the type "shift"', 2),
    (("model", "a.safetensors"), "kind        shift", 0),
    (("lora", "average", "a.safetensors", "b.safetensors", "-o", "c.safetensors"), "c.safetensors: the average of 2 LoRAs", 0),
]


@pytest.mark.parametrize(("command", "said", "status"), COMMANDS, ids=lambda value: value[0] if isinstance(value, tuple) else None)
def test_a_command_that_reads_a_lora_knows_its_type_from_a_python_file(
    command: Sequence[str], said: str, status: int, folder: Path
) -> None:
    assert ltx(*command) == (2, f"a.safetensors: {UNKNOWN}\n")
    found, told = ltx(*command, "--plugin", "shift.py")
    assert (found, said in told) == (status, True), told


def test_samples_of_a_run_file_know_the_types_of_its_python_files_which_an_option_may_name_again(folder: Path) -> None:
    command = ("sample", "run.toml", *QUICK, "--lora", "a.safetensors", "-o", "run.wav")
    assert ltx(*command) == (0, f"run.wav\n{ONLY_TINY}")
    assert ltx(*command, "--overwrite", "--plugin", "shift.py") == (0, f"run.wav\n{ONLY_TINY}")
