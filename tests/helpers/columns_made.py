"""Columns of a stranger and a condition that reads one, and options that know them."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs
from torch import Tensor

from ltxcore.api import DataError, Inputs, LatentState, Role, hookimpl
from ltxcore.api.columns import Cell
from ltxcore.config.preprocessing import PreprocessingTable
from ltxcore.registry import Named, Origin, Registry, load

ORIGIN = Origin("pace", "ltx-pace", "1.0")


@attrs.frozen
class Speed:
    """One number for each frame of a clip."""

    kind = "values"
    modality = "video"
    shape: ClassVar = ("F",)

    unit: float = 1.0

    def encode(self, cell: Cell) -> Tensor:
        return cell.per_latent_frame(cell.numbers()) / self.unit


@attrs.frozen
class Box:
    """The part of a picture that is given, as [top, left, bottom, right] in shares of it."""

    kind = "mask"
    modality = "video"
    folder = "boxes"
    names = ("box", "region")

    def encode(self, cell: Cell) -> Tensor:
        import torch

        box = cell.numbers()
        if box.shape != (4,) or not bool(((box >= 0) & (box <= 1)).all()):
            raise DataError("is no box", remedy="Write [top, left, bottom, right], each from 0 to 1.")
        grid = cell.target.grid
        top, left, bottom, right = (box * torch.tensor([grid.height, grid.width] * 2)).round().int().tolist()
        mask = torch.zeros(cell.target.cells)
        mask[:, top:bottom, left:right] = 1
        return mask


@attrs.frozen
class Depth:
    """Another clip to generate from."""

    kind = "latents"
    modality = "video"
    folder = "depth_latents"


@attrs.frozen
class Paced:
    """A token for each latent frame, which is its speed."""

    modalities = frozenset({"video"})
    roles = (Role("speed", source_key="speed_dir", kind="values", shape=("F",), column="speed"),)
    appends = True

    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        corner = (state.grid.row == 0) & (state.grid.column == 0)
        tokens = inputs.values("speed")[..., None].expand(-1, -1, state.clean.shape[-1])
        return state.append(tokens, state.positions[:, :, : state.num_target][:, :, corner])


@hookimpl
def ltx_columns() -> dict[str, type]:
    return {"speed": Speed, "box": Box, "depth": Depth}


def registry_with(**columns: Any) -> Registry:
    """Ours, and these columns."""
    ours = load(disabled=())
    named = {name: Named(name, "column", cls, ORIGIN) for name, cls in columns.items()}
    condition = {"paced": Named("paced", "condition", Paced, ORIGIN)}
    return Registry({**ours.names, "column": {**ours.of_kind("column"), **named}, "condition": {**ours.of_kind("condition"), **condition}})


def options(encoders: dict[str, Any] | None = None, **keys: Any) -> PreprocessingTable:
    """Options of preprocessing that know these columns besides ours."""
    known = registry_with(speed=Speed, box=Box, depth=Depth)
    return PreprocessingTable(**{"resolution_buckets": "64x64x17", "skip_audio": True, **keys}, registry=known, encoders=encoders or {})
