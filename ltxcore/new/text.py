"""Write the text of a run file, with comments that explain the values."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath

import attrs

from ltxcore.config.render import value_text
from ltxcore.errors import many
from ltxcore.memory import gib
from ltxcore.new.clips import Clips
from ltxcore.new.fitting import at_boundaries, fitted, halved, of_samples, steps_for
from ltxcore.new.memory import Fitted
from ltxcore.new.models import MODELS, TINY
from ltxcore.new.modes import ATTENTION, Given, Key, Mode
from ltxcore.new.purposes import PURPOSES, Purpose

COLUMN = 35
"""The column where comments begin, after lines that are short enough."""

EXAMPLE = "2.3"
"""The real model that the comments in a run file for the tiny model refer to."""

PLACEHOLDER_BUCKETS = "768x448x89"


@attrs.frozen
class Request:
    """The request for a run file.

    Attributes:
        mode: the mode of training.
        model: "tiny", or a name in `ltxcore.new.models.MODELS`.
        purpose: a name in `ltxcore.new.purposes.PURPOSES`.
        path: the path of the run file, as the user gives it.
        dataset: the path of the dataset, as the run file gives it; "" if there is none yet.
        clips: the clips in the dataset; None if it was not examined, or is the demo.
        plugins: the paths of the Python files that the run uses, as the run file gives them.
        fitted: the settings with which the run fits the user's GPU; None if the user names no memory.
    """

    mode: Mode
    model: str
    purpose: str
    path: str
    dataset: str = ""
    clips: Clips | None = None
    plugins: Sequence[str] = ()
    fitted: Fitted | None = None

    @property
    def is_demo(self) -> bool:
        """Whether the run file trains on the clips of the demo."""
        return bool(self.dataset) and self.clips is None

    @property
    def is_tiny(self) -> bool:
        """Whether the run file is for the model that comes with ltx."""
        return self.model == TINY

    @property
    def means(self) -> Purpose:
        """The purpose of the training."""
        return PURPOSES[self.purpose]


def text(request: Request) -> str:
    """Return the text of the run file."""
    mode = request.mode
    blocks = [
        [*_heading(request), f"output_dir = {value_text(f'outputs/{PurePosixPath(request.path).stem}')}", *_plugins(request)],
        ["[model]", *_model(request)],
        [] if mode.is_full else ["[lora]", *_keys(request, "lora", [_rank(request)]), *_targets(mode)],
        ["[training_strategy]", 'name = "flexible"'],
        *(_modality(request, name) for name in mode.parts),
        ["[optimization]", *_keys(request, "optimization", _optimization(request))],
        ["[acceleration]", *_keys(request, "acceleration", [Key("mixed_precision_mode", '"bf16"', tiny='"no"')], first=True)],
        _table("[engine]", _keys(request, "engine", [])),
        _table("[checkpoints]", _keys(request, "checkpoints", _checkpoints(request))),
        ["[data]", *_data(request)],
        _table("[preprocessing]", list(_preprocessing(request))),
        _table("[validation]", list(_validation(request))),
        list(_samples(request)),
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def line(said: str, comment: str = "") -> str:
    """Return a line of a run file, with a comment after it."""
    if not comment:
        return said
    return f"{said.ljust(COLUMN)}# {comment}" if len(said) < COLUMN else f"{said}   # {comment}"


def _table(heading: str, lines: list[str]) -> list[str]:
    return [heading, *lines] if lines else []


def _heading(request: Request) -> Iterator[str]:
    mode = request.mode
    path = shlex.quote(request.path) if request.path.isprintable() else "RUN.TOML"
    yield f"# {mode.about}"
    if request.is_tiny:
        if mode.processes > 1:
            yield "#"
            yield f"#     ltx launch --num-gpus {mode.processes} {path}       without GPUs: --num-gpus 2"
        return
    run = f"ltx launch --num-gpus {mode.processes} {path}" if mode.processes > 1 else f"ltx run {path}"
    memory = 80 if request.fitted is None else request.fitted.memory / 2**30
    planned = f"ltx plan {path} --model {MODELS[request.model].planned} --gpus {mode.processes} --gpu-memory {memory:g}"
    told = [
        (f"ltx check {path}", "lists everything that is still to be filled in, or wrong"),
        (planned, "says whether it fits, and what would make it fit; needs neither weights nor clips"),
        (run, ""),
    ]
    width = max(len(command) for command, _ in told)
    yield f"# For {MODELS[request.model].about}: {request.means.trained}."
    if request.fitted is not None:
        yield f"# Fits a GPU of {gib(request.fitted.memory)} with clips of this size, and needs {request.fitted.on_host}."
    yield "#"
    for command, about in told:
        yield f"#     {command.ljust(width)}    {about}".rstrip()


def _plugins(request: Request) -> list[str]:
    return [f"plugins = {value_text(list(request.plugins))}"] if request.plugins else []


def _model(request: Request) -> Iterator[str]:
    if request.is_tiny:
        (_, path, _), *others = MODELS[EXAMPLE].paths
        more = ", ".join(f'{key} = "{value}"' for key, value, _ in others)
        yield line(f'model_path = "{TINY}"', f'the real model: "{path}" (and {more})')
    else:
        model = MODELS[request.model]
        yield f"# Files of {model.repository}"
        said = [(f'{key} = "{path}"', about) for key, path, about in model.paths]
        width = max(len(text) for text, _ in said)
        yield from (f"{text.ljust(width)}   # {about}" for text, about in said)
    if request.mode.is_full:
        yield 'training_mode = "full"'


def _targets(mode: Mode) -> list[str]:
    return [
        line(
            f"target_modules = {mode.targets}",
            "in the video and audio streams and in the attention between them" if mode.targets == ATTENTION else "",
        )
    ]


def _modality(request: Request, name: str) -> list[str]:
    part = request.mode.parts[name]
    lines = [f"[training_strategy.{name}]", f"is_generated = {value_text(part.is_generated)}"]
    lines.append(f'latents_dir = "{"latents" if name == "video" else "audio_latents"}"')
    said = [_condition(request, each) for each in part.conditions]
    if len(said) > 1:
        return [*lines, "conditions = [", *(f"  {text}," for text, _ in said), "]"]
    return [*lines, *(line(f"conditions = [{text}]", comment) for text, comment in said)]


def _condition(request: Request, given: Given) -> tuple[str, str]:
    """Return a condition, and the comment on its value."""
    if not given.by:
        return given.text, ""
    unit = "latent steps of 0.04 seconds"
    if request.clips is not None:
        value, reason = at_boundaries(given.by, request.clips)
        return given.text.format(value), f"{unit}: {reason}" if given.by == "steps" else reason
    frames = (
        {"start": f" ({8 * (int(given.value) - 1) + 1} frames)", "end": f" ({8 * int(given.value)} frames)"}
        if given.tiny[:1].isdigit()
        else {}
    )
    why = frames.get(given.by, "")
    if given.by == "steps":
        return given.text.format(given.value), unit
    if request.is_tiny:
        return given.text.format(given.tiny), f"the real model: {given.value}{why}"
    return given.text.format(
        given.value
    ), f"latent frames{why}" if why else "y1, x1, y2, x2 of the rectangle, in pixels of the resized clip"


def _keys(request: Request, table: str, usual: Iterable[Key], *, first: bool = False) -> list[str]:
    """Return the lines of a table. A key of the mode replaces the common key of the same name, and the mode's other keys come
    after the common keys or, with `first`, before them.
    """
    own = {key.name: key for key in request.mode.keys.get(table, ())}
    keys = [own.pop(key.name, key) for key in usual]
    keys = [*own.values(), *keys] if first else [*keys, *own.values()]
    return [_key(request, table, key) for key in _for_gpu(request.fitted, table, keys)]


def _for_gpu(fitted: Fitted | None, table: str, keys: Iterable[Key]) -> Iterator[Key]:
    """Yield the keys of a table with the values with which the run fits the user's GPU."""
    values = {} if fitted is None else dict(fitted.settings.get(table, {}))
    why = "" if fitted is None else f"chosen for a GPU of {gib(fitted.memory)}"
    for key in keys:
        is_chosen, value = key.name in values, values.pop(key.name, key.value)
        # A value that was chosen also replaces the one for the tiny model, though it may be the usual value of the real model.
        yield Key(key.name, value, why=why) if value != key.value or (is_chosen and key.tiny) else key
    yield from (Key(name, value, why=why) for name, value in values.items())


