"""Commands that are killed, or refused by the disk, at the n-th thing that they do to a folder; then given again.

A program of its own (`python tests/interrupted.py JOBS.json`): it imports everything once and forks, so that a kill takes as long as the command alone. What a
command does to files is seen by an audit hook of Python, and by its calls of fsync. A kill at an fsync cuts the file in half first, as a power cut may.

Each job is a table: `folder` with what the command finds, `command`, `outputs` (patterns of what it makes), `fault` ("kill", or a name of errno), `points` (how
many moments are tried, spread over all; 0: every one) and `processes` (of which the first is hit; more than one run it by `ltx launch`).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

CLOCK = ("step_seconds", "tokens_per_second", "peak_memory_gib")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate", "os.utime"}

DRY = {errno.ENOSPC, errno.EDQUOT}
"""Errors of a full disk, which still lets files go away."""


class Hits:
    """Counts what is done to a folder, and acts at one moment of it."""

    def __init__(self, folder: Path, at: int, fault: str, log: Path | None = None) -> None:
        self.folder, self.at, self.log = f"{folder}/", at, log
        self.kills, self.number, self.count = fault == "kill", getattr(errno, fault, 0), 0
        self.busy = False

    def install(self) -> None:
        sync = os.fsync

        def fsync(handle: int) -> None:
            path = str(Path(f"/proc/self/fd/{handle}").readlink())
            if path.startswith(self.folder):
                self.hit("fsync", path)
            sync(handle)

        os.fsync = fsync
        sys.addaudithook(self.hook)

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.busy or not arguments:
            return
        if event == "open":
            path, mode, flags = arguments
            if isinstance(mode, str) and not set(mode) & set("wax+"):
                return
            if not isinstance(mode, str) and not flags & WRITES:
                return
        elif event not in CHANGES:
            return
        path = arguments[0]
        if isinstance(path, int) or not isinstance(path, (str, bytes)):
            return
        path = os.fsdecode(path)
        inside = path.startswith(self.folder) or (not path.startswith("/") and (event != "open" or Path.cwd() == Path(self.folder)))
        if inside and not (event in ("os.remove", "os.rmdir") and self.number in DRY):
            self.hit(event, path)

    def hit(self, event: str, path: str) -> None:
        self.count += 1
        self.busy = True
        try:
            if self.log is not None:
                with self.log.open("a") as file:
                    file.write(f"{event} {path}\n")
            if self.kills and self.count == self.at:
                if event == "fsync" and Path(path).is_file():
                    os.truncate(path, Path(path).stat().st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)
        finally:
            self.busy = False
        if self.number and self.at and self.count >= self.at:
            raise OSError(self.number, os.strerror(self.number), path)


def child(job: dict[str, Any], folder: Path, at: int, said: Path, log: Path | None = None) -> int:
    """Exit status of the command in a process of its own; a signal's number below 0."""
    pid = os.fork()
    if pid:
        status = os.waitpid(pid, 0)[1]
        return os.waitstatus_to_exitcode(status)
    code = 99
    try:
        with said.open("w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        os.chdir(folder)
        from ltxcore.cli.main import main

        if at or log is not None:
            Hits(folder, at, job.get("fault", "kill"), log).install()
        try:
            main([str(part) for part in job["command"]])
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:  # noqa: BLE001 (what it was is read by the parent)
        import traceback

        with contextlib.suppress(BaseException):
            traceback.print_exc()
            sys.stderr.flush()
    finally:
        os._exit(code)


def made(folder: Path, outputs: list[str]) -> dict[str, str]:
    """What a command made: of each file a hash, without what depends on the clock."""
    found = {}
    for pattern in outputs:
        for path in sorted(folder.glob(pattern)):
            if path.is_file() and ".unfinished" not in path.name:
                found[str(path.relative_to(folder))] = hashlib.sha256(timeless(path)).hexdigest()
    return found


def timeless(path: Path) -> bytes:
    if path.name == "metrics.jsonl":
        lines = [json.loads(line) for line in path.read_bytes().splitlines()]
        steps = [{key: value for key, value in line.items() if key not in CLOCK} for line in lines if "loss" in line]
        return json.dumps(steps).encode()
    data = path.read_bytes()
    return re.sub(rb'"(time|changed)": [0-9.e+]+', b"", data) if path.suffix == ".jsonl" else data


def moments(count: int, points: int) -> list[int]:
    """Which of `count` moments are tried, from 1; one is in the midst."""
    if not points or points >= count:
        return list(range(1, count + 1))
    if points == 1:
        return [1 + count // 2]
    return sorted({1 + round(number * (count - 1) / (points - 1)) for number in range(points)})


def tried(job: dict[str, Any], place: Path) -> dict[str, Any]:
    """What became of a job: how many moments there are, how many were tried, and what was wrong after some of them."""
    work, said, log = place / "work", place / "said.txt", place / "log.txt"

    def fresh() -> None:
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(job["folder"], work, symlinks=True)

    fresh()
    log.unlink(missing_ok=True)
    code = child(job, work, 0, said, log)
    if code:
        return {"wrong": [f"without a fault it ends with {code}: {said.read_text()}"], "tried": 0, "moments": 0}
    expected = made(work, job["outputs"])
    events = log.read_text().splitlines()
    wrong, count = [], 0
    for at in moments(len(events), job.get("points", 0)):
        fresh()
        count += 1
        code, first = child(job, work, at, said), said.read_text()
        where = f"at {at}, {events[at - 1].replace(str(work), '.')}"
        if job.get("fault", "kill") == "kill" and code != -signal.SIGKILL:
            wrong.append(f"{where}: not killed, it ended with {code}: {first}")
        if "Traceback" in first or (job.get("fault", "kill") != "kill" and code not in (0, 2)):
            wrong.append(f"{where}: {code}: {first}")
        before = None
        with contextlib.suppress(ValueError):
            before = made(work, job["outputs"])
        code, second = child(job, work, 0, said), said.read_text()
        found = made(work, job["outputs"])
        if found != expected or (code and before != expected) or "Traceback" in second:
            differs = [name for name in sorted({*found, *expected}) if found.get(name) != expected.get(name)]
            wrong.append(f"{where}: then {code}, differs in {differs}: {first} / {second}")
    return {"moments": len(events), "tried": count, "wrong": wrong}


def main(path: Path) -> None:
    import torch

    torch.set_num_threads(1)
    import peft  # noqa: F401

    import ltxcore.cli.run
    import ltxcore.models.load_base
    import ltxcore.prepare.decode
    import ltxcore.sample.generate
    import ltxcore.train.start_run  # noqa: F401
    import ltxplugins.tools.report.write  # noqa: F401

    place = path.parent / "interrupted"
    place.mkdir(exist_ok=True)
    results = path.with_suffix(".results")
    done = {}
    for name, job in json.loads(path.read_text()).items():
        done[name] = tried(job, place)
        results.write_text(json.dumps(done, indent=1))
        sys.stderr.write(f"{name}: {done[name]['tried']} of {done[name]['moments']}, {len(done[name]['wrong'])} wrong\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
