"""Read Parquet files with pyarrow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ltxcore.api import DataError
from ltxcore.api.commands import listed
from ltxcore.api.sources import Row, Table


def read_parquet(path: Path) -> Table:
    """Return the rows of a Parquet file without the columns that contain whole files; a note names these columns.

    Raises:
        DataError: pyarrow is not installed, or cannot read the file.
    """
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        remedy = 'Run `pip install "ltx[parquet]"`, or write it as .jsonl.'
        raise DataError("is a Parquet file, which needs the package pyarrow", where=str(path), remedy=remedy) from error
    try:
        with parquet.ParquetFile(path) as file:
            fields = list(file.schema_arrow)
            embedded = [field.name for field in fields if _holds_bytes(field.type)]
            rows = file.read(columns=[field.name for field in fields if field.name not in embedded]).to_pylist()
    except (ArrowException, OSError, ValueError) as error:
        remedy = "Write it again, or as .jsonl."
        raise DataError(f"cannot be read as Parquet: {str(error).partition(chr(10))[0]}", where=str(path), remedy=remedy) from error
    names = [field.name for field in fields]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f'names the column "{twice[0]}" twice', where=str(path), remedy="Give each column a name of its own.")
    notes = (f"left out: columns that hold files instead of their paths ({listed(embedded)})",) if embedded else ()
    return Table(path, tuple(Row(number, row) for number, row in enumerate(rows, start=1)), notes=notes)


def _holds_bytes(kind: Any) -> bool:
    """Return whether a column's type is or contains bytes, as for embedded images and audio."""
    from pyarrow import types

    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        return True
    return any(_holds_bytes(kind.field(index).type) for index in range(kind.num_fields))
