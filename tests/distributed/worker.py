"""One process of a launch that runs several run files one after the other: `worker.py JOBS.json`.

A job is a run file, settings that replace its values, and variables of the environment. What became of each, and the memory that it took where that is
"measured", is written beside the jobs, by every process.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

from distributed.anonymous import watched
from helpers.collecting import leave_libraries_out

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

    def noted(loop: Any, micro_batch: Any) -> None:
        attempt(loop, micro_batch)
        tried.append(micro_batch.id)

    noted.plain = attempt  # type: ignore[attr-defined]
    Loop.attempt = noted  # type: ignore[method-assign]
    trial.memory_is_bounded = lambda device: is_tried  # type: ignore[attr-defined]
    return tried


def main(path: Path) -> None:
    import torch

    from ltxcore.config.load import load_run
    from ltxcore.errors import LtxError
    from ltxcore.train.start_run import run

    torch.set_num_threads(1)
    jobs = json.loads(path.read_text())
    if any(job.get("measured") for job in jobs):  # the memory of libraries is not that of a run
        import deepspeed  # noqa: F401
        import peft  # noqa: F401
        from diffusers import LTX2VideoTransformer3DModel  # noqa: F401
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
        with watched() as peak:
            try:
                loaded = load_run(Path(job["run"]), job["settings"])
                outcome = run(loaded, allow_changes=job.get("allow_changes", False))
                results.append({"finished": outcome.finished, "step": outcome.step, "after": dict(outcome.after), "tried": len(tried)})
            except LtxError as error:
                results.append({"error": f"{type(error).__name__}: {error}"})
            except SystemExit as end:
                results.append({"exit": end.code})
        if job.get("measured"):
            results[-1]["grown"] = peak.grown
        path.with_suffix(f".{os.environ.get('RANK', '0')}.results").write_text(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
