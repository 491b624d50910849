"""The protocol that plugins follow to add columns of datasets: what a column's class declares, what its method receives, and the shapes of
the values that it returns.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import attrs

from ltxcore.errors import DataError, many
from ltxcore.files import read_regular
from ltxcore.state import Grid

if TYPE_CHECKING:
    from torch import Tensor

Shape = tuple[int | str, ...]
"""The shape of values: numbers, and letters for lengths that differ from sample to sample. "F" is the target's number of
latent frames, or of latent steps of audio; "H" and "W" are its rows and columns of latent cells. Any other letter is a
length of at least 1, the same wherever the letter is repeated.
"""

ENDINGS = (".json", ".csv", ".npy", ".safetensors")
"""The endings of files that `Cell.numbers` reads."""


@attrs.frozen
class Target:
    """The clip or audio that a cell goes with: in preprocessing, that of the cell's row; in generation, the one that is generated.

    Attributes:
        modality: "video" or "audio".
        grid: its latent cells.
        rate: for video, its frames per second; None for an image. For audio, its latent steps per second.
        start: for video, the number of frames of the file before the target's first frame.
    """

    modality: str
    grid: Grid
    rate: float | None
    start: int = 0

    @property
    def cells(self) -> tuple[int, int, int]:
        """The target's latent frames, rows and columns; audio has one row and one column."""
        return self.grid.frames, self.grid.height, self.grid.width

    @property
    def num_frames(self) -> int:
        """For video, the number of pixel frames, counted from frame `start` of the file; for audio, the number of latent steps."""
        return (self.grid.frames - 1) * self.grid.scale[0] + 1 if self.modality == "video" else self.grid.frames


@attrs.frozen(eq=False)
class Cell:
    """A cell of a column, or in generation the file that takes its place.

    Attributes:
        target: the clip or audio that the cell goes with.
        value: the cell's content in the dataset, which is a number, a list or text; None if the cell names a file.
        path: the file that the cell names; None if it names none.
    """

    target: Target
    value: Any = None
    path: Path | None = None

    def numbers(self) -> Tensor:
        """Return the numbers of the cell as float32. The dataset itself may hold them, as a number, a list or a list of lists. Otherwise,
        the cell names a JSON file with such a list, a CSV file with a row of numbers for each entry, a NumPy file, or a safetensors file
        with one tensor.

        Raises:
            DataError: the cell holds something else, or its file cannot be read.
        """
        return tensor_of(self.value) if self.path is None else numbers_in(self.path)

    def per_latent_frame(self, numbers: Tensor) -> Tensor:
        """Average numbers `[N, ...]`, with one entry for each pixel frame of a clip, over the pixel frames of each latent frame, and return
        `[F, ...]`. Entries before the target's first frame (`target.start`) and beyond its last frame are not used.

        The first latent frame covers one pixel frame, and each of the following latent frames covers as many as the VAE joins. For audio,
        there is already one entry for each latent step.

        Source: docs/explanation/arithmetic.md#masks-of-clips

        Raises:
            DataError: there are too few entries.
        """
        import torch

        wanted, step = self.target.num_frames, self.target.grid.scale[0] if self.target.modality == "video" else 1
        before = self.target.start
        if numbers.ndim == 0 or numbers.shape[0] < before + wanted:
            has = "a single number" if numbers.ndim == 0 else many(numbers.shape[0], "entry", "entries")
            of = ("frame", "frames") if self.target.modality == "video" else ("latent step", "latent steps")
            raise DataError(
                f"has {has}, but its {self.target.modality} has {many(before + wanted, *of)}", remedy="Write one entry for each of them."
            )
        numbers = numbers[before:]
        rest = numbers[1:wanted].unflatten(0, (-1, step)).mean(dim=1) if wanted > 1 else numbers[1:wanted]
        return torch.cat([numbers[:1], rest])


