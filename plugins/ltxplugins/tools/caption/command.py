"""The command `ltx caption`, which writes captions for a dataset."""

from __future__ import annotations

from pathlib import Path

import click
from click.core import ParameterSource

from ltxcore.api import ConfigError
from ltxcore.api.commands import FilePath, FiniteRange, plugin_option


@click.command()
@click.argument("dataset", type=FilePath())
@click.option(
    "-o",
    "--output",
    type=FilePath(),
    help="Dataset file to write (.jsonl, .json, .csv); by default text files beside the media of a folder.",
)
@click.option("--base-url", metavar="URL", help='Address of the server, such as "http://127.0.0.1:8000/v1".')
@click.option("--model", metavar="NAME", help="The server's name for the model.")
@click.option("--model-path", type=FilePath(), metavar="FOLDER", help="In place of a server, a model of transformers to run here.")
@click.option(
    "--key-variable", default="OPENAI_API_KEY", show_default=True, metavar="NAME", help="Environment variable that holds the API key."
)
@click.option("--instruction", metavar="TEXT", help="What to ask the model; by default for a description of the clip.")
@click.option("--frames", type=click.IntRange(min=1), default=8, show_default=True, help="Number of frames sent per clip.")
@click.option("--size", type=click.IntRange(min=32), default=512, show_default=True, help="Longest side of these frames, in pixels.")
@click.option("--sound", is_flag=True, help="Also send the audio; the model must be able to understand it.")
@click.option("--max-tokens", type=click.IntRange(min=1), default=1024, show_default=True, help="Longest answer, in tokens.")
@click.option(
    "--retries",
    type=click.IntRange(min=0),
    default=5,
    show_default=True,
    help="Number of times that a request is repeated if the server is too busy or fails.",
)
@click.option("--timeout", type=FiniteRange(min=1), default=600.0, show_default=True, help="Seconds to wait for one answer.")
@plugin_option("sources")
@click.option("--video-column", metavar="NAME", help="Column of the clip; by default video or media_path.")
@click.option("--overwrite", is_flag=True, help="Ask again for captions that already exist.")
@click.option("--workers", type=click.IntRange(min=1), default=4, show_default=True, help="Number of requests at a time.")
@click.option("--progress/--no-progress", default=True, show_default=True, help="Show a progress bar.")
def caption(
    dataset: Path,
    output: Path | None,
    base_url: str | None,
    model: str | None,
    model_path: Path | None,
    key_variable: str,
    instruction: str | None,
    frames: int,
    size: int,
    sound: bool,
    max_tokens: int,
    retries: int,
    timeout: float,
    plugins: tuple[Path, ...],
    video_column: str | None,
    overwrite: bool,
    workers: int,
    progress: bool,
) -> None:
    """Write captions for DATASET with a model behind an OpenAI-compatible server (vLLM, llama.cpp, Ollama, or a service), or with a model
    of transformers in a folder.

    DATASET is a dataset file, or a folder of clips, images and sounds. Frames of each clip, and its audio if you ask for that, are sent to
    the server that you name, or to the model in the folder. The output is saved after every answer; the same command continues where it was
    stopped.
    """
    from ltxplugins.tools.caption.caption import INSTRUCTION, Asking
    from ltxplugins.tools.caption.caption import caption as write
    from ltxplugins.tools.caption.endpoint import Endpoint
    from ltxplugins.tools.caption.local import LocalModel

    asked: Endpoint | LocalModel
    if model_path is not None:
        _refuse_options_of_servers()
        asked = LocalModel(model_path, max_tokens)
    elif base_url is None or model is None:
        lacking = "--base-url" if base_url is None else "--model"
        remedy = "Name a server with --base-url and --model, or the folder of a model with --model-path."
        raise ConfigError(f"there is no model to write the captions: {lacking} is missing", remedy=remedy)
    else:
        asked = Endpoint(base_url, model, key_variable, retries, timeout, max_tokens)
    asking = Asking(instruction or INSTRUCTION, frames, size, sound)
    done = write(
        *(dataset, output, asked, asking),
        local=plugins,
        video_column=video_column,
        overwrite=overwrite,
        workers=workers,
        progress=progress,
    )
    done.tell(output or dataset)


def _refuse_options_of_servers() -> None:
    """Refuse options that have no effect on a model in a folder.

    Raises:
        ConfigError: such an option is given.
    """
    context = click.get_current_context()
    for name in ("base_url", "model", "key_variable", "retries", "timeout"):
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            option = f"--{name.replace('_', '-')}"
            raise ConfigError(
                "is for servers, and --model-path names a model in a folder", where=option, remedy="Leave one of the two out."
            )
