"""How to use what a run made, program by program."""

from __future__ import annotations

import shlex
from pathlib import Path

import attrs

from ltxcore.report.record import Record, Weights

TINY = "tiny"


@attrs.frozen
class Use:
    """A way to use it: with which program, how, and the commands."""

    program: str
    how: str
    code: str


def uses(record: Record) -> list[Use]:
    """The ways to use what was trained; how to go on with a run that did not finish."""
    if record.weights is None:
        command = f"ltx run {shlex.quote(str(record.folder / 'run.toml'))}"
        return [
            Use(
                "Go on",
                f"It has not finished: {record.last_step:,} of {record.total_steps:,} steps are done. It goes on where it was saved.",
                command,
            )
        ]
    if record.weights.path.name.startswith("model"):
        return [_model(record, record.weights)]
    return [_sample(record, record.weights), *_elsewhere(record, record.weights)]


def prompt(record: Record, words: str = "what you want to see and hear") -> str:
    trigger = record.get("preprocessing.lora_trigger", "")
    return f"{trigger} {words}".strip()


def _sample(record: Record, weights: Weights) -> Use:
    model, output = str(record.get("model.model_path", TINY)), "sample.mp4" if "video" in record.modalities else "sample.wav"
    command = ["ltx", "sample", prompt(record), "--model-path", model, "--lora", str(weights.path), "-o", output]
    trigger = record.get("preprocessing.lora_trigger")
    return Use("ltx", f'Begin every prompt with "{trigger}".' if trigger else "", _command(command))


def _model(record: Record, weights: Weights) -> Use:
    output = "sample.mp4" if "video" in record.modalities else "sample.wav"
    command = ["ltx", "sample", prompt(record), "--model-path", str(weights.path), "-o", output]
    return Use("ltx", "It is a whole model, in the layout of the base model: use it in its place.", _command(command))


def _elsewhere(record: Record, weights: Weights) -> list[Use]:
    if weights.metadata.get("generation") == TINY:
        return [
            Use(
                "ComfyUI, diffusers, ltx-pipelines",
                "These do not have the tiny model. A LoRA on a real base model is exported for them by `ltx export`.",
                "",
            )
        ]
    path, stem = weights.path, record.name
    comfy, diffusers, pipelines = (Path(f"{stem}.{name}.safetensors") for name in ("comfyui", "diffusers", "ltx-pipelines"))

    def export(program: str, target: Path) -> str:
        return _command(["ltx", "export", str(path), "--for", program, "-o", str(target)])

    python = f'pipeline.load_lora_weights("{diffusers}")'
    return [
        Use("ComfyUI", "Put the file into ComfyUI/models/loras and load it with the node LoraLoaderModelOnly.", export("comfyui", comfy)),
        Use("diffusers", "Then, in Python, on the pipeline of the base model:", f"{export('diffusers', diffusers)}\n\n{python}"),
        Use(
            "ltx-pipelines",
            "",
            f"{export('ltx-pipelines', pipelines)}\n\n# and add to the command of a pipeline:\n--lora {shlex.quote(str(pipelines))} 1.0",
        ),
    ]


def _command(words: list[str]) -> str:
    return shlex.join(words)
