"""The options that all commands for encoding or decoding media have in common. Provisional until 1.0."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import attrs
import click

from ltxcore.api.commands import FilePath, plugin_option
from ltxcore.codecs.source import Codecs
from ltxcore.config.load import with_source
from ltxcore.config.preprocessing import PreprocessingTable, option_of
from ltxcore.config.settings import apply_settings
from ltxcore.config.tables import Bounds, is_key
from ltxcore.devices import device_named
from ltxcore.errors import ConfigError, Problem
from ltxcore.protocols import MODALITIES
from ltxcore.registry import load_with

__all__ = ["codec_options", "option_of", "preprocessing_options"]

F = TypeVar("F", bound=Callable[..., Any])

FORMS = {"columns": "NAME.KEY=VALUE"}
"""The form of each option that sets keys in the tables within a table."""

MISSING = click.option(
    "--missing",
    type=click.Choice(["refuse", "train_without"]),
    default="refuse",
    show_default=True,
    help='What to do about samples without video or without audio: "refuse" reports them, or leaves them out with --on-error skip; '
    '"train_without" encodes what they have, for a run with data.missing = "train_without".',
)

ELSEWHERE = "if the model file does not contain it."


def codec_options(
    *,
    model: str | None = None,
    required: bool = False,
    text: bool = True,
    device: str | None = None,
    tiling: str | None = None,
) -> Callable[[F], F]:
    """Return a decorator that adds the codec options to a command that encodes or decodes; the command receives the values as one
    argument, `codecs`.

    `codecs` is None if no model is named. A command without `device` computes nothing, so it has no options for how to compute.

    Args:
        model: the help of `--model-path`; None if the command finds the model and sets the `path` of the codecs itself.
        required: whether a model must be named.
        text: whether text is encoded.
        device: the default device, for the help of `--device`; None if nothing is computed.
        tiling: the work that `--vae-tiling` applies to, for the option's help; None if the command has no such option.
    """
    options = {
        "model_path": click.option("--model-path", required=required, metavar="MODEL", help=model),
        "text_encoder_path": click.option("--text-encoder-path", type=FilePath(), help=f"The text encoder, {ELSEWHERE}"),
        "video_vae_path": click.option("--video-vae-path", type=FilePath(), help=f"The video VAE, {ELSEWHERE}"),
        "audio_vae_path": click.option("--audio-vae-path", type=FilePath(), help=f"The audio VAE, {ELSEWHERE}"),
        "connectors_path": click.option("--connectors-path", type=FilePath(), help=f"The text connectors and projections, {ELSEWHERE}"),
        "device": click.option("--device", help=f"Device to compute on; by default {device}, if there is one."),
        "vae_tiling": click.option("--vae-tiling", is_flag=True, help=f"{tiling} clips in tiles, which takes less memory."),
        "load_text_encoder_in_8bit": click.option(
            "--load-text-encoder-in-8bit", is_flag=True, help="Load the text encoder with 8-bit weights."
        ),
        "offload_text_encoder": click.option(
            "--offload-text-encoder",
            is_flag=True,
            help="CPU offload: keep the text encoder's weights in CPU memory, and copy them to the GPU layer by layer.",
        ),
    }
    left_out = {
        *(() if model else {"model_path"}),
        *(() if text else OF_TEXT),
        *(() if device else COMPUTING),
        *(() if tiling else {"vae_tiling"}),
    }
    wanted = {name: option for name, option in options.items() if name not in left_out}

    def decorate(command: F) -> F:
        @functools.wraps(command)
        def call(*arguments: Any, **named: Any) -> Any:
            given = {name: named.pop(name) for name in wanted}
            return command(*arguments, codecs=_codecs(given, is_asked=model is not None, computes=device is not None), **named)

        decorated: Any = call
        for option in reversed(wanted.values()):
            decorated = option(decorated)
        return decorated

    return decorate


ATTRIBUTES = {
    "model_path": "path",
    "text_encoder_path": "text_encoder",
    "video_vae_path": "video_vae",
    "audio_vae_path": "audio_vae",
    "connectors_path": "connectors",
    "device": "device",
    "vae_tiling": "tiling",
    "load_text_encoder_in_8bit": "text_in_8bit",
    "offload_text_encoder": "text_offload",
}
"""The attribute of `Codecs` that each option sets."""

OF_TEXT = frozenset({"text_encoder_path", "connectors_path", "load_text_encoder_in_8bit", "offload_text_encoder"})
"""The options of commands that encode text."""

COMPUTING = frozenset({"device", "vae_tiling", "load_text_encoder_in_8bit", "offload_text_encoder"})
"""The options of commands that compute."""


def _codecs(given: dict[str, Any], *, is_asked: bool, computes: bool) -> Codecs | None:
    said = {ATTRIBUTES[name]: value for name, value in given.items() if value is not None}
    if is_asked and given["model_path"] is None:
        if any(name.endswith("_path") and value for name, value in given.items()):
            raise ConfigError("the path of a VAE or text encoder needs a model", remedy="Name the model too: --model-path MODEL.")
        return None
    return Codecs(**{"path": "", **said, "device": device_named(given["device"]) if computes else "cpu"})


def preprocessing_options(command: F) -> F:
    """Give a command that encodes or examines a dataset an option for every key of `[preprocessing]`, `--missing` for `[data] missing`, and
    `--plugin` for sources and columns that are not installed; the command receives the values as one argument, `options`.
    """
    fields = [field for field in attrs.fields(PreprocessingTable) if is_key(field)]

    @functools.wraps(command)
    def call(*arguments: Any, **named: Any) -> Any:
        given = {field.name: named.pop(field.name) for field in fields}
        may_lack = frozenset(MODALITIES) if named.pop("missing") == "train_without" else frozenset()
        options = PreprocessingTable(**{name: value for name, value in given.items() if value is not None}, may_lack=may_lack)
        if wrong := options.caption_problems():  # other mistakes are found with those of the dataset
            raise ConfigError.of(Problem(what, option_of(".".join(map(str, path))), remedy) for path, what, remedy in wrong)
        plugins = named.pop("plugins")
        if plugins or options.source or options.source_params or options.columns:
            options = with_source(options, load_with(plugins))
        return command(*arguments, options=options, **named)

    hints, decorated = get_type_hints(PreprocessingTable), MISSING(plugin_option("sources and columns")(call))
    for field in reversed(fields):
        decorated = _option(field, hints[field.name])(decorated)
    return decorated  # type: ignore[return-value]


def _seconds(bounds: Bounds, context: click.Context, option: click.Parameter, text: str | None) -> list[float] | None:
    """Parse a list of durations in seconds within bounds, separated by ";"."""
    if text is None:
        return None
    try:
        seconds = [float(part) for part in text.split(";") if part.strip()]
    except ValueError:
        seconds = []
    if not seconds or any(map(bounds.fault, seconds)):
        what = f'"{text}" is not a list of durations; write seconds above {bounds.above} and at most {bounds.at_most:,}, such as "2.0;4.0;8.0".'
        raise click.BadParameter(what)
    return seconds


def _table(context: click.Context, option: click.Parameter, settings: tuple[str, ...]) -> dict[str, Any] | None:
    """Parse the settings of an option whose value is a table."""
    table: dict[str, Any] = {}
    try:
        apply_settings(table, settings)
    except ConfigError as error:
        raise click.BadParameter(f"{error.problems[0].what}; write KEY=VALUE.") from error
    return table or None


def _option(field: attrs.Attribute[Any], kind: Any) -> Callable[[Any], Any]:
    """Return the option for a key, with its help and its default."""
    text = field.metadata["help"][:1].upper() + field.metadata["help"][1:] + "."
    inner = [each for each in get_args(kind) if each is not type(None)] if get_origin(kind) in (Union, UnionType) else [kind]
    base: Any = inner[0]
    bounds: Any = field.validator  # every number of the table has bounds
    if base is bool:
        return click.option(option_of(field.name), is_flag=True, default=field.default, help=text)
    if get_origin(base) is Literal:
        return click.option(option_of(field.name), type=click.Choice(get_args(base)), default=field.default, show_default=True, help=text)
    if get_origin(base) is list:
        seconds = functools.partial(_seconds, bounds)
        return click.option(option_of(field.name), callback=seconds, metavar="SECONDS;...", help=text)
    if get_origin(base) is dict:
        return click.option(option_of(field.name), multiple=True, callback=_table, metavar=FORMS.get(field.name, "KEY=VALUE"), help=text)
    if base is int:
        within = click.IntRange(bounds.at_least, bounds.at_most)
        return click.option(option_of(field.name), type=within, default=field.default, show_default=True, help=text)
    return click.option(option_of(field.name), type=base, help=text)
