"""The test of a column against its protocol, on cells that its author supplies for targets of many shapes, and on cells that do not fit."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor

from ltxcore.columns import Cell, Target, has_encode
from ltxcore.dataset.columns import Column
from ltxcore.encode.cells import values_of
from ltxcore.errors import DataError, LtxError
from ltxcore.state import Grid
from ltxcore.testing.keys import checking
from ltxcore.testing.trials import GRIDS, Findings

NONSENSE: tuple[Any, ...] = ("none", "", [], [[]], [[1.0], [1.0, 2.0]], {"speed": 1.0}, True, float("nan"), [float("inf")] * 5)
"""Values that a user might write in a cell by mistake."""

WHERE = "a trial"


def check_column(column: Any, cell: Callable[[Target], Any] | None = None, *, grids: Sequence[Grid] | None = None, **fields: Any) -> None:
    """Check that a column does what the core relies on: it returns values of the shape that it declares, the same each
    time, for targets of several shapes, and refuses cells that do not fit, with an error that says what to do. A column that
    declares `cuts_windows` is also tried on windows that begin later than their clip.

    Args:
        column: an object of the class that `ltx_columns` names, or the class.
        cell: a function that returns a good cell for a target: what a dataset would hold, or the path of a file. A
            column of media files needs none.
        grids: the latent grids of the targets to try the column on, instead of `ltxcore.testing.trials.GRIDS`.
        fields: the parameters to make an object of the class with.

    Raises:
        AssertionError: there are faults; the error names all of them.
    """
    with checking("column", column, fields) as (one, findings):
        if not has_encode(one):
            return
        if cell is None:
            findings.note("has a method encode(), but no cell to try it on: pass a function that returns one for a target")
            return
        known = Column.of_plugin(type(one).__name__, one)
        rate = 24.0 if one.modality == "video" else 25.0
        targets = [
            Target(one.modality, grid, None if one.modality == "video" and grid.frames == 1 else rate)
            for grid in grids or GRIDS[one.modality]
        ]
        cells = [_cell(cell(target), target) for target in targets]
        for each in cells:
            _try(known, each, findings)
        if not findings.faults:
            _try_others(known, cells, findings)
            _try_windows(known, cell, targets, findings)


def _cell(held: Any, target: Target) -> Cell:
    return Cell(target, path=held) if isinstance(held, Path) else Cell(target, held)


def _try(column: Column, cell: Cell, findings: Findings) -> None:
    """Encode a good cell, and note what is wrong with the result."""
    label = f"{cell.target.modality} of {cell.target.grid}"
    before, held, drawn = copy.deepcopy(column.plugin), copy.deepcopy(cell.value), _random_states()
    beside = _beside(cell)
    first = _made(column, cell)
    second = _made(column, cell)
    if isinstance(first, str):
        findings.note(first, label)
        return
    for fault in _impurities(column, cell, before, held, drawn, beside):
        findings.note(fault, label)
    if not isinstance(second, Tensor) or not torch.equal(first, second):
        findings.note("gives different values when it encodes the same cell again", label)


def _impurities(column: Column, cell: Cell, before: Any, held: Any, drawn: object, beside: object) -> Iterator[str]:
    if column.plugin != before:
        yield "changes itself in encode(); use @attrs.frozen and keep nothing between calls"
    if cell.value != held:
        yield "changes the cell in place; make new tensors instead"
    if _random_states() != drawn:
        yield "draws from a global random number generator, so that its values would differ from one encoding to the next"
    if _beside(cell) != beside:
        yield "writes where the dataset is"


def _try_others(column: Column, cells: Sequence[Cell], findings: Findings) -> None:
    """Encode cells that do not fit; the column must refuse them with a DataError or return values of the right shape."""
    for other in [each.target for each in cells]:
        for cell in cells:
            fault = _refused_in_words(column, Cell(other, cell.value, cell.path))
            if fault:
                findings.note(f"for the cell of another target: {fault}", f"{other.modality} of {other.grid}")
    for held in NONSENSE:
        fault = _refused_in_words(column, Cell(cells[-1].target, held))
        if fault:
            findings.note(f"for the cell {held!r}: {fault}")
    fault = _refused_in_words(column, Cell(cells[-1].target, path=Path("there is no such file.json")))
    if fault:
        findings.note(f"for a file that is not there: {fault}")


def _try_windows(column: Column, cell: Callable[[Target], Any], targets: Sequence[Target], findings: Findings) -> None:
    """Encode windows of clips that begin after their clip does, if the column declares that it cuts them."""
    if not (column.cuts_windows and column.has_frames and column.modality == "video"):
        return
    for target in targets:
        label, step = f"{target.modality} of {target.grid}", target.grid.scale[0]
        longer = attrs.evolve(target, grid=attrs.evolve(target.grid, frames=target.grid.frames + 1))
        window, held = attrs.evolve(target, start=step), cell(longer)
        made, first = _made(column, _cell(held, window)), _made(column, _cell(held, target))
        if isinstance(made, str):
            findings.note(f"declares cuts_windows, but for a window that begins with frame {step}, it {made}", label)
        # A cell may hold the same number for all frames, but a clip that ends before its window does has no values for it.
        beyond = _made(column, _cell(cell(target), window))
        if isinstance(made, Tensor) and isinstance(first, Tensor) and isinstance(beyond, Tensor) and torch.equal(made, first):
            what = f"declares cuts_windows, but values for a window that begins with frame {step} are those of the beginning of the clip"
            findings.note(f"{what}; use target.start", label)


def _made(column: Column, cell: Cell) -> Tensor | str:
    """Return the values that a column makes from a cell, or what is wrong with the column."""
    try:
        return values_of(column, cell, WHERE)
    except DataError as error:
        return f"refuses a good cell: {error.problems[0].what}"
    except LtxError as error:
        return _fault(column, error)
    except Exception as error:  # noqa: BLE001 - it may raise anything, and is told
        return f"raises {type(error).__name__} from encode(): {error}"


def _refused_in_words(column: Column, cell: Cell) -> str:
    """Return what is wrong with the way in which a column takes or refuses a cell; "" if nothing is."""
    try:
        values_of(column, cell, WHERE)
    except DataError as error:
        without = [problem.what for problem in error.problems if not problem.remedy]
        return f'its error does not say what to do about "{without[0]}"' if without else ""
    except LtxError as error:
        return f"{_fault(column, error)}; refuse it with a DataError"
    except Exception as error:  # noqa: BLE001 - as above
        return f"raises {type(error).__name__}: {error}; refuse it with a DataError"
    return ""


def _fault(column: Column, error: LtxError) -> str:
    return error.problems[0].what.removeprefix(f'the column "{column.role}" ')


def _random_states() -> tuple[bytes, object]:
    return bytes(torch.get_rng_state().tolist()), random.getstate()


def _beside(cell: Cell) -> dict[str, tuple[int, int]]:
    """Return the size of each file in the folder of a cell's file, and the time of its last change."""
    files = [] if cell.path is None else [path for path in cell.path.parent.iterdir() if path.is_file()]
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}