class ColumnType(Protocol):
    """The type that the hook `ltx_columns` registers, by the name that the column has in datasets: an attrs class whose
    fields are the keys of `[preprocessing.columns.NAME]`, all with defaults.

    The class says what the column is encoded to:

    - `kind = "latents"`: the column's files are clips or sounds of a modality, and the VAE encodes them like references.
    - `kind = "mask"`: one value in [0, 1] for each latent cell of the target. Without a method `encode`, the column's
      files are pictures, clips or sounds, like the files of other masks.
    - `kind = "values"`: any numbers; `encode` returns the tensor.

    The class may also declare, as class attributes:

    - `folder`: the folder of the encoded samples; by default the column's name.
    - `names`: the names that the column may have in a dataset; by default only the name under which it is registered.
    - `borrowed`: names of columns in datasets of other programs, in groups that are tried one after the other. These
      names are looked for only if a run reads the folder.
    - `cuts_windows = True`: values for frames begin with frame `target.start` of the clip, as those of
      `Cell.per_latent_frame` do. Otherwise such values are refused for windows of a clip that begin later.
    - `version`: a number to raise whenever `encode` changes what it returns, so that samples are encoded again.

    Attributes:
        kind: what the column is encoded to.
        modality: the modality, "video" or "audio", that the column goes with.
        shape: for `kind = "values"`, the shape of the tensor, such as `("F",)` for one number for each latent frame.
    """

    kind: ClassVar[Literal["latents", "mask", "values"]]
    modality: ClassVar[str]
    shape: ClassVar[Shape]

    def encode(self, cell: Cell) -> Tensor:
        """Return the values of a cell. This method must be a pure function; it is used both in preprocessing and in generation.

        A cell whose text is the path of a file has a `path`; one that holds a number, a list, or a list written as text
        has a `value`.

        Raises:
            DataError: the cell cannot be used; the core adds which cell it is.
        """
        ...


def folder_of(name: str, cls: Any) -> str:
    """Return the folder that a column is encoded to."""
    return str(getattr(cls, "folder", name))


def is_folder_name(name: Any) -> bool:
    """Return whether something can be the name of the folder that a column is encoded to."""
    return isinstance(name, str) and bool(name) and "/" not in name and not name.startswith(".")


def encoded_to(cls: Any) -> str:
    """Say what a class of columns is encoded to, such as "values [F] of video"."""
    shape = f" {spelled(cls.shape)}" if cls.kind == "values" else ""
    return f"{cls.kind}{shape} of {cls.modality}"


def has_encode(cls: Any) -> bool:
    """Return whether a class of columns encodes its cells itself, in which case they need not be media files."""
    return callable(getattr(cls, "encode", None))


def faults_of(cls: Any) -> Iterator[str]:
    """Yield what is wrong with the declarations of a column's class."""
    kind, shape = getattr(cls, "kind", None), getattr(cls, "shape", None)
    if kind not in ("latents", "mask", "values"):
        yield f'has kind {kind!r}; it must be "latents", "mask" or "values"'
    if getattr(cls, "modality", None) not in ("video", "audio"):
        yield f'has modality {getattr(cls, "modality", None)!r}; it must be "video" or "audio"'
    if kind == "values" and not has_encode(cls):
        yield "has no method encode(), which makes the values"
    if kind == "latents" and has_encode(cls):
        yield 'has a method encode(), but latents are encoded by the VAE; only a column of kind "mask" or "values" can have one'
    if kind == "values" or shape is not None:
        yield from (f"has shape {shape!r}; {fault}" for fault in faults_of_shape(shape))
    folder = getattr(cls, "folder", None)
    if folder is not None and not is_folder_name(folder):
        yield f"has folder {folder!r}; it must be the name of a folder"
    if not _are_texts(getattr(cls, "names", ())):
        yield f"has names {cls.names!r}; they must be a tuple of names of columns"
    borrowed = getattr(cls, "borrowed", ())
    if not isinstance(borrowed, tuple) or not all(_are_texts(group) for group in borrowed):
        yield f"has borrowed {borrowed!r}; it must be a tuple of tuples of names of columns"
    if not isinstance(getattr(cls, "cuts_windows", False), bool):
        yield f"has cuts_windows {cls.cuts_windows!r}; it must be True or False"
    version = getattr(cls, "version", 1)
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        yield f"has version {version!r}; it must be a whole number of at least 1"
    required = [field.name for field in attrs.fields(cls) if field.init and field.default is attrs.NOTHING]
    if required:
        yield f'has a field "{required[0]}" without a default, which the name of a column alone cannot give'