def _key(request: Request, table: str, key: Key) -> str:
    if request.is_tiny:
        value = key.tiny or key.value
        real = f"the real model: {key.value}{f' ({key.why})' if key.why else ''}" if key.tiny else ""
        found = fitted(request.mode, table, key.name, value, request.clips)
        return line(f"{key.name} = {found[0]}", "; ".join(filter(None, (found[1], key.note, real))))
    return line(f"{key.name} = {key.value}", "; ".join(filter(None, (key.note, key.why))))


def _rank(request: Request) -> Key:
    why = "" if request.is_tiny else "capacity of the LoRA: 16 for little, 64 for much; a higher rank makes a larger file"
    return Key("rank", str(request.means.rank), tiny="16", why=why)


def _optimization(request: Request) -> Iterator[Key]:
    mode, means = request.mode, request.means
    steps, why = steps_for(mode, means, request.clips)
    if request.is_tiny:
        yield Key("steps", steps, tiny=str(mode.steps))
        yield Key("batch_size", "1", tiny="16")
        yield Key("learning_rate", means.learning_rate, tiny="5e-4" if mode.is_full else "4e-3")
        return
    yield Key("steps", steps, why=why)
    own = {key.name: key for key in mode.keys.get("optimization", ())}
    note = own["batch_size"].note if "batch_size" in own else ""
    yield Key("batch_size", "1", note=note, why="one clip at a time; raise it if `ltx plan` finds room")
    yield Key("learning_rate", means.learning_rate, why=f"usual for {means.about}; halve it if the validation loss soon rises")
    yield Key("enable_gradient_checkpointing", "true", why="activations are computed twice instead of kept: less memory, more time")


