"""Model files that are spoiled in one way each, as downloads, repackagers and mistakes spoil them. Nothing here knows how ltx reads them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from helpers.gguf_made import plain, q8_0, write_gguf
from helpers.separate_files import separate
from helpers.whole_models import WHOLE

Tensors = dict[str, Tensor]


def rewritten(path: Path, change: Callable[[Tensors], None]) -> None:
    """Write a safetensors file again with other tensors, and with its metadata."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors = dict(load_file(path))
    change(tensors)
    path.unlink()
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata=metadata)


def _matrix(tensors: Tensors, among: str) -> str:
    """The name of a matrix or kernel of a part."""
    return next(name for name in sorted(tensors) if f".{among}" in f".{name}" and name.endswith("weight") and tensors[name].ndim > 1)


def truncated(path: Path, among: str) -> None:
    path.write_bytes(path.read_bytes()[:-100])


PREFIX = "model.diffusion_model."


def a_pointer(path: Path, among: str) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")


def lacking_a_tensor(path: Path, among: str) -> None:
    rewritten(path, lambda tensors: [tensors.pop(_matrix(tensors, among))])  # type: ignore[arg-type, return-value]


def of_a_wrong_shape(path: Path, among: str) -> None:
    def change(tensors: Tensors) -> None:
        name = _matrix(tensors, among)
        tensors[name] = tensors[name][:-1]

    rewritten(path, change)


def packed(path: Path, among: str) -> None:
    def change(tensors: Tensors) -> None:
        name = _matrix(tensors, among)
        tensors[name] = torch.zeros(tensors[name].shape, dtype=torch.int8)

    rewritten(path, change)


def _in_eight_bits(beside: Callable[[Tensor], Tensors]) -> Callable[[Path, str], None]:
    def spoil(path: Path, among: str) -> None:
        def change(tensors: Tensors) -> None:
            name = _matrix(tensors, among)
            tensors[name] = tensors[name].to(torch.float8_e4m3fn)
            tensors.update({name.removesuffix("weight") + ending: tensor for ending, tensor in beside(tensors[name]).items()})

        rewritten(path, change)

    return spoil


def _text(told: Mapping[str, str]) -> Tensor:
    return torch.tensor(list(json.dumps(told).encode()), dtype=torch.uint8)


SPOILERS: Mapping[str, Callable[[Path, str], None]] = {
    "truncated": truncated,
    "a pointer of Git LFS": a_pointer,
    "lacking a tensor": lacking_a_tensor,
    "of a wrong shape": of_a_wrong_shape,
    "packed in integers": packed,
    "a scale for every few columns": _in_eight_bits(lambda weight: {"weight_scale": torch.ones(weight.shape[0], 3)}),
    "in NVFP4": _in_eight_bits(lambda weight: {"weight_scale": torch.ones(()), "comfy_quant": _text({"format": "nvfp4"})}),
}
"""Ways to spoil a safetensors file in one of its parts, given by a piece of the names of its tensors."""


def with_gguf(folder: Path) -> dict[str, Path]:
    """LTX-2.3 in files of parts, with the transformer in a GGUF file."""
    found = separate(folder)
    path = found["model_path"] / "a.safetensors"
    packed = {name: _packed(name, tensor) for name, tensor in load_file(path).items()}
    path.unlink()
    write_gguf(found["model_path"] / "a.gguf", packed)
    return found


def _packed(name: str, tensor: Tensor) -> tuple[str, tuple[int, ...], bytes]:
    if tensor.ndim == 2 and "transformer_blocks." in name and tensor.shape[1] % 32 == 0:
        return "Q8_0", tuple(tensor.shape), q8_0(tensor)[0]
    return "F32", tuple(tensor.shape), plain(tensor, "F32")


MODELS = {**WHOLE, "separate files": separate, "GGUF": with_gguf}

