"""`ltx sample`, which generates from a prompt, or from a file of prompts, with conditions and LoRAs."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin, get_type_hints

import attrs
import click

from ltxcore.api.commands import FilePath, plugin_option
from ltxcore.api.options import codec_options
from ltxcore.config.acceleration import AttentionName
from ltxcore.config.loras import Strength, not_under, not_under_model
from ltxcore.config.validation_samples import PRESETS, ValidationTable
from ltxcore.errors import ConfigError
from ltxcore.files import is_file, read_regular
from ltxcore.logs import inform, warn
from ltxcore.new.models import TINY
from ltxcore.progress import Bar, bars

if TYPE_CHECKING:
    from ltxcore.codecs.source import Codecs
    from ltxcore.config.prompts import LoadedSamples
    from ltxcore.sample.generate import Step, Studio
    from ltxcore.sample.media_needs import Planned

ENDINGS = (".mp4", ".png", ".wav")
FOLDER = Path("samples")
"""The folder of generated samples if the user does not name a file."""

NOT_OPTIONS = ("samples", "interval", "skip_initial_validation")
"""The keys of `[validation]` that concern only generation during training."""


HELP = {
    "generate_audio": "Generate audio; on by default.",
    "generate_video": "Generate video; on by default.",
    "stg_blocks": 'Blocks whose self-attention STG skips, or "all".',
}
"""The help for keys that have a different meaning on the command line, where nothing is trained and there are no lists."""


@click.command()
@click.argument("what", metavar="PROMPT|FILE")
@click.option("--model", metavar="MODEL", help='"tiny", or a model file or folder; by default the model of FILE, if FILE is a run file.')
@click.option("--lora", "loras", multiple=True, metavar="FILE[:STRENGTH]", help="A LoRA and its strength (1 by default); may be repeated.")
@click.option("--condition", "conditions", multiple=True, metavar="KEY=VALUE,...", help="A condition on every sample; may be repeated.")
@click.option("-o", "--output", type=FilePath(), help="File to write (.mp4, .png, .wav), or folder.  [default: samples]")
@click.option("--overwrite", is_flag=True, help="Write the file even if it exists.")
@plugin_option("conditions, quantizers and types of adapters")
@codec_options(device="the GPU", tiling="Encode and decode")
@click.option(
    "--precision", type=click.Choice(["bf16", "no"]), help='Precision of the model; "no" is float32.  [default: bf16 on a GPU, else no]'
)
@click.option(
    "--quantization",
    metavar="NAME[,KEY=VALUE,...]",
    help="Quantizer of the model's weights, which saves memory, and its keys: int8, or another that `ltx plugins list --kind quantizer` shows.",
)
@click.option(
    "--offload-blocks",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Block swap: how many blocks keep their weights in CPU memory until they are needed.",
)
@click.option(
    "--attention",
    type=click.Choice(get_args(AttentionName)),
    default="auto",
    help="Program that computes attention; by default, torch chooses one of its own.",
)
@click.option(
    "--mark-first-frame/--no-mark-first-frame",
    default=None,
    help="Whether to pass the first-frame marker to models that take one (LTX-2.5); by default as the LoRAs were trained, or else yes.",
)
@click.option(
    "--preset",
    type=click.Choice(sorted(PRESETS)),
    help='Values for several options: "distilled" is for distilled models and LoRAs, with their noise levels and without guidance.',
)
def sample(
    what: str,
    model: str | None,
    loras: tuple[str, ...],
    conditions: tuple[str, ...],
    output: Path | None,
    overwrite: bool,
    plugins: tuple[Path, ...],
    codecs: Codecs,
    precision: str | None,
    quantization: str | None,
    offload_blocks: int,
    attention: AttentionName,
    mark_first_frame: bool | None,
    preset: str | None,
    **options: Any,
) -> None:
    """Generate video and audio from PROMPT, or from every prompt in FILE.

    FILE is a TOML file with the table [validation] of a run file (such as the run file itself), or a JSONL file in which each line has the
    keys of one sample of that table. Options override the keys of [validation] in FILE, but not the keys of a single sample. The same seed
    gives the same file. If the generation of a list of prompts was interrupted, the same command generates the rest.

    \b
    ltx sample "a red disc sways slowly" --model tiny -o disc.mp4
    ltx sample "..." --model tiny --lora outputs/mine/lora.safetensors:0.8
    ltx sample "..." --model tiny --condition type=first_frame,image_or_video=a.png
    ltx sample run.toml --lora outputs/mine/lora.safetensors
    """
    from ltxcore.config.load import located
    from ltxcore.config.prompts import load_samples
    from ltxcore.config.quantizers import quantizer_of
    from ltxcore.errors import LtxError
    from ltxcore.sample.generate import Drawing

    said = {**PRESETS.get(preset or "", {}), **{name: value for name, value in options.items() if value is not None}}
    loaded = load_samples(what, conditions=conditions, options=said, plugins=plugins)
    studio = _studio(loaded, model, loras, codecs, precision)
    quantizer = None if quantization is None else quantizer_of(quantization, loaded.registry)
    studio = attrs.evolve(
        studio,
        quantizer=quantizer,
        offload_blocks=offload_blocks,
        attention=attention,
        mark_first_frame=mark_first_frame,
        registry=loaded.registry,
    )
    try:
        planned = _planned(loaded, studio)
        drawing = Drawing.of(_folder(output), _asked(what), len(planned), lambda: _files(planned, output, overwrite))
        marking = studio.marking.notes if any("video" in each.canvas.request.modalities for each in planned) else ()
        own = (note for each in planned for note in [*each.notes, *_triggers(each, studio.loras)])
        lacks = (*not_under(studio.loras), *not_under_model(Path(studio.model.path), studio.loras))
        for note in dict.fromkeys([*own, *marking, *(f"{what}: add it with --lora." for what in lacks)]):
            warn(note)
        for path in drawing.there.values():
            inform(f"{path} was already written before this command was interrupted.")
        drawing.begin()
        if numbers := drawing.left():
            left, files = [planned[number] for number in numbers], [drawing.paths[number] for number in numbers]
            with _bar(left) as step:
                for number, path in zip(numbers, studio.generate(left, files, step), strict=True):
                    drawing.add(number, path)
                    click.echo(path)
        drawing.end()
        for lora in studio.loras if len(studio.loras) == 1 else ():
            inform(_next(lora))
    except LtxError as error:
        raise located(error, loaded) from error


def _studio(loaded: LoadedSamples, model: str | None, loras: Sequence[str], codecs: Codecs, precision: str | None) -> Studio:
    """Return a studio with the model that is named on the command line or, if none is, with the file's model."""
    from ltxcore.devices import is_gpu
    from ltxcore.sample.generate import Studio

    if model is not None:
        codecs = codecs.of_model(model)
    elif loaded.model is not None:
        codecs = codecs.or_of(loaded.model)
    else:
        remedy = "Write --model tiny, or --model and the path of a model file."
        raise ConfigError("there is no model to generate with", where="--model", remedy=remedy)
    return Studio(codecs, tuple(map(Strength.parse, loras)), precision or ("bf16" if is_gpu(codecs.device) else "no"))


