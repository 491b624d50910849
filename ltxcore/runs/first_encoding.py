"""Encode the raw media of a run on first use."""

from __future__ import annotations

from pathlib import Path

import attrs

from ltxcore.codecs.source import Codecs
from ltxcore.encode.begun import whole_already
from ltxcore.encode.roots import default_root
from ltxcore.engines.process import Processes
from ltxcore.logs import inform
from ltxcore.runs.about import said_of_changed_data
from ltxcore.runs.data_sets import sets_of
from ltxcore.runs.run_plan import Outline
from ltxcore.runs.work_ahead import announce

ENCODING = "encoding"
"""The activity that a process reports while it encodes."""


def encoded(
    found: Outline, dataset: Path | None, root: Path | None, processes: Processes, take_over: bool = False
) -> tuple[Path, tuple[str, ...] | None]:
    """Encode a dataset unless it is already encoded; each process encodes its share.

    A resumed run keeps the samples that it began with, unless changes are allowed. Samples that have become readable since then
    are left out, and samples whose files are now read differently keep their old encoding.

    Args:
        found: the facts about the run.
        dataset: a dataset file or a folder of media; None if the run names a set that is encoded already.
        root: the folder to write to; None for the dataset's default root.
        processes: the number of processes of the run.
        take_over: whether to end another process that writes to the folder, instead of waiting for that process.

    Returns:
        The folder where the samples are, and their names; None instead of names if the set is encoded already.
    """
    if dataset is None:
        return found.root, None
    from ltxcore.encode.preprocess import preprocess

    config = found.config
    processes.progress.says(ENCODING, is_long=True)
    begun = processes.exchange(processes.together(lambda: begun_with(found, dataset, root) if processes.rank == 0 else None))[0]
    text = {"text_in_8bit": config.acceleration.load_text_encoder_in_8bit, "text_offload": config.acceleration.offload_text_encoder}
    summary = processes.together(
        lambda: preprocess(
            dataset,
            root,
            config.preprocessing,
            Codecs.of(config.model, **text),
            folders=_folders(found),
            where=found.loaded.where,
            only=begun,
            keeps=found.resumes and not found.changes,
            take_over=take_over,
            # However long the other process takes, this one does not count as hanging meanwhile.
            waiting=lambda: processes.progress.says(ENCODING, is_long=True),
            before=announce if processes.rank == 0 else None,
        )
    )
    anew = {name: tuple(reasons) for each in processes.exchange(summary.anew) for name, reasons in each.items()}
    summary = attrs.evolve(summary, anew=anew)
    inform(str(summary) if summary.is_partial else summary.brief())
    encodes = any(processes.exchange(bool(summary.done)))
    if found.resumes and not _has_digest(found) and (encodes or summary.set_right):
        inform(said_of_changed_data("some samples were encoded again"))
    # Each process knows only which samples it could not encode itself.
    return summary.root, tuple(sorted(set.intersection(*(set(names) for names in processes.exchange(summary.samples)))))


def encoded_data(found: Outline, processes: Processes, take_over: bool = False) -> list[tuple[Path, tuple[str, ...] | None]]:
    """Encode each of the sets of a run's own data, as `encoded` does."""
    return [encoded(each, each.config.data.dataset, each.config.data.encoded_into, processes, take_over) for each in sets_of(found)]


def begun_with(found: Outline, dataset: Path, root: Path | None) -> tuple[str, ...] | None:
    """Return the samples that an unfinished run began with, all of which were encoded when the run wrote its status; None if the
    run begins now, or if some of these samples no longer exist.
    """
    if not found.resumes or found.changes:
        return None
    names = whole_already(dataset, root or default_root(dataset, found.config.preprocessing), found.config.preprocessing, _folders(found))
    data = (found.folder.status() or {}).get("data", {}) if dataset == found.config.data.dataset else {}
    data = data.get("sets", {}).get(found.set, {}) if found.set else data
    return names if len(names) >= max(1, data.get("train", 0) + data.get("held_out", 0)) else None


def _has_digest(found: Outline) -> bool:
    """Return whether the run recorded the encoded samples that it began with, as runs of versions after 0.1.0 do."""
    return "digest" in (found.folder.status() or {}).get("data", {})


def _folders(found: Outline) -> set[str]:
    return {source.folder for source in found.strategy.sources().values()}
