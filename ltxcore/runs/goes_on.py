"""Where a run goes on that ended by itself, in a sentence for its message."""

from __future__ import annotations

from ltxcore.config.run_file import RunFile
from ltxcore.runs.checkpoint import STATE, found
from ltxcore.runs.run_folder import RunFolder


def goes_on(config: RunFile) -> str:
    """From which step the same command goes on, or that it begins anew."""
    saved = found(RunFolder(config.output_dir).checkpoints)
    if config.checkpoints.no_resume:
        return "The same command begins anew, since checkpoints.no_resume is set."
    if not saved:
        often = "" if config.checkpoints.interval else " With checkpoints.interval, a run saves itself every so many steps."
        return f"Nothing of it was saved yet, so the same command begins anew.{often}"
    if not (saved[-1].path / STATE).exists():
        return f'It keeps no training state (save_training_state = "off"), so it cannot go on; its last weights are in {saved[-1].path}.'
    return f"The same command goes on after step {saved[-1].step}, which was saved last."