def _planned(loaded: LoadedSamples, studio: Studio) -> list[Planned]:
    from ltxcore.models.load_base import describe
    from ltxcore.protocols import MODALITIES
    from ltxcore.sample.request import TINY_SIZE, requests

    info, table = describe(studio.model.path), loaded.table
    if info.generation == "tiny":
        sizes: dict[str, Any] = {name: value for name, value in TINY_SIZE.items() if name not in loaded.said}
        table = attrs.evolve(table, **sizes)
    return studio.plan(requests(table, MODALITIES, info))


def _folder(output: Path | None) -> Path:
    """Return the folder for the samples."""
    folder = output or FOLDER
    return folder.parent if folder.suffix.lower() in ENDINGS else folder


def _asked(what: str) -> bytes:
    """Return the whole request of the user as bytes: the options, and the content of the file."""
    options = repr((Path.cwd(), sorted(click.get_current_context().params.items()))).encode()
    return options + (read_regular(Path(what)) if is_file(Path(what)) else b"")


def _files(planned: Sequence[Planned], output: Path | None, overwrite: bool) -> list[Path]:
    """Return the path of each sample's file, without the extension.

    Raises:
        ConfigError: a file's extension does not fit the result, or the file already exists.
    """
    folder = output or FOLDER
    if folder.suffix.lower() not in ENDINGS:
        first = 1 + max((int(path.stem.partition("_")[2]) for path in folder.glob("sample_*") if path.stem[7:].isdecimal()), default=0)
        return [folder / f"sample_{number}" for number in range(first, first + len(planned))]
    bare = folder.with_suffix("")
    names = [bare] if len(planned) == 1 else [bare.with_name(f"{bare.name}_{number}") for number in range(1, len(planned) + 1)]
    for each, name in zip(planned, names, strict=True):
        ending = _ending(each)
        if ending != folder.suffix:
            kinds = {".mp4": "a clip", ".png": "a single picture", ".wav": "a sound"}
            raise ConfigError(
                f'the result is {kinds[ending]}, which cannot be written as "{folder.suffix}"',
                where="--output",
                remedy=f"Use {ending}.",
            )
        path = name.with_name(f"{name.name}{ending}")
        if path.exists() and not overwrite:
            raise ConfigError(
                f"the file {path} already exists", where="--output", remedy="Name another file, or overwrite it with --overwrite."
            )
    return names


