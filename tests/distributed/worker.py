"""One process of a launch that runs several run files one after the other: `worker.py JOBS.json`.

A job is a run file, settings that replace its values, and variables of the environment. What became of each is written beside the jobs, by every process.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path

warnings.simplefilter("error")
warnings.filterwarnings("ignore", category=UserWarning, module="bitsandbytes")


def main(path: Path) -> None:
    import torch
    from rich.console import Console

    from ltxcore.config.load import load_run
    from ltxcore.errors import LtxError
    from ltxcore.train.run import run

    torch.set_num_threads(1)
    results = []
    for job in json.loads(path.read_text()):
        os.environ.update(job.get("environment", {}))
        try:
            outcome = run(load_run(Path(job["run"]), job["settings"]), Console(quiet=True), allow_changes=job.get("allow_changes", False))
            results.append({"finished": outcome.finished, "step": outcome.step, "after": dict(outcome.after)})
        except LtxError as error:
            results.append({"error": f"{type(error).__name__}: {error}"})
        except SystemExit as end:
            results.append({"exit": end.code})
        path.with_suffix(f".{os.environ.get('RANK', '0')}.results").write_text(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
