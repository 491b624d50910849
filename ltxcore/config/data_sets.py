# ruff: noqa: RUF009 (`key` makes an attrs field, not a shared default)
"""The tables `[[data.sets]]` of the run file: several sets that a run trains on, instead of one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from ltxcore.addresses import Address
from ltxcore.config.parts import evolved
from ltxcore.config.tables import Finding, key
from ltxcore.files import is_file, is_folder

if TYPE_CHECKING:
    from ltxcore.config.load import LoadedRun

ENCODED = ".precomputed"
"""The end of the names of folders that `ltx preprocess` writes to by default."""


def dataset_key() -> Any:
    """Return the key that names raw media, for a table of data."""
    files = "a folder, or a JSONL, JSON, CSV, TSV or Parquet file that lists them"
    return key(None, help=f"raw media, which are encoded on first use: {files}", reads="either")


def missing_key() -> Any:
    """Return the key that says what becomes of samples without video or without audio, for a table of data."""
    return key(
        "refuse",
        help='samples without video or without audio, in a run that has both: "refuse" reports them or leaves them out, as '
        'preprocessing.on_error says; with "train_without", they train the modality that they have',
    )


def root_key() -> Any:
    """Return the key that names the folder of encoded samples, for a table of data."""
    return key(
        None,
        help="folder of the encoded set, or its address, such as s3://bucket/set; if `dataset` is set too, it is encoded into this folder on "
        "first use",
    )


@attrs.frozen(kw_only=True)
class SetTable:
    """`[[data.sets]]`: one of several sets that a run trains on."""

    name: str | None = key(None, help="name of the set in messages and metrics; by default that of its folder or file")
    dataset: Path | None = dataset_key()
    preprocessed_data_root: Path | Address | None = root_key()
    repeats: int | None = key(
        None, help="number of times that each sample is seen in a pass over the data; by default once", at_least=1, at_most=10_000
    )
    weight: float | None = key(
        None,
        help="share of the training samples that come from this set, relative to the weights of the other sets; instead of `repeats`",
        above=0,
        at_most=1_000_000,
    )
    caption_prefix: str | None = key(
        None, help="text put before every caption of this set, after the trigger word; by default preprocessing.caption_prefix"
    )
    held_out: int | float | None = key(
        None, help="samples of this set that are held out: a number or a share; by default what data.held_out says, for each set"
    )

    def problems(self) -> list[Finding]:
        found: list[Finding] = []
        if self.name is not None and not re.fullmatch(r"[\w.-]+", self.name):
            found.append((("name",), f'"{self.name}" cannot be the name of a set', "Use letters, digits, dots, - and _."))
        if self.repeats is not None and self.weight is not None:
            found.append((("weight",), "says how often the samples are seen, as repeats does", "Keep one of the two."))
        if self.caption_prefix is not None and self.dataset is None and self.preprocessed_data_root is not None:
            what = "is put before captions when they are encoded, but those of this set are encoded already"
            found.append((("caption_prefix",), what, "Set dataset, or remove the key."))
        found += ((("held_out",), what, remedy) for what, remedy in share_faults(self.held_out))
        found += root_faults(self.dataset, self.preprocessed_data_root)
        return found

    def absent(self) -> Iterator[Finding]:
        """Yield a problem if the table names no data, or data that are missing on this machine."""
        return missing_data(self.dataset, self.preprocessed_data_root)


def missing_data(dataset: Path | None, root: Path | Address | None) -> Iterator[Finding]:
    """Yield a problem if a table with these two keys names no data, or data that are missing on this machine."""
    if dataset is None and root is None:
        remedy = "Set dataset to a folder of media or a file that lists them, or preprocessed_data_root to the folder of a set that is already encoded."
        yield (), "does not name any data to train on", remedy
    elif dataset is not None and not (is_file(dataset) or is_folder(dataset)):
        yield ("dataset",), f"there is no file or folder {dataset}", "Paths are relative to the run file."
    elif dataset is None and isinstance(root, Path) and not is_folder(root):
        remedy = "Correct the path, or set dataset, so that the data are encoded on first use."
        yield ("preprocessed_data_root",), f"there is no folder {root}", remedy


def root_faults(dataset: Path | None, root: Path | Address | None) -> list[Finding]:
    """Return what is wrong with these two keys of a table together, and what to do about it."""
    if dataset is None or not isinstance(root, Address):
        return []
    remedy = f"Encode into a folder of this machine, and copy it there with `ltx shard SET --to {root}`; or remove dataset, to train on what is there."
    return [(("preprocessed_data_root",), "is an address, but data can be encoded only into a folder of this machine", remedy)]


def share_faults(held_out: object) -> list[tuple[str, str]]:
    """Return what is wrong with a number or a share of samples to hold out, and what to do about it."""
    if isinstance(held_out, int) and held_out < 0:
        return [(f"must be at least 0, not {held_out}", "")]
    if isinstance(held_out, float) and not 0 <= held_out < 1:
        return [(f"a share must be at least 0 and below 1, not {held_out}", "Write a whole number for a number of samples.")]
    return []


def set_names(sets: Sequence[SetTable]) -> list[str]:
    """Return the names of sets, by default those of their folders or files, without characters that names may not have."""
    return [table.name if table.name is not None else _name_of(table, number) for number, table in enumerate(sets, 1)]


def _name_of(table: SetTable, number: int) -> str:
    path = table.dataset or table.preprocessed_data_root or Path()
    path = path.parent if isinstance(path, Path) and path.name == ENCODED else path
    name = path.name if isinstance(path, Address) or is_folder(path) else path.stem
    return re.sub(r"[^\w.-]+", "_", name.removesuffix(ENCODED)).strip("._") or f"set_{number}"


def faults_of_sets(sets: Sequence[SetTable], held_out: object) -> Iterator[Finding]:
    """Yield what is wrong with sets taken together: names, folders and shares that conflict with those of other sets.

    Args:
        sets: the sets.
        held_out: what `[data]` says about clips that are held out.
    """
    names = set_names(sets)
    weighted = [name for name, table in zip(names, sets, strict=True) if table.weight is not None]
    for index, (name, table) in enumerate(zip(names, sets, strict=True)):
        before = sets[:index]
        if name in names[:index]:
            yield ("sets", index, "name"), f'another set is called "{name}" too', "Give each set a name of its own."
        for key_ in ("dataset", "preprocessed_data_root"):
            path = getattr(table, key_)
            other = next((names[i] for i, each in enumerate(before) if path is not None and getattr(each, key_) == path), None)
            if other is not None:
                merge = "Merge the two sets: repeats or weight says how often they are seen."
                remedy = merge if key_ == "dataset" or table.dataset is None else "Name a folder for each set."
                yield ("sets", index, key_), f'is also the one of the set "{other}"', remedy
        if weighted and table.weight is None:
            what = f'has no weight, although the set "{weighted[0]}" has one'
            yield ("sets", index), what, "Set weight in all sets or in none; repeats and weights do not go together."
        if isinstance(held_out, Path) and table.held_out is not None:
            yield ("sets", index, "held_out"), "the clips to hold out are a dataset of their own: data.held_out", "Keep one of the two."


def of_set(loaded: LoadedRun, index: int) -> LoadedRun:
    """Return a run file as if it named one of its sets alone. Messages still name the keys of that set."""
    table, config = loaded.config.data.sets[index], loaded.config
    data = evolved(
        config.data,
        dataset=table.dataset,
        preprocessed_data_root=table.preprocessed_data_root,
        held_out=config.data.held_out if table.held_out is None else table.held_out,
        sets=[],
    )
    prefix = {} if table.caption_prefix is None else {"caption_prefix": table.caption_prefix}
    return attrs.evolve(
        loaded, config=evolved(config, data=data, preprocessing=evolved(config.preprocessing, **prefix)), at={"data": f"data.sets.{index}"}
    )
