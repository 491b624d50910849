"""The tracker "wandb", which sends metrics and samples to Weights & Biases, or stores them to be uploaded later."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import attrs

from ltxcore.api import ConfigError, hookimpl
from ltxcore.api.commands import write_whole
from ltxplugins.trackers.installed import missing

ID_FILE = Path("wandb") / "ltx-run-id.txt"
"""The file in the output folder with the id of the Weights & Biases run to continue."""


@attrs.define
class Wandb:
    """Send metrics, samples and the run file (without secrets and home folders) to Weights & Biases.

    wandb keeps its local files in the folder `wandb` in the output folder. It measures the load of the machine, but
    does not send the names of the machine's user or files.
    """

    project: str = attrs.field(default="ltx", metadata={"help": "Weights & Biases project"})
    entity: str | None = attrs.field(default=None, metadata={"help": "Weights & Biases user or team"})
    name: str | None = attrs.field(default=None, metadata={"help": "name of the run; by default that of the output folder"})
    tags: list[str] = attrs.field(factory=list, metadata={"help": "labels of the run"})
    mode: Literal["online", "offline"] | None = attrs.field(
        default=None,
        metadata={
            "help": '"offline" stores everything locally until `wandb sync`; by default the environment variable WANDB_MODE, else "online"'
        },
    )
    media: bool = attrs.field(default=True, metadata={"help": "send validation samples too"})
    _run: Any = attrs.field(default=None, init=False, repr=False)

    def problems(self) -> list[tuple[tuple[str, ...], str, str]]:
        return missing("wandb", "Weights & Biases")

    def start(self, output_dir: Path, run: Mapping[str, Any], total_steps: int, first_step: int) -> None:
        """Begin a run of Weights & Biases, or continue the run of this output folder.

        Raises:
            ConfigError: the Weights & Biases run cannot be started, because the user is not logged in or the server
                cannot be reached.
        """
        import wandb

        # Send nothing that wandb finds out by itself: the command with its paths, the names of user and machine,
        # code, and the repository of the folder.
        settings = wandb.Settings(console="off", silent=True, disable_git=True, disable_code=True, x_disable_meta=True, host="")
        try:
            self._run = wandb.init(
                project=self.project,
                entity=self.entity,
                name=self.name or output_dir.name,
                tags=self.tags,
                mode=self.mode,
                config=dict(run),
                dir=str(output_dir),
                id=_run_id(output_dir / ID_FILE, first_step),
                resume="allow",
                settings=settings,
            )
        except wandb.Error as error:
            raise ConfigError(
                f"Weights & Biases could not be started: {error}",
                where="trackers.wandb",
                remedy='Log in with `wandb login`, or keep the metrics on this machine: mode = "offline" under [trackers.wandb], or WANDB_MODE=offline.',
            ) from error
        # Steps that a run repeats after an interruption are ordered by their number, and not by the time when they arrive.
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._started().log({**metrics, "step": step})

    def sample(self, step: int, name: str, path: Path) -> None:
        if not self.media:
            return
        import wandb

        kind = path.suffix.lower()
        if kind in (".mp4", ".webm", ".gif"):
            shown: Any = wandb.Video(str(path), caption=name, format=kind.removeprefix("."))
        elif kind in (".png", ".jpg", ".jpeg"):
            shown = wandb.Image(str(path), caption=name)
        else:
            shown = wandb.Audio(str(path), caption=name)
        self._started().log({f"samples/{name}": shown, "step": step})

    def finish(self) -> None:
        if self._run is not None:
            self._run.finish()
            self._run = None

    def _started(self) -> Any:
        if self._run is None:
            raise RuntimeError("the tracker has not been started")
        return self._run


def _run_id(path: Path, first_step: int) -> str:
    """Return the id of the run to continue, or a new id."""
    import uuid

    if first_step and path.is_file():
        return path.read_text(encoding="utf-8").strip()
    name = uuid.uuid4().hex[:8]
    write_whole(path, f"{name}\n".encode())
    return name


@hookimpl
def ltx_trackers() -> dict[str, type]:
    return {"wandb": Wandb}
