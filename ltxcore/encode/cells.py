"""Encode the cells of columns without media by the columns' plugins, in preprocessing and in generation alike."""

from __future__ import annotations

import attrs
import torch
from torch import Tensor

from ltxcore.columns import Cell, misfit
from ltxcore.dataset.columns import Column
from ltxcore.errors import DataError, LtxError, PluginError

CELLS = {"video": ("F", "H", "W"), "audio": ("F",)}
"""The shape of a mask, by modality."""


def values_of(column: Column, cell: Cell, where: str) -> Tensor:
    """Return the values that the plugin of a column makes from a cell, float32 on the CPU.

    Args:
        column: the column.
        cell: the cell.
        where: the place of the cell, for messages.

    Raises:
        DataError: the cell cannot be used.
        PluginError: the plugin breaks its protocol.
        Exception: any other exception is a mistake in the plugin and keeps its traceback; a note names the column and the place.
    """
    place = f'{where}, column "{column.role}"'
    try:
        made = column.plugin.encode(cell)
    except DataError as error:
        raise DataError.of(attrs.evolve(problem, where=place) for problem in error.problems) from error
    except LtxError as error:
        raise error.at(where) from error
    except Exception as error:
        error.add_note(f'This is a mistake in the column "{column.role}", which encoded {where}.')
        raise
    fault = _fault(column, made)
    if fault:
        raise PluginError(f'the column "{column.role}" {fault}', where=where, remedy="Report this to the author of the column.")
    shape = CELLS[column.modality] if column.kind == "mask" else column.plugin.shape
    what = misfit(made.shape, shape, cell.target.cells, f'the column "{column.role}"', f"its {column.modality}")
    if what:
        remedy = "Write values of that shape; if they have it already, report this to the author of the column."
        raise DataError(what, where=where, remedy=remedy)
    values = made.detach().to("cpu", torch.float32)
    if not bool(values.isfinite().all()):
        raise DataError("the encoded values are not finite", where=place, remedy="Write finite numbers.")
    return values


def _fault(column: Column, made: object) -> str:
    if not isinstance(made, Tensor) or not made.dtype.is_floating_point:
        what = str(made.dtype).removeprefix("torch.") if isinstance(made, Tensor) else type(made).__name__
        return f"gives {what} from encode(), not a floating-point tensor"
    if column.kind == "mask" and bool(((made < 0) | (made > 1)).any()):
        return "gives a mask with values that are not between 0 and 1"
    return ""
