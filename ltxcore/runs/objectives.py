"""Checks of `[[objectives]]` against the rest of the run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from ltxcore.codecs.source import Codecs
from ltxcore.config.run_file import RunFile
from ltxcore.encode.prompts import FOLDER
from ltxcore.errors import Problem, collecting, listed
from ltxcore.objectives import prompts_of
from ltxcore.protocols import Strategy
from ltxcore.runs.setup import generated_of

if TYPE_CHECKING:
    from ltxcore.runs.run_plan import Outline


def objective_problems(config: RunFile, strategy: Strategy) -> Iterator[tuple[str, str, str]]:
    """Yield the keys of objectives that this run cannot do: key, what is wrong, and what to do about it."""
    generated, uses = generated_of(strategy), config.objectives
    if uses and not any(use.probability >= 1 for use in uses):
        yield (
            "objectives.0.probability",
            "no objective is learned in every step, so in some there may be none",
            "Remove it for one of them.",
        )
    for index, use in enumerate(uses):
        here = f"objectives.{index}"
        for modality in use.weight if isinstance(use.weight, Mapping) else ():
            if modality not in generated:
                yield f"{here}.weight.{modality}", _not_generated(modality), "Remove it."
        for role in use.roles:
            if role.modality not in generated:
                yield (
                    f"{here}.{role.source_key}",
                    _not_generated(role.modality),
                    f"Remove it; the run generates {listed(sorted(generated))}.",
                )
    for index, use in enumerate(uses):
        if all(each.adapters for each in use.passes):
            continue
        what = f'the objective "{use.type}" compares with the base, '
        if config.model.training_mode == "full":
            yield f"objectives.{index}.type", f"{what}which full fine-tuning changes", 'Remove it, or set model.training_mode = "lora".'
        if config.acceleration.compile:
            yield f"objectives.{index}.type", f"{what}and compiled blocks always have their LoRA", "Set acceleration.compile = false."
    if len(uses) > 1 and config.acceleration.step_in_backward:
        yield (
            "acceleration.step_in_backward",
            f"updates weights in the backward pass, of which {len(uses)} objectives need one each before weights may change",
            "Remove the key, or learn one objective alone.",
        )


def prompt_problems(found: Outline) -> tuple[Problem, ...]:
    """Find why the prompts of objectives cannot be encoded, unless some are kept beside the data already."""
    problems: list[Problem] = []
    if prompts_of(found.config.objectives) and not (found.root / FOLDER).is_dir():
        with collecting(problems):
            Codecs.of(found.config.model, device="cpu").text()
    return tuple(problems)


def _not_generated(modality: str) -> str:
    return f"the run does not generate {modality}, so it has no loss of it"
