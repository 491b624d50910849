"""Plans of run files as they are edited: `ltx plan` in a process of its own, which the next change of the text ends."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import attrs

from ltxcore.api.config import parsed_toml
from ltxplugins.studio.run_file.editing import is_value
from ltxplugins.studio.run_file.files import RunFiles

GPUS = {
    "h100": "H100",
    "h200": "H200",
    "a100": "A100",
    "l40s": "L40S",
    "4090": "RTX 4090",
    "5090": "RTX 5090",
    "3090": "RTX 3090",
}
"""The GPUs that `ltx plan --gpu` knows, and what people call them."""
RELEASED = ("ltx-2-19b", "ltx-2.3-22b", "ltx-2.5-22b")
"""The models that `ltx plan --model` plans for without their weights."""
KEPT = 32
"""How many plans are kept, so that a change that is undone shows its plan at once."""
GIB = 2**30


@attrs.frozen
class Asked:
    """What a plan is for.

    Attributes:
        name: the name of the run file.
        values: the values in the text, without comments.
        gpu: one of `GPUS`.
        gpus: the number of GPUs.
        model: one of `RELEASED`, or "" for the model of the file.
    """

    name: str
    values: str
    gpu: str
    gpus: int
    model: str


@attrs.define
class Plan:
    """A plan, or how far it is.

    Attributes:
        state: "running", "done", or "failed".
        said: what the command is doing, in its own words, or why it failed.
        cost: the output of `ltx plan --json`.
        model: the released model that was planned for in place of the file's; "" for the file's own.
    """

    state: Literal["running", "done", "failed"]
    said: str = ""
    cost: Mapping[str, Any] = attrs.field(factory=dict)
    model: str = ""

    @property
    def remedies(self) -> list[Remedy]:
        """The changes, each of which makes the run fit."""
        return [remedy_of(each) for each in self.cost["would_fit"]]


@attrs.frozen
class Remedy:
    """A change that makes a run fit.

    Attributes:
        said: the lines about the change in the output of `ltx plan`.
        changes: the keys of the run file with their values in TOML notation; empty if it is not a change of the file alone.
        gpus: the number of GPUs with the change; 0 if it stays the same.
        peak: the memory that each GPU needs with the change, in bytes.
        host: the CPU memory that the run needs with the change, in bytes.
        seconds: the seconds of a step, divided by its number of samples.
    """

    said: tuple[str, ...]
    changes: tuple[tuple[str, str], ...]
    gpus: int
    peak: int
    host: int
    seconds: float


class Plans:
    """The plans of a workspace.

    Args:
        files: the run files.
    """

    def __init__(self, files: RunFiles) -> None:
        self._files = files
        self._lock = threading.Lock()
        self._found: OrderedDict[Asked, Plan] = OrderedDict()
        self._running: dict[str, tuple[Asked, Plan, subprocess.Popen[str]]] = {}

    def ask(self, name: str, text: str, gpu: str, gpus: int, model: str) -> Plan:
        """Return the plan of a text, or that it is being made. A plan for another text of the same file is ended.

        Args:
            name: the name of the run file.
            text: the text of the run file, which is TOML.
            gpu: one of `GPUS`.
            gpus: the number of GPUs.
            model: one of `RELEASED`, or "" for the model of the file or, if that is not on this machine, the released model that its path names.

        Raises:
            ConfigError: the text is not TOML, or nothing can be written beside the run file.
        """
        document = parsed_toml(text, self._files.path(name))
        if not model:
            model = _released(document, self._files.path(name).parent)
        asked = Asked(name, json.dumps(document, sort_keys=True, default=str), gpu, gpus, model)
        with self._lock:
            if asked in self._found:
                self._end(name)
                self._found.move_to_end(asked)
                found = self._found[asked]
                if found.state == "failed":  # told once: what it complains of may be mended outside the text
                    del self._found[asked]
                return found
            if name in self._running and self._running[name][0] == asked:
                return self._running[name][1]
            self._end(name)
            return self._start(asked, text)

    def stop(self, name: str) -> None:
        """End the plan of a run file, if one is being made."""
        with self._lock:
            self._end(name)

    def _end(self, name: str) -> None:
        if name in self._running:
            self._running.pop(name)[2].kill()

    def _start(self, asked: Asked, text: str) -> Plan:
        beside = self._files.beside(asked.name, text)
        options = ["--json", "--gpu", asked.gpu, "--gpus", str(asked.gpus), *(["--model", asked.model] if asked.model else [])]
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "ltxcore", "plan", str(beside), *options],
            cwd=self._files.workspace.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
        )
        plan = Plan("running", "starting", model=asked.model)
        self._running[asked.name] = (asked, plan, process)
        threading.Thread(target=self._follow, args=(asked, plan, process, beside), daemon=True).start()
        return plan

    def _follow(self, asked: Asked, plan: Plan, process: subprocess.Popen[str], beside: Path) -> None:
        """Read what the command says until it ends, and keep its plan."""
        printed, said = [""], [""]
        with process:
            assert process.stderr is not None
            reader = threading.Thread(target=lambda: printed.append(process.stdout.read() if process.stdout else ""), daemon=True)
            reader.start()
            for line in process.stderr:
                said.append(line.rstrip("\n").rpartition("\r")[2])
                plan.said = _named(said[-1], beside, asked.name)
            reader.join()
        beside.unlink(missing_ok=True)
        with self._lock:
            if self._running.get(asked.name, (None, None))[1] is not plan:
                return  # ended by a later change
            del self._running[asked.name]
            with contextlib.suppress(ValueError):
                plan.cost = json.loads("".join(printed))
            plan.said = "" if plan.cost else _named("\n".join(said), beside, asked.name).strip()
            plan.state = "done" if plan.cost else "failed"
            self._found[asked] = plan
            while len(self._found) > KEPT:
                self._found.popitem(last=False)


def parts_of(cost: Mapping[str, Any]) -> tuple[str, list[tuple[str, int]]]:
    """Return a description of the moment when a GPU needs the most memory, and the bytes that each part takes then. The parts add up to
    `gpu_peak`.

    Source: docs/explanation/arithmetic.md#memory-of-a-device
    """
    gpu, peak = cost["gpu"], cost["gpu_peak"]
    size = {name: value or 0 for name, value in gpu.items() if name != "activations"}
    lasting = [("weights", size["weights"]), ("average of the weights", size["average"]), ("copy of the base", size["copy"])]
    optimizer = ("optimizer", size["optimizer"])
    moments = {
        "as samples are decoded": [*lasting, ("kept for training", size["kept"]), optimizer, ("decoding", size["decoding"])],
        "as samples are decoded, without the optimizer": [*lasting, ("kept for training", size["kept"]), ("decoding", size["decoding"])],
        "as the optimizer steps": [*lasting, ("gradients", size["gradients"]), optimizer, ("update", size["step"])],
    }
    for moment, parts in moments.items():
        if sum(bytes for _, bytes in parts) == peak:
            return moment, [part for part in parts if part[1]]
    parts = [*lasting, optimizer, ("communication", size["communication"]), ("inputs", gpu["activations"]["inputs"])]
    parts.append(("activations and gradients", peak - sum(bytes for _, bytes in parts)))
    return "in forward and backward", [part for part in parts if part[1] > 0]


def remedy_of(told: Mapping[str, Any]) -> Remedy:
    """Return a change that makes a run fit, from what `ltx plan --json` tells of it."""
    changes, gpus = [], 0
    for said in (each for line in told["changes"] for each in line.split(", and ")):
        key = re.match(r"([a-z_]+(?:\.[a-z_]+)+) = (.+?)(?:, which needs .*)?$", said)
        number = re.fullmatch(r"--gpus (\d+)", said)
        if key and is_value(key[2]):
            changes.append((key[1], key[2]))
        elif number:
            gpus = int(number[1])
        else:
            changes, gpus = [], 0
            break
    return Remedy(tuple(told["changes"]), tuple(changes), gpus, told["gpu_peak_with_margin"], told["host"], told["seconds"])


def _released(document: Mapping[str, Any], folder: Path) -> str:
    """Return the released model that is named in the path of a model that is not on this machine; "" for none."""
    model = document.get("model")
    path = model.get("model_path") if isinstance(model, Mapping) else None
    if not isinstance(path, str) or path == "tiny" or "\0" in path or (folder / path).exists():
        return ""
    return next((name for name in RELEASED if name in path.lower()), "")


def _named(said: str, beside: Path, name: str) -> str:
    """Return what a command printed, with the file that it read under the name that the user knows."""
    return said.replace(str(beside), name).replace(beside.name, name)
