"""The checkpoint that an unfinished run goes on with, looked at without reading its tensors."""

from __future__ import annotations

import json

from ltxcore.errors import CheckpointError
from ltxcore.train.checkpoint import MANIFEST, STATE, found
from ltxcore.train.plan import Outline


def saved_state(outline: Outline) -> int:
    """The step of the checkpoint that a run goes on with; 0: it begins.

    Raises:
        CheckpointError: files of it are missing or have another size, or it has no training state.
    """
    saved = found(outline.folder.checkpoints) if outline.resumes else []
    if not saved:
        return 0
    path = saved[-1].path
    files = json.loads((path / MANIFEST).read_text())["files"]
    for name, known in files.items():
        file = path / name
        if not file.is_file() or file.stat().st_size != known["bytes"]:
            what = "has another size than it was saved with" if file.is_file() else "is missing"
            remedy = "Remove this checkpoint, so that the one before it is used."
            raise CheckpointError(f"{name} {what}", where=str(path), remedy=remedy)
    if STATE not in files:
        raise CheckpointError(
            'this unfinished run cannot go on, since it was told to keep no training state (save_training_state = "off")',
            where=str(path),
            remedy="Set checkpoints.no_resume = true to start over.",
        )
    return saved[-1].step