def _are_texts(names: Any) -> bool:
    return isinstance(names, tuple) and all(isinstance(name, str) and name for name in names)


# ---------------------------------------------------------------- shapes


def faults_of_shape(shape: Any) -> Iterator[str]:
    """Yield what is wrong with a declared shape of values."""
    if not isinstance(shape, tuple) or not all(_is_length(length) for length in shape):
        yield 'it must be a tuple of lengths and capital letters, such as ("F", 6)'


def _is_length(length: Any) -> bool:
    if isinstance(length, str):
        return len(length) == 1 and length.isascii() and length.isupper()
    return isinstance(length, int) and not isinstance(length, bool) and length > 0


def told(shape: Sequence[int | str], cells: Sequence[int]) -> Shape:
    """Return a declared shape in which letters that stand for a target's lengths are replaced by these lengths.

    Args:
        shape: the shape.
        cells: the target's latent frames, rows and columns, or its latent steps alone.
    """
    known = dict(zip("FHW", (*cells, 1, 1), strict=False))
    return tuple(known.get(length, length) if isinstance(length, str) else length for length in shape)


def resolved(shape: Sequence[int | str], cells: Sequence[int], other: int = 1) -> tuple[int, ...]:
    """Return a declared shape as numbers, with `other` for lengths that do not follow from the target; the arguments are as in `told`."""
    return tuple(length if isinstance(length, int) else other for length in told(shape, cells))


def fits(found: Sequence[int], shape: Sequence[int | str], cells: Sequence[int]) -> bool:
    """Return whether a tensor's shape is the declared one; the arguments are as in `told`."""
    known: dict[str, int] = {}
    pairs = zip(found, told(shape, cells), strict=False)
    return len(found) == len(shape) and all(
        size == (length if isinstance(length, int) else known.setdefault(length, size)) for size, length in pairs
    )


def misfit(found: Sequence[int], shape: Sequence[int | str], cells: Sequence[int], taker: str, target: str) -> str:
    """Say how the shape of values differs from the declared one; "" if it does not.

    Args:
        found: the shape of the values.
        shape: the declared shape.
        cells: the target's lengths, as in `told`.
        taker: what declares the shape, in words.
        target: the target, in words.
    """
    if fits(found, shape, cells):
        return ""
    known = told(shape, cells)
    here = f", which is {spelled(known)} for {target}" if known != tuple(shape) else ""
    return f"has values of shape {spelled(found)}, but {taker} takes {spelled(shape)}{here}"


def may_fit(found: Sequence[int | str], shape: Sequence[int | str]) -> bool:
    """Return whether values that are declared with one shape can be taken where another shape is declared. Letters that stand for no length
    of the target may be any length.
    """

    def is_open(length: int | str) -> bool:
        return isinstance(length, str) and length not in "FHW"

    return len(found) == len(shape) and all(one == other or is_open(one) or is_open(other) for one, other in zip(found, shape, strict=True))


def spelled(shape: Sequence[int | str]) -> str:
    """Write a shape, as in `[F, 6]`."""
    return f"[{', '.join(map(str, shape))}]"


# ---------------------------------------------------------------- parameters


Params = Mapping[str, Mapping[str, Any]]
"""The parameters of columns, by the name of the column."""


def spelled_params(params: Params) -> str:
    """Return parameters of columns as JSON, without the columns that have none; "" if no column has any."""
    found = {name: dict(each) for name, each in params.items() if each}
    return json.dumps(found, sort_keys=True) if found else ""


