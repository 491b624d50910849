"""What is said of encoding captions before a run, beside live storages while the real text encoder encodes captions of the full length."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from helpers.official_text import gemma_of, write_gemma3, write_model, write_packed
from ltxcore.codecs.official import text
from ltxcore.config.acceleration import AccelerationTable
from ltxcore.config.run_file import ModelTable, RunFile
from ltxcore.planner.encoding_text import captions_before, encoding_captions, text_encoder_of, why_not_counted
from ltxcore.planner.live import LiveBytes
from planner.measured import alive


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    root = tmp_path_factory.mktemp("captions")
    gemma, packed = write_gemma3(root / "gemma-3"), write_packed(root / "gemma4-with-proj.safetensors")
    return {
        "2.0": (write_model(root / "ltx-2.safetensors", "2.0"), gemma),
        "2.3": (write_model(root / "ltx-2.3.safetensors", "2.3"), gemma),
        "2.5": (write_model(root / "transformer.safetensors", "2.5", {}, gemma_source_checkpoint=gemma_of("gemma4-tiny-ltx-v1")), packed),
    }


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("version", ["2.0", "2.3", "2.5"])
def test_encoding_captions_takes_what_is_said(version: str, count: int, places: dict[str, tuple[Path, Path]]) -> None:
    encoder = text.load(*places[version])
    encoder.encode(["a disc"])  # reads the weights
    weights = sum(each.numel() * each.element_size() for part in encoder.parts for each in part.module.parameters())
    live = LiveBytes(each for each in alive() if each.untyped_storage().nbytes())
    with live:
        encoder.encode(["red " * 1100] * count)
    said = encoding_captions(text.load(*places[version]), count)
    assert said - weights == pytest.approx(live.peak, rel=0.1)


def test_a_text_encoder_elsewhere_is_not_counted(places: dict[str, tuple[Path, Path]], tmp_path: Path) -> None:
    model, gemma = places["2.3"]
    table = ModelTable(model_path=str(model), text_encoder_path=gemma)
    assert text_encoder_of(table) is not None
    assert text_encoder_of(attrs.evolve(table, text_encoder_path=tmp_path / "far")) is None
    assert text_encoder_of(attrs.evolve(table, model_path=str(tmp_path / "far.safetensors"))) is None


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("load_text_encoder_in_8bit", "not counted, because the text encoder has 8-bit weights"),
        ("offload_text_encoder", "not counted, because one layer of the text encoder at a time is on the GPU"),
    ],
)
def test_a_text_encoder_that_needs_less_is_not_counted(key: str, why: str, places: dict[str, tuple[Path, Path]]) -> None:
    model, gemma = places["2.3"]
    whole = RunFile(model=ModelTable(model_path=str(model), text_encoder_path=gemma), training_strategy=None)
    less = attrs.evolve(whole, acceleration=AccelerationTable(**{key: True}))
    assert captions_before(whole) == encoding_captions(text.load(model, gemma), whole.preprocessing.batch_size)
    assert (captions_before(less), why_not_counted(less)) == (None, why)
