"""The command `ltx caption`, which writes captions for a dataset."""

from __future__ import annotations

from pathlib import Path

import click

from ltxcore.api.commands import FilePath


@click.command()
@click.argument("dataset", type=FilePath())
@click.option(
    "-o",
    "--output",
    type=FilePath(),
    help="Dataset file to write (.jsonl, .json, .csv); by default text files beside the media of a folder.",
)
@click.option("--base-url", required=True, metavar="URL", help='The server, such as "http://127.0.0.1:8000/v1".')
@click.option("--model", required=True, metavar="NAME", help="The server's name for the model.")
@click.option(
    "--key-variable", default="OPENAI_API_KEY", show_default=True, metavar="NAME", help="Environment variable that holds the API key."
)
@click.option("--instruction", metavar="TEXT", help="What to ask the model; by default it is asked for a description of the clip.")
@click.option("--frames", type=click.IntRange(min=1), default=8, show_default=True, help="Number of frames sent per clip.")
@click.option("--size", type=click.IntRange(min=32), default=512, show_default=True, help="Longest side of these frames, in pixels.")
@click.option("--sound", is_flag=True, help="Also send the audio, to a model that understands it.")
@click.option("--max-tokens", type=click.IntRange(min=1), default=1024, show_default=True, help="Longest answer, in tokens.")
@click.option(
    "--retries",
    type=click.IntRange(min=0),
    default=5,
    show_default=True,
    help="Number of times that a request is repeated if the server is too busy or fails.",
)
@click.option("--timeout", type=click.FloatRange(min=1), default=600.0, show_default=True, help="Seconds to wait for one answer.")
@click.option("--video-column", metavar="NAME", help="Column of the clip; by default video or media_path.")
@click.option("--overwrite", is_flag=True, help="Ask again for captions that already exist.")
@click.option("--workers", type=click.IntRange(min=1), default=4, show_default=True, help="Number of requests at a time.")
@click.option("--progress/--no-progress", default=True, show_default=True, help="Show a progress bar.")
def caption(
    dataset: Path,
    output: Path | None,
    base_url: str,
    model: str,
    key_variable: str,
    instruction: str | None,
    frames: int,
    size: int,
    sound: bool,
    max_tokens: int,
    retries: int,
    timeout: float,
    video_column: str | None,
    overwrite: bool,
    workers: int,
    progress: bool,
) -> None:
    """Write captions for DATASET with a model behind an OpenAI-compatible server: vLLM, llama.cpp, Ollama, or a service.

    DATASET is a dataset file, or a folder of clips, images and sounds. Frames of each clip are sent to the
    server that you name, and its audio if you ask for it. The output is saved after every answer; the same command continues where it
    was stopped.
    """
    from ltxplugins.tools.caption.caption import INSTRUCTION, Asking
    from ltxplugins.tools.caption.caption import caption as write
    from ltxplugins.tools.caption.endpoint import Endpoint

    endpoint = Endpoint(base_url, model, key_variable, retries, timeout, max_tokens)
    asking = Asking(instruction or INSTRUCTION, frames, size, sound)
    done = write(dataset, output, endpoint, asking, video_column=video_column, overwrite=overwrite, workers=workers, progress=progress)
    done.tell(output or dataset)