PARTS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "unified": {
        "transformer": ("ltx-2.3-22b-dev.safetensors", "transformer_blocks.0.attn1.to_q."),
        "connectors": ("ltx-2.3-22b-dev.safetensors", "video_embeddings_connector.transformer_1d_blocks."),
        "video VAE": ("ltx-2.3-22b-dev.safetensors", "vae.decoder."),
        "audio VAE": ("ltx-2.3-22b-dev.safetensors", "audio_vae.encoder."),
        "vocoder": ("ltx-2.3-22b-dev.safetensors", "vocoder."),
        "projection": ("ltx-2.3-22b-dev.safetensors", "text_embedding_projection."),
        "text encoder": ("gemma-3/model.safetensors", "mlp."),
    },
    "unified in 8 bits": {
        "transformer": ("ltx-2.3-22b-dev.safetensors", "transformer_blocks.0.attn1.to_q."),
        "connectors": ("ltx-2.3-22b-dev.safetensors", "video_embeddings_connector.transformer_1d_blocks."),
    },
    "split": {
        "transformer": ("ltx-2.5-22b-dev-transformer-bf16.safetensors", "transformer_blocks.0.attn1.to_q."),
        "connectors": ("ltx-2.5-22b-dev-transformer-bf16.safetensors", "audio_embeddings_connector.transformer_1d_blocks."),
        "text encoder": ("gemma4-with-proj.safetensors", "mlp."),
        "projection": ("gemma4-with-proj.safetensors", "text_embedding_projection."),
        "video VAE": ("video-vae-conv.safetensors", "encoder."),
        "audio VAE": ("audio-vae.safetensors", "audio_vae.decoder."),
        "vocoder": ("audio-vae.safetensors", "vocoder."),
    },
    "folder": {
        "transformer": ("transformer_full/diffusion_pytorch_model.safetensors", "transformer_blocks.0.attn1.to_q."),
        "connectors": ("connectors/diffusion_pytorch_model.safetensors", "video_connector.transformer_blocks."),
        "projection": ("connectors/diffusion_pytorch_model.safetensors", "video_text_proj_in."),
        "text encoder": ("text_encoder/model.safetensors", "mlp."),
        "video VAE": ("vae/diffusion_pytorch_model.safetensors", "encoder."),
        "audio VAE": ("audio_vae/diffusion_pytorch_model.safetensors", "encoder."),
        "vocoder": ("vocoder/diffusion_pytorch_model.safetensors", "conv_in."),
    },
    "separate files": {
        "transformer": ("parts/a.safetensors", "transformer_blocks.0.attn1.to_q."),
        "connectors": ("parts/b.safetensors", "video_embeddings_connector.transformer_1d_blocks."),
        "projection": ("parts/b.safetensors", "text_embedding_projection."),
        "text encoder": ("parts/e.safetensors", "mlp."),
        "video VAE": ("parts/vae/d.safetensors", "decoder."),
        "audio VAE": ("parts/vae/c.safetensors", "audio_vae.decoder."),
        "vocoder": ("parts/vae/c.safetensors", "vocoder."),
    },
    "GGUF": {"transformer": ("parts/a.gguf", "")},
}
"""The parts of each layout: the file that holds one, and a piece of the names of its tensors."""


def _gguf(change: Callable[[dict[str, tuple[str, tuple[int, ...], bytes]], str], object]) -> Callable[[Path, str], None]:
    """Write the transformer of a GGUF file again, with a change of one matrix."""

    def spoil(path: Path, among: str) -> None:
        whole = load_file(path.parents[1] / "source" / "ltx-2.3-22b-dev.safetensors")
        own = {name.removeprefix(PREFIX): tensor for name, tensor in whole.items() if name.startswith(PREFIX) and "connector" not in name}
        tensors = {name: _packed(name, tensor) for name, tensor in own.items()}
        change(tensors, "transformer_blocks.0.attn1.to_q.weight")
        write_gguf(path, tensors)

    return spoil


OF_GGUF: Mapping[str, Callable[[Path, str], None]] = {
    "truncated": truncated,
    "a pointer of Git LFS": a_pointer,
    "lacking a tensor": _gguf(lambda tensors, name: tensors.pop(name)),
    "of a wrong shape": _gguf(lambda tensors, name: tensors.update({name: ("F32", (3, 5), bytes(60))})),
    "packed in integers": _gguf(lambda tensors, name: tensors.update({name: ("IQ4_NL", (64, 64), bytes(64 * 2 * 18))})),
}


def copied(layout: str, made: Path, folder: Path) -> dict[str, str]:
    """Copy a model that was made in `made`; the keys of `[model]` that name it."""
    shutil.copytree(made, folder)
    told = json.loads((folder / "keys.json").read_text())
    return {key: str(folder / path) for key, path in told.items()}


def make(layout: str, folder: Path) -> Path:
    """Make the model of a layout, with a file that says which keys of `[model]` name it."""
    keys = {key: str(path.relative_to(folder)) for key, path in MODELS[layout](folder).items()}
    (folder / "keys.json").write_text(json.dumps(keys))
    return folder


# ---------------------------------------------------------------- LoRAs


TARGETS = ("transformer_blocks.0.attn1.to_q", "transformer_blocks.1.attn2.to_v")


