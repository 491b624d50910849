"""Check `[[objectives]]` against the rest of the run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ltxcore.config.run_file import RunFile
from ltxcore.errors import listed
from ltxcore.protocols import Strategy
from ltxcore.runs.setup import generated_of


def objective_problems(config: RunFile, strategy: Strategy) -> Iterator[tuple[str, str, str]]:
    """Yield the keys that the objectives of this run cannot have: the key, what is wrong, and what to do about it."""
    generated, uses = generated_of(strategy), config.objectives
    if uses and not any(use.probability >= 1 for use in uses):
        yield (
            "objectives.0.probability",
            "no objective is learned in every step, so some steps may have none",
            "Remove the key from one of the objectives.",
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
                    f"Remove the key; the run generates {listed(sorted(generated))}.",
                )
        for modality in {name for each in use.passes if isinstance(each.guidance, Mapping) for name in each.guidance} - generated:
            what = f'the objective "{use.type}" guides {modality}, which the run does not generate'
            yield f"{here}.type", what, f"Remove {modality} from its scales of guidance."
        if config.ema.decay is None and any(each.weights == "ema" for each in use.passes):
            what = f'the objective "{use.type}" compares with the average of the weights, and the run keeps none'
            yield f"{here}.type", what, "Set ema.decay, such as 0.999."
    yield from _of_base(config)
    if len(uses) > 1 and config.acceleration.step_in_backward:
        yield (
            "acceleration.step_in_backward",
            f"updates weights in the backward pass, but weights may change only after the backward passes of all {len(uses)} objectives",
            "Remove the key, or learn one objective alone.",
        )


def _of_base(config: RunFile) -> Iterator[tuple[str, str, str]]:
    """Refuse objectives that need predictions of the base in a run that cannot compute them, and a copy of the base that nothing needs."""
    asking = [index for index, use in enumerate(config.objectives) if not all(each.adapters for each in use.passes)]
    is_full, is_kept = config.model.training_mode == "full", config.model.base is not None
    for index in asking:
        key, what = f"objectives.{index}.type", f'the objective "{config.objectives[index].type}" compares with the base, '
        if is_full and not is_kept:
            yield (
                key,
                f"{what}which full fine-tuning changes",
                'Set model.base = "copy", which takes the memory of another model, remove the objective, or set model.training_mode = "lora".',
            )
        if not is_full and config.acceleration.compile:
            yield key, f"{what}and compiled blocks always have their LoRA", "Set acceleration.compile = false."
    if is_kept and not is_full:
        yield "model.base", "is for full fine-tuning: without its adapters, a LoRA run has the base itself", "Remove the key."
    elif is_kept and not asking:
        yield "model.base", "keeps a copy of the base, but no objective of this run compares with the base", "Remove the key."


def _not_generated(modality: str) -> str:
    return f"the run does not generate {modality}, so it has no loss of {modality}"
