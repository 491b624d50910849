"""The prompts of a run, which are stored beside its encoded set: the prompts of its objectives and, if the run drops captions,
the empty caption. The module checks that the prompts are available, and finds those that still have to be encoded.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ltxcore.codecs.source import Codecs
from ltxcore.config.run_file import RunFile
from ltxcore.encode.prompts import FOLDER, in_words, missing_prompts
from ltxcore.errors import Problem, collecting, listed
from ltxcore.objectives import prompts_of
from ltxcore.protocols import Manifest, Strategy
from ltxcore.runs.fits import text_encoder_of
from ltxcore.runs.setup import modalities_of

if TYPE_CHECKING:
    from ltxcore.runs.run_plan import Outline


def caption_prompts(config: RunFile) -> list[str]:
    """Return the texts that replace dropped captions: the empty caption, or none if the run drops no captions."""
    return [""] if config.data.drops_captions else []


def prompts_of_run(config: RunFile) -> list[str]:
    """Return all texts that a run needs besides its captions, each once."""
    return list(dict.fromkeys([*prompts_of(config.objectives), *caption_prompts(config)]))


def caption_problems(config: RunFile, strategy: Strategy) -> Iterator[tuple[str, str, str]]:
    """Yield the keys of caption dropout that are impossible in this run: the key, what is wrong, and what to do about it."""
    if config.data.drops_captions and not any(source.kind == "text" for source in strategy.sources().values()):
        yield "data.caption_dropout", "the run reads no captions, so none can be dropped", "Remove it."
    dropped, modalities = config.data.caption_dropout, modalities_of(strategy)
    for modality in dropped if isinstance(dropped, dict) else ():
        if modality not in modalities:
            yield (
                f"data.caption_dropout.{modality}",
                f"the run has no {modality}, so it has no caption to drop",
                f"Remove it; the run has {listed(sorted(modalities))}.",
            )


def missing_of_run(found: Outline, manifest: Manifest) -> list[str]:
    """Return the prompts of a run that are not yet stored beside its samples."""
    return missing_prompts(found.root, prompts_of_run(found.config), text_encoder_of(found, manifest))


def prompt_problems(found: Outline, manifest: Manifest | None = None) -> tuple[Problem, ...]:
    """Find reasons why the prompts of a run that are not yet stored beside the data cannot be encoded.

    Args:
        found: the facts about the run.
        manifest: the samples that are already encoded; without it, the needed prompts are not known, so any stored prompts are
            enough.
    """
    kept = (found.root / FOLDER).is_dir() if manifest is None else not missing_of_run(found, manifest)
    problems: list[Problem] = []
    if prompts_of_run(found.config) and not kept:
        with collecting(problems):
            Codecs.of(found.config.model, device="cpu").text()
    return tuple(problems)


def to_encode(found: Outline, manifest: Manifest | None) -> Iterator[str]:
    """Yield a note on the prompts that a run still has to encode.

    Args:
        found: the facts about the run.
        manifest: the samples that are already encoded; None if there are none.
    """
    missing = prompts_of_run(found.config) if manifest is None else missing_of_run(found, manifest)
    if missing:
        yield f"The first run also encodes {in_words(missing)}, and keeps what it encodes beside the data."