def _often(request: Request) -> int:
    """Return the number of steps between measurements of the validation loss: an eighth of the run, rounded down to a multiple of fifty,
    but at least fifty.
    """
    steps, _ = steps_for(request.mode, request.means, request.clips)
    return max(50, int(steps) // 8 // 50 * 50)


def _checkpoints(request: Request) -> Iterator[Key]:
    if request.is_tiny or request.mode.is_full:
        return
    yield Key("interval", str(2 * _often(request)), why="at every second measurement of the validation loss")
    if request.clips is None or request.clips.held_out:
        yield Key("keep_best", "true", why="also keeps the LoRA with the lowest validation loss, in case the last one has overfitted")
    else:
        yield Key("keep_last_n", "4", why="nothing is held out, so let the samples tell you whether to use an earlier LoRA")


def _data(request: Request) -> Iterator[str]:
    dataset, clips, mode = request.dataset, request.clips, request.mode
    if not dataset and mode.columns:
        row = ", ".join(f'"{column}": "..."' for column in ("audio" if "video" not in mode.parts else "video", *mode.columns, "caption"))
        yield line('dataset = "clips.jsonl"', f"one line per sample: {{{row}}}; paths are relative to that file")
    elif not dataset:
        yield line(
            'dataset = "clips/"',
            "a folder with a text file beside each media file, or a file that lists them; `ltx check clips/` shows what is found",
        )
    else:
        yield f"dataset = {value_text(dataset)}"
    if clips is not None and clips.silent and mode.takes_silent_clips:
        yield line('missing = "train_without"', f"{_files(clips.silent)} no audio; such clips train the video alone")
    if request.is_demo:
        yield f"held_out = {mode.held_out}"
    elif clips is not None:
        share = "about a tenth of the clips, never trained on: their loss shows whether the model learns or memorizes"
        none = f"too few clips ({clips.count}) to hold one out, so nothing shows whether they are memorized"
        yield line(f"held_out = {clips.held_out}", share if clips.held_out else none)


def _preprocessing(request: Request) -> Iterator[str]:
    clips = request.clips
    if request.is_demo:
        return
    if clips is not None and clips.sizes:
        smaller = halved(clips.sizes)
        said = (
            f"roughly the size of the clips; for a quarter of the tokens, and more speed: {smaller}" if smaller else "the size of the clips"
        )
        yield line(f"resolution_buckets = {value_text(';'.join(map(str, clips.sizes)))}", said)
    elif clips is None and "video" in request.mode.parts:
        said = "width x height x frames that clips are resized and cut to; `ltx check clips/` and --data propose some"
        yield line(f'resolution_buckets = "{PLACEHOLDER_BUCKETS}"', said)
    yield from _of_odd_clips(request)
    yield from _keys(request, "preprocessing", [])
    if not request.is_tiny and request.means.trigger:
        yield line('# lora_trigger = "MYWORD"', "trigger word put before every caption; write it in every prompt, too")


def _of_odd_clips(request: Request) -> Iterator[str]:
    """Yield the keys of preprocessing with which a run takes clips as phones and messengers leave them: of a variable frame rate, without a
    caption, or silent where the mode needs audio.
    """
    clips = request.clips or Clips(0)
    if clips.uneven:
        yield line('variable_rate = "resample"', f"{_files(clips.uneven)} a variable frame rate; this keeps motion and sound together")
    if clips.uncaptioned:
        better = f"until `ltx caption {shlex.quote(request.dataset)}` writes better ones"
        yield line('caption_from = "folder"', f"{_files(clips.uncaptioned)} no caption: the name of the folder is used {better}")
    if clips.silent and not request.mode.takes_silent_clips:
        yield line(
            'on_error = "skip"', f"{_files(clips.silent)} no audio; these and all other files that cannot be used are named and left out"
        )


def _files(count: int) -> str:
    return many(count, "file has", "files have")


def _validation(request: Request) -> Iterator[str]:
    if request.is_tiny:
        return
    yield line(f"interval = {_often(request)}", "steps between measurements of the validation loss, and between samples")
    clips = request.clips
    if clips is not None and clips.caption and not request.mode.has_conditions and "video" in request.mode.parts and clips.sizes:
        size = of_samples(clips.sizes)
        yield line(f"video_dims = [{size.width}, {size.height}, {size.frames}]", "width, height and frames of the samples")
        if clips.rate:
            yield line(f"frame_rate = {value_text(round(clips.rate, 3))}", "the frame rate of most clips")


def _samples(request: Request) -> Iterator[str]:
    clips = request.clips
    if request.is_tiny or clips is None or not clips.caption or request.mode.has_conditions:
        return
    yield "[[validation.samples]]"
    yield "# The caption of the first clip; a prompt for something that no clip shows tells you more."
    yield f"prompt = {value_text(clips.caption)}"
