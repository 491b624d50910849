"""The raw media of a run, encoded on first use."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from ltxcore.engines.process import Processes
from ltxcore.preprocess.run import preprocess
from ltxcore.train.plan import Outline


def encoded(
    found: Outline, dataset: Path | None, root: Path | None, processes: Processes, console: Console
) -> tuple[Path, tuple[str, ...] | None]:
    """Encode a dataset where that is not done yet, each process its share.

    Args:
        found: the run.
        dataset: a dataset file or a folder of media; none: the run names a set that is encoded already.
        root: where to write; none: the dataset's default root.
        processes: of the run.
        console: told of it.

    Returns:
        Where the samples are, and their names; None instead of names where the set is encoded already.
    """
    if dataset is None:
        return found.root, None
    config = found.loaded.config
    summary = processes.together(
        lambda: preprocess(
            dataset,
            root,
            config.preprocessing,
            model_path=config.model.model_path,
            text_encoder_path=config.model.text_encoder_path,
            video_vae_path=config.model.video_vae_path,
            audio_vae_path=config.model.audio_vae_path,
            load_text_encoder_in_8bit=config.acceleration.load_text_encoder_in_8bit,
            offload_text_encoder=config.acceleration.offload_text_encoder,
            folders={source.folder for source in found.strategy.sources().values()},
            where=found.loaded.where,
            progress=console.is_terminal and not console.quiet,
        )
    )
    brief = "\n".join([f"{len(summary.samples)} samples in {summary.root}, {summary.done} files encoded now", *summary.notes])
    console.out(str(summary) if summary.is_partial else brief, highlight=False)
    # Each knows of the samples that it could not encode itself.
    return summary.root, tuple(sorted(set.intersection(*(set(names) for names in processes.exchange(summary.samples)))))
