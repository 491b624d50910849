"""Launches of one process or several, one launch after the other, each of which runs several run files: `worker.py LAUNCHES.json`.

This program imports everything once and forks the processes of a launch, as torchrun would start them; launches by torchrun itself are those of
test_launches. A job is a run file, settings that replace its values, and variables of the environment. What became of each, and the memory that it took where
that is "measured", is written beside the launches, by every process.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from distributed.anonymous import watched
from helpers.collecting import leave_libraries_out
from helpers.counted import counted

warnings.simplefilter("error")
warnings.filterwarnings("ignore", category=UserWarning, module="bitsandbytes")


def record_latents(folder: Path) -> None:
    """Write down what is generated for samples of `[validation]` before codecs, which lose something, make media of it."""
    from safetensors.torch import save_file

    import ltxcore.train.generations as drawing

    shown, folder = drawing.shown, folder.with_name(f"{folder.name}.latents")
    folder.mkdir()

    def recorded(sample: Any, latents: Any, codecs: Any) -> Any:
        save_file(
            {name: tensor.contiguous() for name, tensor in latents.items()}, folder / f"{len(list(folder.iterdir())):02d}.safetensors"
        )
        return shown(sample, latents, codecs)

    drawing.shown = recorded


def count_tried(is_tried: bool) -> list[str]:
    """Take the processor for a device whose memory is bounded, as a GPU's is, or not; gets the micro-batches that were tried before training."""
    import ltxcore.train.out_of_memory as trial
    from ltxcore.train.loop import Loop

    tried: list[str] = []
    attempt = getattr(Loop.attempt, "plain", Loop.attempt)

    def noted(loop: Any, micro_batch: Any, others: Any) -> None:
        attempt(loop, micro_batch, others)
        tried.append(micro_batch.id)

    noted.plain = attempt  # type: ignore[attr-defined]
    Loop.attempt = noted  # type: ignore[method-assign]
    trial.memory_is_bounded = lambda device: is_tried  # type: ignore[attr-defined]
    return tried


def main(path: Path) -> None:
    import peft  # noqa: F401
    import torch
    from diffusers import LTX2VideoTransformer3DModel  # noqa: F401

    import ltxcore.train.start_run  # noqa: F401
    from ltxcore.engines.process_group import deepspeed

    deepspeed()
    torch.set_num_threads(1)
    leave_libraries_out()
    for number, launch in enumerate(json.loads(path.read_text())):
        if not succeeds(launch["processes"], launch["jobs"], path.with_suffix(f".{number}")):
            sys.exit(1)


def succeeds(processes: int, jobs: Sequence[Mapping[str, Any]], results: Path) -> bool:
    """Do the jobs of a launch, in so many processes; if one of them fails, the others are ended."""
    from torch.distributed import TCPStore

    place = {}
    if processes > 1:  # the store is not the first process's, which connects once for each job
        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        agent = {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0"}
        place = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), **agent}
    left: set[int] = set()
    for rank in range(processes):
        if child := os.fork():
            left.add(child)
            continue
        if place:
            os.environ.update(place, RANK=str(rank), LOCAL_RANK=str(rank))
        code = 1
        try:
            do(jobs, results.with_name(f"{results.name}.{rank}.results"))
            code = 0
        except BaseException:  # noqa: BLE001 - it must not go on as its parent
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    fails = False
    while left:
        child, status = os.wait()
        left.discard(child)
        if status and not fails:
            fails = True
            for other in left:
                os.kill(other, signal.SIGKILL)
    return not fails


def do(jobs: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Do jobs in this process, and write what became of them."""
    from ltxcore.config.load import load_run
    from ltxcore.errors import LtxError
    from ltxcore.train.start_run import run

    results: list[dict[str, object]] = []
    for job in jobs:
        leave_libraries_out()
        if job.get("recorded") and os.environ.get("RANK", "0") == "0":
            record_latents(load_run(Path(job["run"])).config.output_dir)
        os.environ.update(job.get("environment", {}))
        tried = count_tried(job.get("tried", False))
        if job.get("forked"):  # the run may end its process
            child = os.fork()
            if not child:
                run(load_run(Path(job["run"]), job["settings"]))
                os._exit(0)
            results.append({"signal": os.WTERMSIG(os.waitpid(child, 0)[1])})
            continue
        with watched() if job.get("measured") else nullcontext() as peak, counted() if job.get("counted") else nullcontext() as steps:
            try:
                loaded = load_run(Path(job["run"]), job["settings"])
                outcome = run(loaded, allow_changes=job.get("allow_changes", False))
                results.append({"finished": outcome.finished, "step": outcome.step, "after": dict(outcome.after), "tried": len(tried)})
            except LtxError as error:
                results.append({"error": f"{type(error).__name__}: {error}"})
            except SystemExit as end:
                results.append({"exit": end.code})
        if steps is not None:
            results[-1]["collectives"] = list(steps)
        if peak is not None:
            results[-1]["grown"] = peak.grown
    path.write_text(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
