"""A process with a pretended device: runs checks and writes down what each returned. Started by `asked`, as `python -m pretended.child`."""

from __future__ import annotations

import importlib
import json
import sys
import time
import traceback
import warnings
from pathlib import Path

from helpers.collecting import leave_libraries_out
from pretended.library import load


def main(library: str, asked: str, answers: str) -> None:
    load(Path(library))
    from pretended.runtime import install

    install()
    warnings.simplefilter("error")
    # Not of ltx: torch's own, about a build that says it has CUDA and no kernels of it.
    warnings.filterwarnings("ignore", message=r".*(lru_cache|CUDA initialization|deprecated).*")
    found = {}
    for name, call in json.loads(Path(asked).read_text()).items():
        leave_libraries_out()
        module, _, function = call["check"].partition(":")
        began = time.process_time()
        try:
            value, error = getattr(importlib.import_module(module), function)(**call["arguments"]), ""
        except (Exception, SystemExit):  # noqa: BLE001 - the caller is told of any
            value, error = None, traceback.format_exc()
        found[name] = {"value": value, "error": error, "seconds": round(time.process_time() - began, 1)}
        Path(answers).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
