"""`ltx preprocess`, which turns raw media into encoded samples."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ltxcore.api.commands import FilePath
from ltxcore.api.options import codec_options, option_of, preprocessing_options
from ltxcore.errors import ConfigError

if TYPE_CHECKING:
    from ltxcore.codecs.source import Codecs
    from ltxcore.config.preprocessing import PreprocessingTable


@click.command()
@click.argument("dataset", type=FilePath())
@codec_options(model='"tiny", or a model file, whose VAEs and text encoder are used.', required=True, device="the process's GPU")
@click.option(
    "--output-dir",
    type=FilePath(),
    help="Folder to write to; by default .precomputed beside a dataset file, or FOLDER.precomputed beside a folder.",
)
@click.option(
    "--prompt",
    "prompts",
    multiple=True,
    help='Also encode this prompt, for the objectives of a run on a machine without a text encoder; "" is the empty caption, for '
    "data.caption_dropout. May be repeated.",
)
@click.option(
    "--also",
    multiple=True,
    type=FilePath(),
    help="Also encode this dataset, to its own default folder, for a run whose objectives read it. May be repeated.",
)
@click.option("--overwrite", is_flag=True, help="Encode everything again, even what is up to date.")
@click.option("--verify", is_flag=True, help="Compare encoded files with their checksums, and encode damaged ones again.")
@click.option("--decode", is_flag=True, help="Afterwards decode the encoded samples to OUTPUT/decoded, as `ltx decode` does.")
@click.option(
    "--take-over", is_flag=True, help="Take the folder over from a process that encodes something else to it; that process then stops."
)
@click.option("--workers", type=click.IntRange(min=1), help="Number of samples decoded at a time; by default one per processor, at most 8.")
@click.option("--progress/--no-progress", default=True, show_default=True, help="Show progress bars.")
@preprocessing_options
def preprocess(
    dataset: Path,
    codecs: Codecs,
    output_dir: Path | None,
    prompts: tuple[str, ...],
    also: tuple[Path, ...],
    overwrite: bool,
    verify: bool,
    decode: bool,
    take_over: bool,
    workers: int | None,
    progress: bool,
    options: PreprocessingTable,
) -> None:
    """Encode the raw media of DATASET, except what is already up to date.

    DATASET is a folder of clips, images and sounds, each with its caption in a text file of the same name; a CSV, TSV, JSON, JSON
    Lines or Parquet file, with paths relative to its folder; a folder with a metadata file, as on the Hugging Face Hub; or
    anything else that an installed source reads. A dataset file may have the columns video (or media_path), audio, caption,
    reference_video (or ref_media_path), reference_audio, video_mask and audio_mask. Several processes can share the work, on one machine
    or on several with a shared folder: start the same command in each, at any time.
    """
    from ltxcore.cli.added import command_of
    from ltxcore.dataset.rows import read_dataset
    from ltxcore.encode.preprocess import preprocess as encode
    from ltxcore.encode.prompts import encode_prompts
    from ltxcore.encode.work import Share
    from ltxcore.registry import load
    from ltxcore.runs.work_ahead import announce

    share = Share.of_environment()
    if decode and share.world_size > 1:
        what = f"works in one process only, but there are {share.world_size}, which do not know when the others are done"
        raise ConfigError(what, where="--decode", remedy="Remove the option, and run `ltx decode` afterwards.")
    look_at = command_of(load().get("command", "decode", where="--decode")) if decode else None
    for each in also:
        read_dataset(each, options)  # its mistakes are told now, and not after the first dataset was encoded
    roots = []
    for each, output in ((dataset, output_dir), *((each, None) for each in also)):
        summary = encode(
            each,
            output,
            options,
            codecs,
            workers=workers,
            share=share,
            overwrite=overwrite,
            verify=verify,
            where=option_of,
            progress=progress and share.rank == 0,
            take_over=take_over,
            before=announce if share.rank == 0 else None,
        )
        told = str(summary) if share.rank == 0 else summary.of_share()
        click.echo(f"{share}:\n{told}" if share.world_size > 1 else told)
        roots.append(summary.root)
    root = roots[0]
    if prompts and share.rank == 0:
        encode_prompts(root, prompts, codecs.text().fingerprint, codecs.text)
    if look_at is not None:
        click.get_current_context().invoke(
            look_at,
            root=root,
            output=root / "decoded",
            model_path=codecs.path,
            video_vae_path=codecs.video_vae,
            audio_vae_path=codecs.audio_vae,
            device=codecs.device,
            vae_tiling=options.vae_tiling,
            overwrite=overwrite,
            progress=progress,
        )