def _ending(planned: Planned) -> str:
    request = planned.canvas.request
    if "video" not in request.modalities:
        return ".wav"
    return ".png" if request.size.frames == 1 else ".mp4"


def _triggers(planned: Planned, loras: Sequence[Strength]) -> Iterator[str]:
    """Yield warnings about LoRAs whose trigger word is not in the prompt."""
    prompt = planned.canvas.request.prompt
    for lora in loras:
        word = lora.metadata.get("trigger")
        if word and word.lower() not in prompt.lower():
            yield f'{lora.path} was trained with "{word}" before every caption, but the prompt "{prompt}" does not contain it.'


def _next(lora: Strength) -> str:
    """Return a hint about the next step after trying a LoRA: an export for another program or, for the tiny model, a run on a real
    model.
    """
    if lora.metadata.get("generation") == TINY:
        return f"The {TINY} model is only for trying ltx: `ltx new MODE --data DATA` writes a run file for a real model."
    elsewhere = shlex.join(
        ["ltx", "export", str(lora.path), "--for", "comfyui", "-o", f"{lora.path.parent.name or 'lora'}.comfyui.safetensors"]
    )
    return f"To use the LoRA in ComfyUI: {elsewhere} (`ltx export --help` names other programs)."


@contextmanager
def _bar(planned: Sequence[Planned]) -> Iterator[Step | None]:
    """Show progress on a terminal, or in the file of LTX_PROGRESS."""
    begun = list(accumulate((each.canvas.request.steps for each in planned), initial=0))
    bar = Bar.begun("Drawing", begun[-1])
    if bar is None:
        with bars() as phase:
            step, reached = phase("steps", begun[-1]), 0

            def noted(index: int, done: int, steps: int) -> None:
                nonlocal reached
                while reached < begun[index] + done:  # samples that are there already are passed over
                    step()
                    reached += 1

            yield noted
        return
    try:
        yield lambda index, step, steps: bar.show(begun[index] + step, name=f"Generating {index + 1}/{len(planned)}")
    finally:
        bar.end()


# ---------------------------------------------------------------- options, one for each key of [validation]


def _dims(context: click.Context, option: click.Parameter, text: str | None) -> list[int] | None:
    """Parse width x height x frames into three numbers."""
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) != 3 or not all(part.strip().isdecimal() for part in parts):
        raise click.BadParameter(f'"{text}" is not width x height x frames, such as 960x544x89.')
    return [int(part) for part in parts]


def _blocks(context: click.Context, option: click.Parameter, text: str | None) -> list[int] | None:
    """Parse numbers separated by commas; "all" gives an empty list."""
    if text is None or text == "all":
        return None if text is None else []
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise click.BadParameter(f'"{text}" is not a list of blocks; write numbers separated by commas, or "all".')
    return [int(part) for part in parts]


def _levels(context: click.Context, option: click.Parameter, text: str | None) -> list[float] | str | None:
    """Parse numbers separated by commas; "distilled" stands for itself."""
    if text is None or text == "distilled":
        return text
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise click.BadParameter(f'"{text}" is not a list of noise levels, such as 1,0.9,0.6,0, or "distilled".') from None


def _option(field: attrs.Attribute[Any], kind: Any) -> Callable[[Any], Any]:
    """Return the option for a key, with the key's help; the default is the value in the file, or else the table's default."""
    name = f"--{field.name.replace('_', '-')}"
    text = HELP.get(field.name) or field.metadata["help"][:1].upper() + field.metadata["help"][1:] + "."
    inner = [each for each in get_args(kind) if each is not type(None)] if get_origin(kind) in (Union, UnionType) else [kind]
    base: Any = inner[0]
    if base is bool:
        return click.option(f"{name}/--no-{name[2:]}", default=None, help=text)
    if get_origin(base) is tuple:
        return click.option(name, callback=_dims, metavar="WxHxF", help=text)
    if base == list[float]:
        return click.option(name, callback=_levels, metavar="distilled|N,...", help=text)
    if get_origin(base) is list:
        return click.option(name, callback=_blocks, metavar="N,...", help=text)
    return click.option(name, type=base, help=text)


_hints = get_type_hints(ValidationTable)
for _field in attrs.fields(ValidationTable):
    if _field.name not in NOT_OPTIONS:
        sample = _option(_field, _hints[_field.name])(sample)
