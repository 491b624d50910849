"""The ways to use the result of a run, program by program."""

from __future__ import annotations

import shlex
from pathlib import Path

import attrs

from ltxcore.api.runs import Record, Weights, sample_command

TINY = "tiny"


@attrs.frozen
class Use:
    """A way to use the result of a run: with which program, how, and the commands."""

    program: str
    how: str
    code: str


def uses(record: Record) -> list[Use]:
    """Return the ways to use what was trained, or how to resume a run that did not finish."""
    if record.weights is None:
        command = f"ltx run {shlex.quote(str(record.folder / 'run.toml'))}"
        return [
            Use(
                "Resume",
                f"It has not finished: {record.last_step:,} of {record.total_steps:,} steps are done. It resumes from its last checkpoint.",
                command,
            )
        ]
    elsewhere = [] if record.weights.path.name.startswith("model") else _elsewhere(record, record.weights)
    return [_sample(record, record.weights), *elsewhere]


def _sample(record: Record, weights: Weights) -> Use:
    command = sample_command(record, weights)
    trigger = record.get("preprocessing.lora_trigger")
    said = [f'Begin every prompt with "{trigger}".'] if trigger else []
    said += ["Replace the words in capitals with your own files."] if "--condition" in command else []
    said += ["It is a whole model: use it in place of the base model."] if weights.path.name.startswith("model") else []
    return Use("ltx", " ".join(said), command)


def _elsewhere(record: Record, weights: Weights) -> list[Use]:
    if weights.metadata.get("generation") == TINY:
        return [
            Use(
                "ComfyUI, diffusers, ltx-pipelines",
                "These programs do not have the tiny model. For a LoRA on a real base model, use `ltx export`.",
                "",
            )
        ]
    path, stem = weights.path, record.name
    comfy, diffusers, pipelines = (Path(f"{stem}.{name}.safetensors") for name in ("comfyui", "diffusers", "ltx-pipelines"))

    def export(program: str, target: Path) -> str:
        return shlex.join(["ltx", "export", str(path), "--for", program, "-o", str(target)])

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
