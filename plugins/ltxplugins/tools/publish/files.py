"""Collect the files of a run to upload: all its weights, a model card, the run file without this machine's paths, and the
latest generated samples, but no training data.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from ltxcore.api import CheckpointError, ConfigError
from ltxcore.api.commands import leaving, making
from ltxcore.api.config import document
from ltxcore.api.runs import Drawn, Record, read_run
from ltxplugins.tools.publish.card import card
from ltxplugins.tools.publish.licence import licence_files, notice

RUN_FILE_HEADER = "# The whole run: every value spelled out. Only the last part of each path is given.\n"

WORDS = ("prompt", "negative_prompt", "lora_trigger")
"""The keys whose values are never paths, even if they look like paths."""


@attrs.frozen
class Upload:
    """The files to upload to the Hub: a local file or bytes for each path in the repository."""

    repository: str
    files: Mapping[str, Path | bytes]

    def write(self, folder: Path) -> None:
        """Write the same files to a folder, for inspection.

        Raises:
            ConfigError: the folder exists already and is not empty.
        """
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ConfigError(f"{folder} already exists", where="--dry-run", remedy="Name a new folder.")
        with making(folder) as beside:
            for name, content in self.files.items():
                target = beside / name
                target.parent.mkdir(parents=True, exist_ok=True)
                if isinstance(content, bytes):
                    target.write_bytes(content)
                else:
                    shutil.copyfile(content, target)


def upload_of(folder: Path, repository: str = "") -> Upload:
    """Return the files to upload for the run in an output folder.

    Args:
        folder: the output folder of a finished run.
        repository: "name/model"; by default, the repository that `[hub]` in the run file names.

    Raises:
        ConfigError: the folder is not the output folder of a run, or no repository is named.
        CheckpointError: the run has not finished, or its weights cannot be read.
    """
    record = read_run(folder)
    repository = repository or str(record.get("hub.hub_model_id", ""))
    if not repository:
        raise ConfigError("there is no repository to upload to", where=str(folder), remedy='Name a repository with --to "name/model".')
    if record.weights is None:
        raise CheckpointError("this run has no weights yet", where=str(folder), remedy="Finish the run first: ltx run run.toml")
    shown = public(record)
    drawn = last_drawn(record)
    run_file = RUN_FILE_HEADER + document(shown.run)
    page = card(shown, repository, [attrs.evolve(each, path=Path(f"samples/{each.path.name}")) for each in drawn])
    samples = {f"samples/{sample.path.name}": sample.path for sample in drawn}
    return Upload(
        repository,
        {
            "README.md": leaving(page).encode(),
            "NOTICE.md": leaving(notice(shown)).encode(),
            "run.toml": leaving(run_file).encode(),
            **{_place(record, path): path for each in (record.weights, *record.more) for path in (each.path, *each.parts)},
            **samples,
            **{path.name: path for path in licence_files(record) if path.name != "NOTICE.md"},
        },
    )


def last_drawn(record: Record) -> list[Drawn]:
    """Return the latest generation of every sample. Originals are left out: they are data, which their owner might not
    want to publish.
    """
    return list({sample.name: sample for sample in record.drawn}.values())


def public(record: Record) -> Record:
    """Return the record of a run without this machine's paths. Only the last part of each path is kept."""
    weights, *more = (each and attrs.evolve(each, path=Path(_place(record, each.path))) for each in (record.weights, *record.more))
    run = leaving(_without_paths(record.run))
    return attrs.evolve(record, folder=Path(record.name), run=run, weights=weights, more=tuple(filter(None, more)), text="")


def _place(record: Record, path: Path) -> str:
    """Return the path that a file of weights has in the repository: the same as in the output folder."""
    return path.relative_to(record.folder).as_posix()


def _without_paths(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: inner if key in WORDS else _without_paths(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_paths(inner) for inner in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value
