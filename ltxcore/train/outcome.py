"""Describe the result of a run: its files, and how its validation loss changed."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path

import attrs

from ltxcore.config.kept_weights import CheckpointsTable
from ltxcore.train.held_out_generations import Generation


@attrs.frozen
class Outcome:
    """The files and validation losses that a run left.

    Attributes:
        output_dir: the output folder.
        step: the number of optimizer steps done.
        finished: whether the run finished; if it was stopped, `resume` is the command that continues it, if there is one.
        weights: the LoRA or model; None if the run was stopped.
        metrics: the file with the metrics, one JSON object per line.
        generations: the clips generated after training.
        before: the validation losses before training; empty if nothing is held out.
        after: the validation losses after training, with each clip's own context and with another clip's.
        resume: the command that resumes the run; "" if it finished or cannot be resumed, or if the same command on several machines
            resumes it.
        best: the weights with the lowest validation loss; None if the run does not keep them.
        ended: why the run finished early; "" if it reached its last step.
        averaged: the LoRA or model with the averaged weights; None if the run does not average them.
    """

    output_dir: Path
    step: int
    finished: bool
    weights: Path | None
    metrics: Path
    generations: tuple[Generation, ...] = ()
    before: Mapping[str, float] = attrs.field(factory=dict)
    after: Mapping[str, float] = attrs.field(factory=dict)
    resume: str = ""
    best: Path | None = None
    ended: str = ""
    averaged: Path | None = None


def resuming(table: CheckpointsTable, processes: int, run_file: Path) -> str:
    """Return the command that resumes a stopped run with this number of processes; "" if it cannot be resumed, or if no single command does
    it because the processes are on several machines.
    """
    is_here = processes == 1 or os.environ.get("LOCAL_WORLD_SIZE") == str(processes)
    if table.no_resume or table.save_training_state == "off" or not is_here:
        return ""
    command = ["ltx", "run"] if processes == 1 else ["ltx", "launch", "--num-gpus", str(processes)]
    return shlex.join([*command, str(run_file)])
