"""Several LoRAs on one model, each with a strength."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
import torch

from helpers.golden_models import BOTH, random_input
from helpers.lora_files import read_pairs
from ltxcore.config.loras import Strength
from ltxcore.errors import CheckpointError, ConfigError, LtxError
from ltxcore.models.adapter_types import Adapter
from ltxcore.models.load_base import load_backbone
from ltxcore.models.lora import add_lora, lora_parameters, save_lora
from ltxcore.models.lora_file import LoraFile
from ltxcore.models.lora_stack import load_loras, summed
from ltxplugins.adapters.lora import Lora

AUDIO = frozenset({"audio"})


def tiny(modalities: frozenset[str] = BOTH):
    return load_backbone("tiny-untrained", modalities, dtype=torch.float32)


def lora(path: Path, targets: list[str], seed: int, rank: int = 2, modalities: frozenset[str] = BOTH, **options: object) -> Path:
    backbone = tiny(modalities)
    add_lora(backbone, rank=rank, alpha=rank, dropout=0.0, target_modules=targets, **options)
    generator = torch.Generator().manual_seed(seed)
    for parameter in lora_parameters(backbone).values():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    save_lora(backbone, path, metadata={}, dtype=torch.float32)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("loras")
    lora(folder / "one.safetensors", ["attn1.to_q", "audio_attn1.to_q"], 1)
    lora(folder / "two.safetensors", ["audio_attn1.to_q", "audio_ff.net.2"], 2, rank=3)
    lora(folder / "sound.safetensors", ["audio_attn1.to_k"], 3, modalities=AUDIO)
    return folder


def merged(backbone, loras: list[tuple[Path, float]]):
    """The sum of what files change, added to the weights themselves."""
    with torch.no_grad():
        for path, strength in loras:
            for name, (a, b) in read_pairs(path).items():
                backbone.transformer.get_submodule(name).weight.add_(strength * b @ a)
    return backbone


def said(backbone):
    with torch.no_grad():
        return backbone.eval()(random_input("video", 6), random_input("audio", 5))


@pytest.mark.parametrize("strengths", [(1.0,), (0.5,), (1.0, 1.0), (0.8, -0.3)])
def test_loras_change_the_model_as_the_sum_of_their_products_does(strengths: tuple[float, ...], files: Path) -> None:
    chosen = list(zip((files / "one.safetensors", files / "two.safetensors"), strengths, strict=False))
    stacked = tiny()
    load_loras(stacked, [Strength(path, strength) for path, strength in chosen])
    found, expected, bare = said(stacked), said(merged(tiny(), chosen)), said(tiny())
    for modality in BOTH:
        torch.testing.assert_close(found[modality], expected[modality], rtol=1e-4, atol=1e-5)
        assert not torch.allclose(found[modality], bare[modality], atol=1e-3)


def test_no_lora_leaves_the_model_without_adapters() -> None:
    backbone = tiny()
    load_loras(backbone, [])
    assert lora_parameters(backbone) == {}


def test_modules_of_a_stream_that_is_not_loaded_are_left_out(files: Path) -> None:
    backbone = tiny(AUDIO)
    load_loras(backbone, [Strength(files / "one.safetensors", 0.5)])
    assert {name.split(".")[3] for name in lora_parameters(backbone)} == {"audio_attn1"}


def refused(backbone, *loras: Strength, folder: Path) -> str:
    with pytest.raises(LtxError) as error:
        load_loras(backbone, loras)
    return str(error.value).replace(str(folder), "TMP")


def test_a_lora_that_changes_nothing_of_what_is_drawn_is_refused(files: Path) -> None:
    assert refused(tiny(frozenset({"video"})), Strength(files / "sound.safetensors"), folder=files) == (
        "TMP/sound.safetensors: the LoRA has no effect: its modules belong to audio, but video is generated\n"
        "    Generate the modality that the LoRA was trained for."
    )


def test_a_dora_is_used_alone_and_as_it_is(files: Path, tmp_path: Path) -> None:
    path = lora(tmp_path / "dora.safetensors", ["audio_attn1.to_q"], 4, type="dora")
    alone = tiny()
    load_loras(alone, [Strength(path)])
    assert not torch.allclose(said(alone)["audio"], said(tiny())["audio"], atol=1e-3)
    message = (
        'TMP/dora.safetensors: the adapters are of the type "dora", which cannot have a strength or be combined with other LoRAs\n'
        "    Use this LoRA alone and without a strength."
    )
    assert refused(tiny(), Strength(path, 0.5), folder=tmp_path) == message
    assert refused(tiny(), Strength(files / "one.safetensors"), Strength(path), folder=tmp_path) == message


def test_a_file_of_another_model_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"conv.weight": torch.ones(2, 2)}, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError):
        load_loras(tiny(), [Strength(tmp_path / "x.safetensors")])


def test_a_strength_is_written_behind_the_file(files: Path, tmp_path: Path) -> None:
    path = files / "one.safetensors"
    assert Strength.parse(str(path)) == Strength(path, 1.0)
    assert Strength.parse(f"{path}:0.8") == Strength(path, 0.8)
    assert Strength.parse(f"{path}:-1") == Strength(path, -1.0)
    odd = tmp_path / "a:2.safetensors"
    odd.write_bytes(path.read_bytes())
    assert Strength.parse(str(odd)) == Strength(odd)
    assert Strength.parse(f"{odd}:3") == Strength(odd, 3.0)
    assert Strength(path).metadata["rank"] == "2"
    for number in ("nan", "inf", "1e999"):
        with pytest.raises(ConfigError) as error:
            Strength.parse(f"{path}:{number}")
        assert str(error.value) == f"{path}: the strength {number} is not a finite number\n    Give a number, such as 0.8."
    for text, shown in (("gone.safetensors", "gone.safetensors"), (f"{path}:strong", f"{path}:strong"), ("gone:0.5", "gone")):
        with pytest.raises(ConfigError) as error:
            Strength.parse(text)
        assert str(error.value) == f"there is no file {shown}\n    Name a LoRA file, such as lora.safetensors or lora.safetensors:0.8."


def test_adapters_of_a_type_with_other_keys_are_not_added() -> None:
    @attrs.frozen
    class Scaled(Lora):
        scale: float = 1.0

    files = [LoraFile(Adapter("scaled", Scaled(scale=scale)), {}, {}) for scale in (1.0, 2.0)]
    with pytest.raises(CheckpointError) as error:
        summed([Strength(Path("a")), Strength(Path("b"))], files)
    assert str(error.value).startswith(
        'b: the keys of the type "scaled" have other values here than in a, so the adapters cannot be combined'
    )
