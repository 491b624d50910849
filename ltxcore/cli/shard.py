"""`ltx shard`, which puts the files of an encoded set into a few large files, or back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ltxcore.addresses import address_of
from ltxcore.api.commands import FilePath, FiniteRange
from ltxcore.errors import DataError, many
from ltxcore.files import not_written
from ltxcore.progress import bars

if TYPE_CHECKING:
    from ltxcore.encoded.folders import EncodedSet


@click.command()
@click.argument("encoded_set", type=FilePath())
@click.option(
    "--size",
    type=FiniteRange(min=0, min_open=True),
    default=4.0,
    show_default=True,
    help="Size of a shard in GB, after which the next one begins.",
)
@click.option("--unpack", is_flag=True, help="Move the samples back into files of their own, and remove the shards.")
@click.option(
    "--to",
    "address",
    metavar="ADDRESS",
    help="Copy the set, in shards, to an address such as s3://bucket/set, and leave it as it is. Needs fsspec and its package for that store.",
)
def shard(encoded_set: Path, size: float, unpack: bool, address: str | None) -> None:
    """Put the files of an encoded set into a few large files, which copy faster and suit file systems that are slow with many files.

    Each folder of the set gets its own shards, `shard-00000.safetensors` and so on. The samples stay the same, to the byte, so that runs
    train and resume on them as before. Samples that are encoded later have files of their own until this command is run again. If it is
    interrupted, run it again.

    A set at an address can be trained on from there: data.preprocessed_data_root = "s3://bucket/set".
    """
    from ltxcore.encode.leases import joined, sole_work
    from ltxcore.encoded.folders import list_encoded
    from ltxcore.encoded.sample_names import files_in
    from ltxcore.encoded.shards import in_shards, pack
    from ltxcore.encoded.shards import unpack as take_apart

    if address is not None and unpack:
        raise click.UsageError("--to copies a set, and --unpack takes its shards apart: use one of them.")
    found = list_encoded(encoded_set)
    if found.problems and not unpack:
        raise DataError.of(found.problems)
    try:
        with joined(found.root, 0, 1, sole_work(), option=""), bars() as bar:
            if address is not None:
                _copy(found, address, round(size * 1e9), bar)
                return
            for folder in found.folders:
                if unpack:
                    step = bar(folder.name, len(in_shards(folder.path)))
                    count = take_apart(folder.path, step)
                    click.echo(f"{folder.name}: moved {many(count, 'sample into a file of its own', 'samples into files of their own')}")
                    continue
                files = [file for file in files_in(folder.path).values() if file.path.exists()]
                step = bar(folder.name, len(files))
                shards = pack(
                    folder.path, [(file.path.relative_to(folder.path).as_posix(), file.bytes) for file in files], round(size * 1e9), step
                )
                click.echo(f"{folder.name}: moved {many(len(files), 'sample', 'samples')} into {many(shards, 'new shard', 'new shards')}")
    except OSError as error:
        raise DataError.of([not_written(error, found.root, "what is already done stays done")]) from error


def _copy(found: EncodedSet, text: str, size: int, bar: Callable[[str, int], Callable[[], None]]) -> None:
    from ltxcore.encode.prompts import FOLDER
    from ltxcore.encoded.remote import Store
    from ltxcore.encoded.upload import upload

    folders = [*(folder.name for folder in found.folders), *([FOLDER] if (found.root / FOLDER).is_dir() else [])]
    counts = {folder.name: len(folder.entries) for folder in found.folders}
    steps = {name: bar(name, count) for name, count in counts.items()}

    def done(folder: str, samples: int) -> None:
        for _ in range(samples if folder in steps else 0):
            steps[folder]()

    address = address_of(text, "--to")
    upload(found.root, folders, Store.at(address), size, done)
    for name, count in counts.items():
        click.echo(f"{name}: copied {many(count, 'sample', 'samples')} to {address}/{name}")
    click.echo(f'To train on it: data.preprocessed_data_root = "{address}"')
