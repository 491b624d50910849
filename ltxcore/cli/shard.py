"""`ltx shard`, which puts the files of an encoded set into a few large files, or back."""

from __future__ import annotations

from pathlib import Path

import click

from ltxcore.api.commands import FilePath, FiniteRange
from ltxcore.errors import DataError, many
from ltxcore.files import not_written
from ltxcore.progress import bars


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
def shard(encoded_set: Path, size: float, unpack: bool) -> None:
    """Put the files of an encoded set into a few large files, which copy faster and suit file systems that are slow with many files.

    Each folder of the set gets its own shards, `shard-00000.safetensors` and so on. The samples stay the same, to the byte, so that runs
    train and resume on them as before. Samples that are encoded later have files of their own until this command is run again. If it is
    interrupted, run it again.
    """
    from ltxcore.encode.leases import joined, sole_work
    from ltxcore.encoded.folders import list_encoded
    from ltxcore.encoded.sample_names import files_in
    from ltxcore.encoded.shards import in_shards, pack
    from ltxcore.encoded.shards import unpack as take_apart

    found = list_encoded(encoded_set)
    if found.problems and not unpack:
        raise DataError.of(found.problems)
    try:
        with joined(found.root, 0, 1, sole_work(), option=""), bars() as bar:
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