def read_params(text: str) -> dict[str, dict[str, Any]]:
    """Read parameters of columns from JSON; empty text stands for none.

    Raises:
        ValueError: the text is something else.
    """
    try:
        return {name: dict(each.items()) for name, each in json.loads(text or "{}").items()}
    except (AttributeError, RecursionError) as error:
        raise ValueError("these are no parameters of columns") from error


def recorded_params(texts: Iterable[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each column with the parameters that encoded samples record (`Entry.column`), more than once if they record different ones."""
    for text in sorted(set(texts)):
        with suppress(ValueError):  # another program wrote these samples
            yield from read_params(text).items()


# ---------------------------------------------------------------- numbers


def tensor_of(value: Any) -> Tensor:
    """Return a number, or a list of numbers or of such lists, as a float32 tensor.

    Raises:
        DataError: the value is something else.
    """
    import torch

    try:
        if not _is_of_numbers(value):
            raise ValueError
        return torch.tensor(value, dtype=torch.float32)
    except (ValueError, TypeError, OverflowError, RecursionError):
        raise DataError(
            f"holds {_shown(value)}, which is not a list of numbers",
            remedy="Write numbers, or lists of numbers such as [0.5, 1.0]; nested lists must have equal lengths.",
        ) from None


def _shown(value: Any) -> str:
    said = repr(value)
    return said if len(said) <= 60 else f"{said[:57]}..."


def _is_of_numbers(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return bool(value) and all(map(_is_of_numbers, value))
    return isinstance(value, int | float) and not isinstance(value, bool)


def numbers_in(path: Path) -> Tensor:
    """Read the numbers of a file (`ENDINGS`), as float32.

    Raises:
        DataError: the file cannot be read, or does not hold numbers.
    """
    try:
        return _read(path, read_regular(path))
    except DataError as error:
        raise error.at(str(path)) from None
    except OSError as error:
        raise DataError(
            f"cannot be read: {error.strerror}",
            where=str(path),
            remedy="Check that the file exists, and that you have permission to read it.",
        ) from error


def _read(path: Path, data: bytes) -> Tensor:
    import numpy
    import torch

    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise DataError(
            f'is a "{path.suffix}" file, which cannot be read as numbers',
            remedy=f"Write the numbers as {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}.",
        )
    try:
        if ending == ".json":
            return tensor_of(json.loads(data.decode("utf-8-sig")))
        if ending == ".csv":
            return tensor_of(_rows(data.decode("utf-8-sig")))
        if ending == ".npy":
            held = numpy.load(io.BytesIO(data), allow_pickle=False)
            if held.dtype.kind not in "iuf":
                raise DataError(f"holds {held.dtype}, not numbers", remedy="Save the array as float32.")
            return torch.from_numpy(held.astype(numpy.float32))
        import safetensors.torch

        tensors = list(safetensors.torch.load(data).values())
        if len(tensors) != 1 or tensors[0].is_complex():
            held = many(len(tensors), "tensor", "tensors") if len(tensors) != 1 else str(tensors[0].dtype).removeprefix("torch.")
            raise DataError(f"holds {held}, not one tensor of numbers", remedy="Save one tensor, such as float32.")
        return tensors[0].float()
    except (DataError, MemoryError):
        raise
    except Exception as error:  # whatever a damaged file does to what reads it
        told = (str(error).splitlines() or [""])[0]
        raise DataError(f"cannot be read as numbers: {type(error).__name__} {told}".strip(), remedy="Write it again.") from error


def _rows(text: str) -> list[Any]:
    """Return the rows of a CSV file without its heading, as lists of numbers; or as plain numbers, if every row has only one."""
    rows = [row for row in csv.reader(io.StringIO(text)) if row]
    if rows and not any(map(_is_number, rows[0])):
        rows = rows[1:]
    try:
        numbers = [[float(each) for each in row] for row in rows]
    except ValueError:
        wrong = next(each for row in rows for each in row if not _is_number(each))
        remedy = "Write only numbers, with commas between them; a heading may come first."
        raise DataError(f"holds {_shown(wrong)}, which is not a number", remedy=remedy) from None
    return [row[0] for row in numbers] if all(len(row) == 1 for row in numbers) else numbers


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
