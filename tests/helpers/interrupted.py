"""Commands that are killed, or refused by the disk, at the n-th thing that they do to a folder; then given again.

A program of its own (`PYTHONPATH=tests python tests/helpers/interrupted.py JOBS.json`): it imports everything once and forks, so that a kill takes as long as
the command alone. What a command does to files is seen by an audit hook of Python, and by its calls of fsync. A kill at an fsync cuts the file in half first,
as a power cut may.

The fault is done at every moment that is tried. From what it leaves, the command is given again once for each state of the folder: many moments leave one and
the same, and what a command makes of a folder depends on nothing but the folder.

Each job is a table: `folder` with what the command finds, `command` ("{server}" in it stands for one that answers for a model), `outputs` (patterns of what it
makes), `checkpoints` (the folder of a run's, where it is one), `fault` ("kill", or a name of errno), `points` (how many moments are tried, spread over all; 0:
every one) and `first` (the moment to begin at).
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import importlib
import json
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from helpers.hits import Hits
from ltxcore.errors import LtxError

CLOCK = ("step_seconds", "tokens_per_second", "peak_memory_gib")


def child(job: dict[str, Any], at: int, said: Path, log: Path, modules: Path | None = None) -> int:
    """Exit status of the command in a process of its own; a signal's number below 0."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code, folder = 99, Path(job["folder"])
    try:
        with said.open("w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        os.chdir(folder)
        from ltxcore.cli.main import main

        log.unlink(missing_ok=True)
        Hits(folder, at, job["fault"], log).install()
        try:
            main([str(part) for part in job["command"]])
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        sys.stdout.flush()
        sys.stderr.flush()
        if modules is not None:
            modules.write_text(json.dumps(sorted(sys.modules)))
    except BaseException:  # noqa: BLE001 (what it was is read by the parent)
        import traceback

        with contextlib.suppress(BaseException):
            traceback.print_exc()
            sys.stderr.flush()
    finally:
        os._exit(code)


def warmed(names: list[str]) -> None:
    """Import what a command imported, which the processes after it then need not do, and keep the collector from what they share with this one."""
    for name in names:
        if name not in sys.modules:
            with contextlib.suppress(Exception):  # some are no modules of their own, but parts of compiled ones
                importlib.import_module(name)
    gc.collect()
    gc.freeze()


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
    if path.suffix == ".safetensors":  # the library writes metadata in any order
        with contextlib.suppress(ValueError):  # it is torn, and stays as it is
            end = 8 + int.from_bytes(data[:8], "little")
            return json.dumps(json.loads(data[8:end]), sort_keys=True).encode() + data[end:]
    return re.sub(rb'"(time|changed)": [0-9.e+]+', b"", data) if path.suffix == ".jsonl" else data


def state(folder: Path, began: int) -> str:
    """A hash of what a folder holds that was changed since a time, and of the names of all; without numbers of processes and of the clock."""
    parts = []
    for path in folder.rglob("*"):
        name = re.sub(r"\d+-\d+\.unfinished", ".unfinished", str(path.relative_to(folder)))
        about = path.lstat()
        data = path.read_bytes() if path.is_file() and about.st_mtime_ns >= began else b""
        if ".writer" in name or ".html" in name:  # the page is never read, and of who writes only whether it is said to the end
            data = data[-1:]
        elif ".json" in name:
            data = re.sub(rb'"(time|seen|%s)": [0-9.e+-]+' % "|".join(CLOCK).encode(), b"", data)
            if "raw_files" in name:  # threads add to it, in any order
                data = b"\n".join(sorted(data.splitlines()))
        parts.append(f"{name} {about.st_mode} {about.st_mtime_ns >= began} {hashlib.sha256(data).hexdigest()}")
    return hashlib.sha256("\n".join(sorted(parts)).encode()).hexdigest()


def moments(count: int, points: int) -> list[int]:
    """Which of `count` moments are tried, from 1; one is in the midst."""
    if not points or points >= count:
        return list(range(1, count + 1))
    if points == 1:
        return [1 + count // 2]
    return sorted({1 + round(number * (count - 1) / (points - 1)) for number in range(points)})


def promised(job: dict[str, Any], before: set[int], events: list[str]) -> int:
    """The step of the newest checkpoint that there must be after some events; 0: none."""
    steps = set(before)
    for event in events:
        if found := re.search(r"^(\S+) .*/step_(\d+)/\.?manifest\.json", event):
            if found[1] == "os.rename":
                steps.add(int(found[2]))
            elif found[1] == "os.remove" and "unfinished" not in event:
                steps.discard(int(found[2]))
    return max(steps, default=0)


def saved(folder: Path) -> int:
    """The step of the newest checkpoint, each file of which is as it was saved; 0: there is none."""
    from ltxcore.runs import checkpoint

    found = checkpoint.newest(folder)
    return found.step if found is not None and checkpoint.check(found) else 0


class Job:
    """A command, tried with one fault at many moments."""

    def __init__(self, name: str, job: dict[str, Any], place: Path) -> None:
        self.name, self.job, self.folder, self.kept = name, job, Path(job["folder"]), place / "kept"
        self.said, self.log, self.modules = place / "said.txt", place / "log.txt", place / "modules.json"
        self.kills = job["fault"] == "kill"
        self.known: dict[str, tuple[int, str, dict[str, str]]] = {}
        self.wrong: list[str] = []
        self.tried = self.moments = 0
        self.expected: dict[str, str] = {}

    def fresh(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.kept, self.folder, symlinks=True)

    def go(self) -> dict[str, Any]:
        """What became of it: how many moments there are, how many were tried, how many states they left, and what was wrong after some of them."""
        if not self.kept.exists():
            shutil.copytree(self.folder, self.kept, symlinks=True)
        self.fresh()
        if code := child(self.job, 0, self.said, self.log, self.modules):
            return {"wrong": [f"without a fault it ends with {code}: {self.said.read_text()}"], "tried": 0, "moments": 0, "states": 0}
        self.expected = made(self.folder, self.job["outputs"])
        self.moments = len(self.log.read_text().splitlines())
        warmed(json.loads(self.modules.read_text()))
        told = time.monotonic()
        for at in moments(self.moments, self.job.get("points", 0)):
            if at < self.job.get("first", 1):
                continue
            self.tried += 1
            self.wrong += (wrong := list(self.at(at)))
            if wrong or at == self.moments or time.monotonic() - told > 20:
                told = time.monotonic()
                sys.stderr.write(
                    f"{self.name}, {self.job['fault']}: {at} of {self.moments}, {len(self.known)} states, {len(self.wrong)} lost\n"
                )
                sys.stderr.write("".join(f"  {what}\n" for what in wrong))
        return {"moments": self.moments, "tried": self.tried, "states": len(self.known), "wrong": self.wrong}

    def at(self, at: int) -> Iterator[str]:
        """What is wrong with the fault at a moment."""
        self.fresh()
        checkpoints = self.folder / self.job.get("checkpoints", "none")
        before = {int(path.parent.name[5:]) for path in checkpoints.glob("step_*/manifest.json")}
        began = time.time_ns()
        code = child(self.job, at, self.said, self.log)
        first, events = self.said.read_text(), self.log.read_text().splitlines()
        where = f"at {at}, {events[at - 1].replace(str(self.folder), '.') if len(events) >= at else 'not reached'}"
        left: dict[str, str] = {}
        with contextlib.suppress(ValueError):  # a line of metrics that is cut
            left = made(self.folder, self.job["outputs"])
        if self.kills and code != -signal.SIGKILL:
            yield f"{where}: not killed, it ended with {code}: {first}"
        if "Traceback" in first or not (self.kills or (code == 2 and "\n    " in first) or (code == 0 and left == self.expected)):
            yield f"{where}: {code}: {first}"
        try:
            step = saved(checkpoints)
        except LtxError as error:
            yield f"{where}: {error}"
            step = 0
        if step < (due := promised(self.job, before, events[: at - 1])):
            yield f"{where}: the newest checkpoint is of step {step}, and that of step {due} was there"
        if (key := state(self.folder, began)) not in self.known:
            code, found = child(self.job, 0, self.said, self.log), made(self.folder, self.job["outputs"])
            self.known[key] = code, self.said.read_text(), found
        code, second, found = self.known[key]
        if found != self.expected or (code and left != self.expected) or "Traceback" in second:
            differs = [name for name in sorted({*found, *self.expected}) if found.get(name) != self.expected.get(name)]
            yield f"{where}: then {code}, differs in {differs}: {first} / {second}"
        elif step and not code and f"resuming after step {step}" not in second:
            yield f"{where}: does not go on after step {step}: {second}"


def served() -> tuple[str, int]:
    """The address of a server that captions what it is sent by its hash, and the process that it is."""
    from helpers.chat_server import Server, said

    server = Server()
    server.reply = lambda number: said(f"caption {hashlib.sha256(json.dumps(server.sent[-1]).encode()).hexdigest()}")
    pid = os.fork()
    if not pid:
        server.http.serve_forever()
    server.http.server_close()
    return server.url, pid


def main(path: Path) -> None:
    import torch

    torch.set_num_threads(1)
    place = path.parent / "interrupted"
    place.mkdir(exist_ok=True)
    url, server = served()
    done = {}
    try:
        for name, job in json.loads(path.read_text().replace("{server}", url)).items():
            done[name] = Job(name, job, place).go()
            path.with_suffix(".results").write_text(json.dumps(done, indent=1))
    finally:
        os.kill(server, signal.SIGKILL)
        os.waitpid(server, 0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