def _pairs(ends: tuple[str, str], named: Callable[[str], str], width: int = 128, alpha: bool = False) -> Tensors:
    generator = torch.Generator().manual_seed(9)
    made = {}
    for target in TARGETS:
        name = named(target)
        made[f"{name}.{ends[0]}"] = torch.randn(2, width, generator=generator)
        made[f"{name}.{ends[1]}"] = torch.randn(width, 2, generator=generator)
        made |= {f"{name}.alpha": torch.tensor(2.0)} if alpha else {}
    return made


def _original(path: str) -> str:
    return f"diffusion_model.{path}"


def _dora() -> Tensors:
    lengths = {f"{_original(each)}.dora_scale": torch.ones(128, 1) for each in TARGETS}
    return _pairs(("lora_A.weight", "lora_B.weight"), _original) | lengths


def _lokr() -> Tensors:
    generator = torch.Generator().manual_seed(9)
    sizes = {"lokr_w1": (4, 4), "lokr_w2": (32, 32)}
    made = {f"{_original(each)}.{name}": torch.randn(size, generator=generator) for each in TARGETS for name, size in sizes.items()}
    return made | {f"{_original(each)}.alpha": torch.tensor(1.0) for each in TARGETS}


def _loha() -> Tensors:
    generator = torch.Generator().manual_seed(9)
    sizes = {"hada_w1_a": (128, 2), "hada_w1_b": (2, 128), "hada_w2_a": (128, 2), "hada_w2_b": (2, 128)}
    made = {f"{_original(each)}.{name}": torch.randn(size, generator=generator) for each in TARGETS for name, size in sizes.items()}
    return made | {f"{_original(each)}.alpha": torch.tensor(2.0) for each in TARGETS}


LORAS: Mapping[str, Callable[[], Tensors]] = {
    "ltx-trainer": lambda: _pairs(("lora_A.weight", "lora_B.weight"), _original),
    "ComfyUI with alpha": lambda: _pairs(("lora_A.weight", "lora_B.weight"), _original, alpha=True),
    "kohya": lambda: _pairs(("lora_down.weight", "lora_up.weight"), lambda path: f"lora_unet_{path.replace('.', '_')}", alpha=True),
    "diffusers": lambda: _pairs(("lora_A.weight", "lora_B.weight"), lambda path: f"transformer.{path}"),
    "PEFT": lambda: _pairs(("lora_A.weight", "lora_B.weight"), lambda path: f"base_model.model.{path}"),
    "DoRA": _dora,
    "LoKr": _lokr,
    "LoHa": _loha,
    "whole differences": lambda: {f"{_original(each)}.diff": torch.ones(128, 128) for each in TARGETS},
}
"""LoRAs of the tiny model, under the names of the programs that write them."""


def _first(tensors: Tensors) -> str:
    return next(name for name in sorted(tensors) if tensors[name].ndim == 2)


def of_another_model(path: Path, among: str) -> None:
    def change(tensors: Tensors) -> None:
        for name in list(tensors):
            tensors[name.replace("blocks.1.", "blocks.39.").replace("blocks_1_", "blocks_39_")] = tensors.pop(name)

    rewritten(path, change)


def of_an_unknown_format(path: Path, among: str) -> None:
    rewritten(path, lambda tensors: tensors.update({"diffusion_model.transformer_blocks.0.attn1.to_q.oft_blocks": torch.ones(2, 2)}))


def of_two_scales(path: Path, among: str) -> None:
    rewritten(path, lambda tensors: tensors.update({f"{_first(tensors).rpartition('.lo')[0]}.alpha": torch.ones(2)}))


def of_connectors(path: Path, among: str) -> None:
    name = "diffusion_model.video_embeddings_connector.transformer_1d_blocks.0.attn1.to_q"
    rewritten(
        path, lambda tensors: tensors.update({f"{name}.lora_A.weight": torch.ones(2, 128), f"{name}.lora_B.weight": torch.ones(128, 2)})
    )


OF_LORAS: Mapping[str, Callable[[Path, str], None]] = {
    "truncated": truncated,
    "a pointer of Git LFS": a_pointer,
    "lacking a tensor": lambda path, among: rewritten(path, lambda tensors: tensors.__delitem__(_first(tensors))),
    "of a wrong shape": lambda path, among: rewritten(path, lambda tensors: tensors.update({_first(tensors): torch.ones(3, 5)})),
    "packed in integers": lambda path, among: rewritten(
        path, lambda tensors: tensors.update({_first(tensors): tensors[_first(tensors)].to(torch.int8)})
    ),
    "of another model": of_another_model,
    "of an unknown format": of_an_unknown_format,
    "of two scales": of_two_scales,
    "of connectors": of_connectors,
}
