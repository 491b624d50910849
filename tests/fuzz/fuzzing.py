"""Whatever stands in a file of the user's, the answer is words: run files and inputs of every command with something changed, by a seed.

    python tests/fuzz/fuzzing.py --seed 1 --count 10000            # run files, through what `ltx check` does
    python tests/fuzz/fuzzing.py --seed 1 --each 500               # the inputs of each command
    python tests/fuzz/fuzzing.py --seed 1 --each 500 --only model  # of one command
    python tests/fuzz/fuzzing.py --again 1/model/17                # one of them, with what was said

It ends with 1 where anything was answered otherwise, took too long, or wrote outside its folder.
"""

from __future__ import annotations

import argparse
import collections
import faulthandler
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch

sys.path[:0] = [str(Path(__file__).parents[1])]

from fuzz.run_files import RunFiles  # noqa: E402

RUN_FILES = "run files"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=0, help="run files")
    parser.add_argument("--each", type=int, default=0, help="inputs of each command")
    parser.add_argument("--only", action="append", help="one command; may be repeated")
    parser.add_argument("--again", help="one trial: SEED/NAME/NUMBER")
    asked = parser.parse_args()
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="fuzzing.") as folder:
        os.chdir(folder)
        os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
        return _run(asked, Path(folder).resolve())


def _run(asked: argparse.Namespace, folder: Path) -> int:
    from fuzz.commands import COMMANDS

    makers = {RUN_FILES: RunFiles.at, **COMMANDS}
    if asked.again:
        _, name, _ = asked.again.split("/")
        said, wrong = makers[name](folder / "world").trial(asked.again)
        _say(f"{said}\n\n{wrong}")
        return bool(wrong)
    counts = {RUN_FILES: asked.count, **dict.fromkeys(COMMANDS, asked.each)}
    failed = 0
    for name, count in counts.items():
        if count and name in (asked.only or counts):
            failed += _all(makers[name](folder / name), asked.seed, name, count)
    return bool(failed)


def _all(trials: Any, seed: int, name: str, count: int) -> int:
    kinds, examples, failed = collections.Counter[str](), dict[str, str](), 0
    begin, spent = time.perf_counter(), time.process_time()
    for number in range(count):
        faulthandler.dump_traceback_later(600, exit=True)
        which = f"{seed}/{name}/{number}"
        said, wrong = trials.trial(which)
        kinds["in order" if said == "in order" else "refused" if not wrong else "failed"] += 1
        if wrong:
            failed += 1
            examples.setdefault(wrong[:120], which)
            _say(f"  {which}: {wrong}")
    faulthandler.cancel_dump_traceback_later()
    told = ", ".join(f"{number} {kind}" for kind, number in kinds.items())
    _say(f"{name}: {count} tried, {told}; {time.perf_counter() - begin:.0f} s, {time.process_time() - spent:.0f} of the processor")
    return failed


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
