"""Commands of ltx that take long, each as a process of its own that outlives the page and the server.

A job is a folder on disk, so that a server which is killed and started again finds every job as it is: `job.json` says what to do, `log` is
what the command printed, `process.json` which process does it, `progress.json` how much of its present work is done, `end.json` how it
ended. The files are written whole and never changed, but for the log, which grows, and the progress. A file beside the folders,
`order.json`, says in which order waiting jobs start.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import attrs
import psutil  # type: ignore[import-untyped, unused-ignore]

from ltxcore.api import DataError
from ltxcore.api.commands import write_whole

State = Literal["waiting", "running", "done", "stopped", "failed", "lost"]
STOPPED = (130, -signal.SIGINT, -signal.SIGTERM)
"""Exit statuses of a command that was stopped by the user."""


@attrs.frozen
class Progress:
    """How much of a piece of work is done: its name, the steps that are done, and all of them."""

    name: str
    done: int
    steps: int


@attrs.frozen
class Job:
    """A command of ltx, and how far it is.

    Attributes:
        folder: the folder of the job; its name is the job's id, and ids sort by the time at which the jobs were added.
        kind: what the job is for, such as "run" or "sample".
        title: the title that the user reads.
        arguments: the arguments of `ltx`.
        about: data that the screen which added the job wants to find again.
        added: when the job was added, in seconds since 1970.
        uses_gpu: whether the job waits until no other job uses the GPU.
    """

    folder: Path
    kind: str
    title: str
    arguments: tuple[str, ...]
    about: Mapping[str, Any]
    added: float
    uses_gpu: bool

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def state(self) -> State:
        """How far the job is; "lost" if its process is gone without a word, because it was killed or the machine was switched off."""
        told = read_json(self.folder / "process.json")
        running = process_of(told) is not None
        end = read_json(self.folder / "end.json")  # looked for after the process, which may end between the two looks
        if not end and told and not running:
            if _is_supervised(self):
                return "running"  # how it ended is being written down
            end = read_json(self.folder / "end.json")
        if end:
            return "done" if end["status"] == 0 else "stopped" if end["status"] in STOPPED else "failed"
        return "running" if running else "lost" if told else "waiting"

    @property
    def seconds(self) -> float:
        """How long the job has run."""
        process, end = read_json(self.folder / "process.json"), read_json(self.folder / "end.json")
        return (end.get("at", 0) if end else time.time()) - process["at"] if process else 0.0

    @property
    def progress(self) -> Progress | None:
        """How much of its present work is done; None if the command does not say."""
        told = read_json(self.folder / "progress.json")
        return Progress(told["name"], told["done"], told["steps"]) if told.get("steps") else None

    def tail(self, size: int = 16_384) -> str:
        """Return the last lines of what the command printed.

        Args:
            size: the approximate number of bytes to read.
        """
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, self.log.stat().st_size - size))
                text = file.read().decode("utf-8", "replace")
        except OSError:
            return ""
        lines = [line.rpartition("\r")[2] for line in text.replace("\r\n", "\n").split("\n")]
        return "\n".join(lines[1:] if self.log.stat().st_size > size else lines)


class Jobs:
    """The jobs of a workspace.

    Args:
        folder: the folder that contains the folders of the jobs.
        root: the folder that the commands work in.
        may_start: a function that returns why the next job for the GPU cannot start yet, as text for the user; "" if it can start.
    """

    def __init__(self, folder: Path, root: Path, may_start: Callable[[Job], str] = lambda job: "") -> None:
        self.folder, self.root, self.may_start = folder, root, may_start
        self._held_up: dict[str, str] = {}
        self._changing = threading.Lock()

    def add(self, kind: str, title: str, arguments: Sequence[str], about: Mapping[str, Any] | None = None, *, uses_gpu: bool = True) -> Job:
        """Add a job, which waits until it is started.

        Args:
            kind: what the job is for.
            title: the title that the user reads.
            arguments: the arguments of `ltx`.
            about: data that the caller wants to find again in `Job.about`.
            uses_gpu: whether the job waits until no other job uses the GPU.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        folder = self.folder / f"{time.time_ns():020}-{os.getpid()}"
        job = Job(folder, kind, title, tuple(arguments), dict(about or {}), time.time(), uses_gpu)
        folder.mkdir()
        write_json(folder / "job.json", attrs.asdict(job, filter=lambda field, _: field.name != "folder"))
        return job

    def all(self) -> list[Job]:
        """Return every job, in the order in which they were added."""
        try:
            folders = sorted(self.folder.iterdir())
        except FileNotFoundError:
            return []
        return [job for job in map(_job, folders) if job is not None and not job.id.startswith(".")]

    def get(self, id: str) -> Job:
        """Return the job with an id.

        Raises:
            DataError: there is no such job.
        """
        job = _job(self.folder / Path(id).name)
        if job is None:
            raise DataError(f"there is no job {id}", remedy="Reload the page: the job may have been removed.")
        return job

    def start(self, job: Job) -> None:
        """Start the process of a job. It is in a session of its own, so that neither Ctrl-C nor the end of the server reaches it."""
        supervisor = subprocess.Popen(
            [sys.executable, "-P", "-m", "ltxplugins.studio.supervise", str(job.folder), *job.arguments],
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        threading.Thread(target=supervisor.wait, daemon=True).start()  # so that it does not stay as a zombie
        for _ in range(200):  # the process says within a moment who it is; a second start must not come before that
            if (job.folder / "process.json").exists() or supervisor.poll() is not None:
                return
            time.sleep(0.05)

    def stop(self, job: Job) -> None:
        """Ask a running job to stop as Ctrl-C does: a run finishes its step and saves; a second time, it ends at once. A waiting job is
        ended without having started.
        """
        with _unstarted(job) as unstarted:
            if unstarted and job.state == "waiting":
                write_json(job.folder / "end.json", {"status": 130, "at": time.time()})
                return
        for _ in range(100):  # a job that is being started has a process within a moment
            process = process_of(read_json(job.folder / "process.json"))
            if process is not None:
                with contextlib.suppress(psutil.Error):
                    process.send_signal(signal.SIGINT)
                return
            if job.state != "waiting":
                return
            time.sleep(0.05)

    def remove(self, job: Job) -> None:
        """Remove a job that waits or has ended from the list, with its log. What its command wrote elsewhere stays.

        Raises:
            DataError: the job runs.
        """
        with _unstarted(job) as unstarted:
            state = job.state
            if state == "running" or (state == "waiting" and not unstarted):
                raise DataError(f"{job.title} is running", remedy="Stop it first.")
            gone = self.folder / f".{job.id}"
            with contextlib.suppress(FileNotFoundError):  # it was removed in another window
                job.folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)

    def waiting(self) -> list[Job]:
        """Return the waiting jobs, in the order in which they start."""
        return self._in_order([job for job in self.all() if job.state == "waiting"])

    def move(self, job: Job, places: int) -> None:
        """Let a waiting job start earlier or later.

        Args:
            job: the job.
            places: the number of places in the queue by which to move the job; a negative number moves it forward.
        """
        with self._changing:
            ids = [each.id for each in self.waiting()]
            if job.id in ids:
                place = ids.index(job.id)
                ids.insert(max(0, place + places), ids.pop(place))
                write_json(self.folder / "order.json", {"ids": ids})

    def start_anyway(self, job: Job) -> None:
        """Let a job start that is held up by `may_start`, once no other job uses the GPU."""
        write_json(job.folder / "anyway.json", {"at": time.time()})

    def held_up_by(self, job: Job) -> str:
        """Return what `may_start` said of a waiting job when it was last asked; "" if nothing holds it up."""
        return self._held_up.get(job.id, "")

    def start_next(self) -> Job | None:
        """Start the first job that may start, and return it: one at a time of those that use the GPU, and any of the others. A job that
        `may_start` holds up lets the next one pass.
        """
        jobs = self.all()
        waiting = self._in_order([job for job in jobs if job.state == "waiting"])
        busy = bool(waiting) and any(job.uses_gpu and job.state == "running" for job in jobs)
        held_up: dict[str, str] = {}
        chosen = None
        for job in waiting:
            if job.uses_gpu and busy:
                continue
            if job.uses_gpu and not (job.folder / "anyway.json").exists() and (why := self.may_start(job)):
                held_up[job.id] = why
                continue
            chosen = job
            break
        self._held_up = held_up
        if chosen is not None:
            self.start(chosen)
        return chosen

    def _in_order(self, jobs: Sequence[Job]) -> list[Job]:
        ids = read_json(self.folder / "order.json").get("ids", [])
        places = {id: place for place, id in enumerate(ids if isinstance(ids, list) else [])}
        return sorted(jobs, key=lambda job: (places.get(job.id, len(places)), job.id))


def _is_supervised(job: Job) -> bool:
    """Return whether the process that started the command of a job, or the command itself, still holds the log."""
    with contextlib.suppress(FileNotFoundError), job.log.open("rb") as log:
        try:
            fcntl.flock(log, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@contextlib.contextmanager
def _unstarted(job: Job) -> Iterator[bool]:
    """Keep a job from being started, and return whether nothing has begun to start it. See `supervise`, which takes the same lock."""
    try:
        with job.log.open("ab") as log:
            try:
                fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
    except FileNotFoundError:
        yield True


def read_json(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file of the studio's own; empty if there is no such file."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file, whole or not at all."""
    write_whole(path, json.dumps(content).encode())


def process_of(told: Mapping[str, Any]) -> psutil.Process | None:
    """Return the process that a `process.json` names, if it still runs. A later process with the same number is another one."""
    try:
        process = psutil.Process(told["pid"])
        alive = abs(process.create_time() - told["created"]) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except (KeyError, psutil.Error):
        return None
    return process if alive else None


def _job(folder: Path) -> Job | None:
    told = read_json(folder / "job.json")
    if not told:
        return None
    return Job(folder, **{**told, "arguments": tuple(told["arguments"])})
