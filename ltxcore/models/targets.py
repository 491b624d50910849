"""The targets in a run's `target_modules`, which name the modules that its LoRA adapts.

A target names every linear module whose path equals the target or ends with "." and the target, so "attn1.to_k" does not match
"audio_attn1.to_k". Targets may use the names of checkpoints or of diffusers, which are the same inside the blocks.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal

import attrs

from ltxcore.errors import ConfigError, Problem, did_you_mean, listed
from ltxcore.models.blueprint import Described
from ltxcore.models.parameter_names import PREFIX, is_needed, stream_of, to_original, within_block

_STREAM_WORDS = {"video": "video", "audio": "audio", "cross": "the attention between video and audio"}


Auto = Literal["auto"]
"""The value of `target_modules` that leaves the choice of modules to the run's modalities."""

_PROJECTIONS = ("to_k", "to_q", "to_v", "to_out.0")
_OF_ONE = (*(f"{attention}.{name}" for attention in ("attn1", "attn2") for name in _PROJECTIONS), "ff.net.0.proj", "ff.net.2")

AUTO: Mapping[frozenset[str], tuple[str, ...]] = {
    frozenset({"video", "audio"}): _PROJECTIONS,
    frozenset({"video"}): _OF_ONE,
    frozenset({"audio"}): tuple(f"{PREFIX['audio']}{name}" for name in _OF_ONE),
}
"""The default targets by the modalities of a run, including frozen ones. With two modalities, these are the projections of all attention,
most importantly of the attention between the modalities; with one modality, its attention and feed-forward.

Source: https://github.com/Lightricks/LTX-2/blob/main/packages/ltx-trainer/docs/training-modes.md
"""


@attrs.frozen
class Targets:
    """The modules to adapt, and the target modules that no loss of this run can reach, as sorted paths in the backbone."""

    adapted: tuple[str, ...]
    unreachable: tuple[str, ...] = ()


def matches(module: str, target: str) -> bool:
    """Return whether a target names a module."""
    return any(path == target or path.endswith("." + target) for path in (module, to_original(module)))


def resolve_targets(
    backbone: Described,
    patterns: Sequence[str] | Auto,
    reachable: Collection[str] | None = None,
    modalities: frozenset[str] | None = None,
) -> Targets:
    """Find the modules that the targets name in this backbone.

    Args:
        backbone: the backbone, or its description.
        patterns: the targets in the run file; "auto" means the modules that suit the run's modalities.
        reachable: the names of the parameters that a loss reaches; None means all.
        modalities: the run's modalities, if the backbone has more than the run trains; None means the backbone's modalities.

    Raises:
        ConfigError: there are no targets; a target names no module, or only modules that the run does not have; or no loss reaches any
            target.
    """
    modalities = backbone.modalities if modalities is None else modalities
    patterns = AUTO[modalities] if isinstance(patterns, str) else patterns
    linears = backbone.blueprint.linears
    problems = [problem for pattern in patterns if (problem := _problem(pattern, linears, modalities)) is not None]
    if not patterns:
        problems = [Problem("there are no LoRA targets", "lora.target_modules", _choices(linears, modalities))]
    if problems:
        raise ConfigError.of(problems)
    present = sorted(m for m in linears if is_needed(m, modalities) and any(matches(m, p) for p in patterns))
    reached = [m for m in present if reachable is None or f"transformer.{m}.weight" in reachable]
    if not reached:
        raise ConfigError(
            f"no loss of this run can reach any of the LoRA targets: {listed(patterns)}",
            where="lora.target_modules",
            remedy="Name modules of a modality that is generated.",
        )
    return Targets(tuple(reached), tuple(m for m in present if m not in set(reached)))


def _problem(pattern: str, linears: Iterable[str], modalities: frozenset[str]) -> Problem | None:
    found = [m for m in linears if matches(m, pattern)]
    if any(is_needed(m, modalities) for m in found):
        return None
    if not found:
        return Problem(f'the LoRA target "{pattern}" does not match any module', "lora.target_modules", _hint(pattern, linears, modalities))
    streams = " and ".join(_STREAM_WORDS[s] for s in ("video", "audio", "cross") if s in {stream_of(m) for m in found})
    return Problem(
        f'the LoRA target "{pattern}" matches only modules of {streams}, but this run has only {" and ".join(sorted(modalities))}',
        "lora.target_modules",
        _choices(linears, modalities),
    )


def _hint(pattern: str, linears: Iterable[str], modalities: frozenset[str]) -> str:
    inside = sorted({within_block(m) for m in linears if f".{pattern}." in f".{m}." and is_needed(m, modalities)})
    if inside:
        return f"It is a group of modules; it contains: {', '.join(inside)}."
    suffixes = {s for m in linears if is_needed(m, modalities) for s in _suffixes(within_block(m))}
    return did_you_mean(pattern, suffixes) or _choices(linears, modalities)


def _choices(linears: Iterable[str], modalities: frozenset[str]) -> str:
    blocks = sorted({within_block(m) for m in linears if m.startswith("transformer_blocks.") and is_needed(m, modalities)})
    return f"These would match: {', '.join(blocks)}."


def _suffixes(path: str) -> list[str]:
    segments = path.split(".")
    return [".".join(segments[i:]) for i in range(len(segments))]
