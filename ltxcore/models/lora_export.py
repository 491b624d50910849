"""Export of a LoRA file for another program: the file is read in any known layout, and written with the names that the
program reads and nothing else.

ComfyUI and ltx-pipelines read the original checkpoints' names with the prefix "diffusion_model.", and ltx-pipelines
applies no alpha; diffusers reads its own names with the prefix "transformer.", and refuses a file with alphas. So alpha
/ rank is always folded into B.

Source: docs/explanation/model-files.md#layouts-that-are-written
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import attrs
import torch
from torch import Tensor

from ltxcore.errors import CheckpointError, ConfigError, Problem, listed, suggestion
from ltxcore.files import replacing
from ltxcore.models.lora_file import read_pairs
from ltxcore.models.parameter_names import LORA_PREFIX, to_original
from ltxcore.safetensors_files import Stored, dtype_of, read_header, write_tensors

_OF_DIFFUSERS = "lora_adapter_metadata"
"""The metadata key for diffusers' alpha and rank, which the export leaves out because alpha is folded in."""


@attrs.frozen
class Layout:
    """The layout that a program reads: the prefix of its names, its name for a module (given the one in diffusers), and
    advice on where its files go.
    """

    prefix: str
    called: Callable[[str], str]
    place: str


LAYOUTS: Mapping[str, Layout] = MappingProxyType(
    {
        "comfyui": Layout(LORA_PREFIX, to_original, "Put it into ComfyUI/models/loras, and load it with the node LoraLoaderModelOnly."),
        "diffusers": Layout("transformer.", str, "Load it with pipeline.load_lora_weights(FILE)."),
        "ltx-pipelines": Layout(LORA_PREFIX, to_original, "Name it to a pipeline: --lora FILE 1.0"),
    }
)
"""The layouts of LoRA files, by the name of the program that reads them."""


@attrs.frozen
class Exported:
    """The record of an exported file: its path, number of modules, ranks, dtype and metadata."""

    path: Path
    modules: int
    ranks: tuple[int, ...]
    dtype: str
    metadata: Mapping[str, str]


def export_lora(source: Path, target: Path, layout: str, *, dtype: torch.dtype | None = None, overwrite: bool = False) -> Exported:
    """Write `source` in the layout of another program, completely or not at all.

    Args:
        source: a LoRA file in any layout that ltx reads.
        target: the file to write.
        layout: a name in LAYOUTS.
        dtype: the dtype of the tensors; None keeps that of `source`.
        overwrite: whether to replace an existing file.

    Raises:
        ConfigError: the program is unknown; or the target exists already, or is the source.
        CheckpointError: the source is not a LoRA of this model, or a pair in it changes nothing or is not finite.
    """
    if layout not in LAYOUTS:
        raise ConfigError(f'there is no layout "{layout}"', remedy=suggestion(layout, LAYOUTS))
    _check_target(source, target, overwrite)
    pairs = read_pairs(source, str(source))
    _check_pairs(pairs, str(source))
    header = read_header(source)
    own = dtype or next(dtype_of(slot) for name, slot in header.slots.items() if not name.endswith(".alpha"))
    said = {key: value for key, value in header.metadata.items() if key != _OF_DIFFUSERS}
    form = LAYOUTS[layout]
    tensors: dict[str, Stored] = {}
    for module, (a, b) in pairs.items():
        base = form.prefix + form.called(module)
        tensors |= {f"{base}.lora_A.weight": _stored(a, own), f"{base}.lora_B.weight": _stored(b, own)}
    with replacing(target) as part:
        write_tensors(part, tensors, {"format": "pt", **said})
        _check_same(part, pairs, own, str(target))
    ranks = tuple(sorted({a.shape[0] for a, _ in pairs.values()}))
    return Exported(target, len(pairs), ranks, str(own).removeprefix("torch."), said)


def _stored(tensor: Tensor, dtype: torch.dtype) -> Stored:
    return Stored(dtype, tuple(tensor.shape), lambda: tensor)


def _check_target(source: Path, target: Path, overwrite: bool) -> None:
    if target.is_dir():
        raise ConfigError("this is a folder", where=str(target), remedy="Name the file to write.")
    if target.exists() and (not overwrite or target.samefile(source)):
        what = "this is the file to export" if target.samefile(source) else "this file already exists"
        raise ConfigError(
            what, where=str(target), remedy="Name another file to write." if overwrite else "Name another file, or use --overwrite."
        )


def _check_pairs(pairs: Mapping[str, tuple[Tensor, Tensor]], where: str) -> None:
    infinite = [to_original(name) for name, (a, b) in pairs.items() if not (bool(a.isfinite().all()) and bool(b.isfinite().all()))]
    # B @ A is zero only if no nonzero column of B meets a nonzero row of A.
    idle = [to_original(name) for name, (a, b) in pairs.items() if not bool((a.abs().amax(dim=1) * b.abs().amax(dim=0)).any())]
    problems = []
    if infinite:
        problems.append(Problem(f"{len(infinite)} adapters have values that are not finite: {listed(infinite)}", where))
    if len(idle) == len(pairs):
        problems.append(Problem("no adapter in it changes anything: all products are zero", where))
    if problems:
        raise CheckpointError.of(problems)


def _check_same(path: Path, pairs: Mapping[str, tuple[Tensor, Tensor]], dtype: torch.dtype, where: str) -> None:
    """Read back the file, and compare it with what was meant to be written."""
    found = read_pairs(path, where)
    same = found.keys() == pairs.keys() and all(
        torch.equal(mine, written.to(dtype).float())
        for name, pair in pairs.items()
        for mine, written in zip(found[name], pair, strict=True)
    )
    if not same:
        raise CheckpointError("the written file reads back differently", where=where, remedy="Check the disk, and export it again.")
