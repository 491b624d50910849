"""Describe how to use the result of a run, program by program."""

from __future__ import annotations

import shlex

import attrs

from ltxcore.api.exporters import Program, programs_for
from ltxcore.api.runs import Record, Weights, sample_command

TINY = "tiny"


@attrs.frozen
class Use:
    """A way to use the result of a run: the program, the explanation, and the commands."""

    program: str
    how: str
    code: str


def uses(record: Record) -> list[Use]:
    """Return the ways to use the result of a run, or how to resume a run that did not finish."""
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
    if weights.path.name.startswith("model"):
        said.append("It is a whole model: use it in place of the base model.")
        under = ", ".join(map(str, record.frozen_loras))
        said += [f"It was trained on top of {under}: load these too."] if under else []
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
    diffusers, pipelines = (f"{record.name}.{name}.safetensors" for name in ("diffusers", "ltx-pipelines"))
    python = f'pipeline.load_lora_weights("{diffusers}")'
    ways = {
        "comfyui": Use("ComfyUI", "Put the file into ComfyUI/models/loras and load it with the node LoraLoaderModelOnly.", ""),
        "diffusers": Use("diffusers", "Then, in Python, on the pipeline of the base model:", f"\n\n{python}"),
        "ltx-pipelines": Use("ltx-pipelines", "", f"\n\n# and add to the command of a pipeline:\n--lora {shlex.quote(pipelines)} 1.0"),
    }
    under = record.frozen_loras
    is_summed = weights.type == "lora"  # only a sum of LoRAs is a file that these programs load
    frozen = [word for lora in under if is_summed for word in ("--with-frozen", str(lora.path))]
    beside = f" It was trained on top of {', '.join(map(str, under))}: load these too." if under and not is_summed else ""
    programs = {program.name: program for program in programs_for(weights.type) if program.takes}

    def export(program: Program) -> str:
        base = ["--model", str(record.get("model.model_path"))] if program.needs_base else []
        return shlex.join(
            ["ltx", "export", str(weights.path), "--for", program.name, *base, *frozen, "-o", f"{record.name}.{program.name}.safetensors"]
        )

    return [
        attrs.evolve(use, how=(use.how + beside).strip(), code=export(programs[name]) + use.code)
        for name, use in ways.items()
        if name in programs
    ]
