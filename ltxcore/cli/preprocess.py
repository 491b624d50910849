"""`ltx preprocess`: raw media to encoded samples."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import attrs
import click

from ltxcore.api.commands import FilePath
from ltxcore.config.run_file import PreprocessingTable
from ltxcore.errors import ConfigError


@click.command()
@click.argument("dataset", type=FilePath())
@click.option("--model-path", required=True, metavar="MODEL", help='"tiny", or a model file: its codecs and text encoder are used.')
@click.option("--text-encoder-path", type=FilePath(), help="The text encoder, where the model file does not hold it.")
@click.option("--video-vae-path", type=FilePath(), help="The video codec, where the model file does not hold it.")
@click.option("--audio-vae-path", type=FilePath(), help="The audio codec, where the model file does not hold it.")
@click.option("--device", help="Where to compute; by default the process's GPU, if there is one.")
@click.option("--vae-tiling", is_flag=True, help="Encode clips in pieces, for less memory.")
@click.option("--load-text-encoder-in-8bit", is_flag=True, help="Load the text encoder with 8-bit weights (GPU only).")
@click.option("--offload-text-encoder", is_flag=True, help="Keep the text encoder's weights in main memory, and bring them layer by layer.")
@click.option(
    "--output-dir",
    type=FilePath(),
    help="Where to write; by default .precomputed beside the dataset file, FOLDER.precomputed beside a folder.",
)
@click.option("--overwrite", is_flag=True, help="Make everything again, also what is up to date.")
@click.option("--verify", is_flag=True, help="Read what is up to date, and make again what is damaged.")
@click.option("--decode", is_flag=True, help="Then decode what is there to OUTPUT/decoded, as `ltx decode` does, to look at.")
@click.option("--take-over", is_flag=True, help="Write to the folder although another process does this share of it, which then ends.")
@click.option("--workers", type=click.IntRange(min=1), help="Samples decoded at a time; by default one a processor, at most 8.")
@click.option("--progress/--no-progress", default=True, show_default=True, help="Show bars.")
def preprocess(
    dataset: Path,
    model_path: str,
    text_encoder_path: Path | None,
    video_vae_path: Path | None,
    audio_vae_path: Path | None,
    device: str | None,
    vae_tiling: bool,
    load_text_encoder_in_8bit: bool,
    offload_text_encoder: bool,
    output_dir: Path | None,
    overwrite: bool,
    verify: bool,
    decode: bool,
    take_over: bool,
    workers: int | None,
    progress: bool,
    **options: Any,
) -> None:
    """Encode the raw media of DATASET, or what of them is not up to date.

    DATASET is a folder of clips, pictures and sounds, each with its caption in a text file of its name beside it; or a CSV, TSV, JSON or JSON Lines file
    with the columns video (or media_path), audio, caption, reference_video (or ref_media_path), reference_audio, video_mask and audio_mask, as far as there
    are any, with paths relative to its folder. Several processes each take a share: that which RANK and WORLD_SIZE in the environment say, as a launcher
    such as torchrun sets them; they need not run at the same time.
    """
    from ltxcore.cli.added import command_of
    from ltxcore.devices import device_named
    from ltxcore.encode.preprocess import preprocess as encode
    from ltxcore.encode.share import Share
    from ltxcore.registry import load

    share = Share.of_environment()
    if decode and share.world_size > 1:
        what = f"is for one process, and there are {share.world_size}: none of them knows when the others are done"
        raise ConfigError(what, where="--decode", remedy="Leave it out, and call `ltx decode` afterwards.")
    look_at = command_of(load().get("command", "decode", where="--decode")) if decode else None
    device = device_named(device)
    summary = encode(
        dataset,
        output_dir,
        PreprocessingTable(**{name: value for name, value in options.items() if value is not None}),
        model_path=model_path,
        text_encoder_path=text_encoder_path,
        video_vae_path=video_vae_path,
        audio_vae_path=audio_vae_path,
        device=device,
        vae_tiling=vae_tiling,
        load_text_encoder_in_8bit=load_text_encoder_in_8bit,
        offload_text_encoder=offload_text_encoder,
        workers=workers,
        share=share,
        overwrite=overwrite,
        verify=verify,
        where=flag,
        progress=progress and share.rank == 0,
        take_over=take_over,
    )
    told = str(summary) if share.rank == 0 else summary.of_share()
    click.echo(f"{share}:\n{told}" if share.world_size > 1 else told)
    if look_at is not None:
        click.get_current_context().invoke(
            look_at,
            root=summary.root,
            output=summary.root / "decoded",
            model_path=model_path,
            video_vae_path=video_vae_path,
            audio_vae_path=audio_vae_path,
            device=device,
            vae_tiling=vae_tiling,
            overwrite=overwrite,
            progress=progress,
        )


def flag(key: str) -> str:
    """A key of `[preprocessing]` as an option: `skip_audio`, or `preprocessing.skip_audio`, is `--skip-audio`."""
    return "--" + key.removeprefix("preprocessing.").replace("_", "-")


def _seconds(context: click.Context, option: click.Parameter, text: str | None) -> list[float] | None:
    """Seconds with ";" between, as numbers."""
    if text is None:
        return None
    try:
        seconds = [float(part) for part in text.split(";") if part.strip()]
    except ValueError:
        seconds = []
    if not seconds or not all(0 < each < math.inf for each in seconds):
        raise click.BadParameter(f'"{text}" is no list of durations; write seconds above 0, such as "2.0;4.0;8.0".')
    return seconds


def _option(field: attrs.Attribute[Any], kind: Any) -> Callable[[Any], Any]:
    """The option of a key, with its help and its default."""
    text = field.metadata["help"][:1].upper() + field.metadata["help"][1:] + "."
    inner = [each for each in get_args(kind) if each is not type(None)] if get_origin(kind) is UnionType else [kind]
    base: Any = inner[0]
    if base is bool:
        return click.option(flag(field.name), is_flag=True, default=field.default, help=text)
    if get_origin(base) is Literal:
        return click.option(flag(field.name), type=click.Choice(get_args(base)), default=field.default, show_default=True, help=text)
    if get_origin(base) is list:
        return click.option(flag(field.name), callback=_seconds, metavar="SECONDS;...", help=text)
    if base is int:
        return click.option(flag(field.name), type=click.IntRange(min=1), default=field.default, show_default=True, help=text)
    return click.option(flag(field.name), type=base, help=text)


def with_options(command: click.Command) -> click.Command:
    """A command with an option for every key of `[preprocessing]`."""
    hints = get_type_hints(PreprocessingTable)
    for field in attrs.fields(PreprocessingTable):
        command = _option(field, hints[field.name])(command)
    return command


preprocess = with_options(preprocess)
