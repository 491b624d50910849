"""`ltx decode`: encoded samples back to files that play."""

from __future__ import annotations

from pathlib import Path

import click

from ltxcore.api import ConfigError
from ltxcore.api.commands import FilePath


@click.command()
@click.argument("root", type=FilePath())
@click.option("-o", "--output", required=True, type=FilePath(), help="Folder to write to.")
@click.option("--sources", metavar="FOLDER,...", help="Folders of ROOT, with commas between; by default all.")
@click.option("--model-path", metavar="MODEL", help="The model that encoded them; by default the tiny one, if it did.")
@click.option("--video-vae-path", type=FilePath(), help="The video codec, where the model file does not hold it.")
@click.option("--audio-vae-path", type=FilePath(), help="The audio codec, where the model file does not hold it.")
@click.option("--device", help="Where to compute; by default the GPU, if there is one.")
@click.option("--vae-tiling", is_flag=True, help="Decode clips in pieces, for less memory.")
@click.option("--overwrite", is_flag=True, help="Decode also what is there already.")
@click.option("--progress/--no-progress", default=True, show_default=True, help="Show a bar.")
def decode(
    root: Path,
    output: Path,
    sources: str | None,
    model_path: str | None,
    video_vae_path: Path | None,
    audio_vae_path: Path | None,
    device: str | None,
    vae_tiling: bool,
    overwrite: bool,
    progress: bool,
) -> None:
    """Decode what `ltx preprocess` wrote to ROOT, to see and hear what a run is trained on.

    Clips become MP4 with their sound, single frames PNG, sounds without pictures WAV, and masks pictures, white where the sample is given. Each folder of ROOT
    has a folder of its name in the output.
    """
    from ltxplugins.tools.decode.decode import decode as decode_samples

    if model_path is None and (video_vae_path or audio_vae_path):
        raise ConfigError("a codec of its own goes with a model", remedy="Name the model too: --model-path MODEL.")
    decode_samples(
        root,
        output,
        [name.strip() for name in (sources or "").split(",") if name.strip()],
        model_path=model_path,
        video_vae=video_vae_path,
        audio_vae=audio_vae_path,
        device=device,
        tiling=vae_tiling,
        overwrite=overwrite,
        progress=progress,
    ).tell(output)
