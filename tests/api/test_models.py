"""Models through the public door: what a file holds, and the codecs that go with a model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ltxcore.api import CheckpointError
from ltxcore.api.models import Codecs, Inventory, inspect_model


def test_the_model_that_comes_with_ltx_is_inspected_without_torch() -> None:
    found = inspect_model(Path("tiny"))
    assert isinstance(found, Inventory)
    assert (found.generation, found.num_layers, len(found.parts)) == ("tiny", 4, 3)
    code = "import sys; from pathlib import Path; from ltxcore.api.models import inspect_model; inspect_model(Path('tiny')); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no such file or folder"):
        inspect_model(tmp_path / "x.safetensors")


def test_the_codecs_of_a_model_encode_and_decode() -> None:
    codec = Codecs("tiny", device="cpu").video()
    clip = codec.decode(torch.zeros(128, 2, 1, 1), 24.0)
    assert clip.frames.shape == (9, 32, 32, 3)
