"""Numbers at the ends of their ranges, with which a run is as well as with any other."""

from __future__ import annotations

from pathlib import Path

from helpers.training_runs import loaded_run, sound_set
from ltxcore.runs.checks import check_run
from ltxcore.train.start_run import run

LARGEST = 2**63 - 1


def test_a_run_takes_the_ends_of_the_ranges_that_a_check_takes(tmp_path: Path) -> None:
    sound_set(tmp_path / "data", count=4)
    loaded = loaded_run(
        tmp_path,
        lora={"rank": 2, "alpha": 10**6},
        optimization={"steps": 1, "batch_size": 10**6, "max_grad_norm": 1e300, "weight_decay": 100, "betas": [0.999999, 0.9999999]},
        checkpoints={"interval": LARGEST, "keep_last_n": LARGEST},
        validation={"seed": LARGEST, "interval": LARGEST, "inference_steps": 2, "frame_rate": 0.1},
        data={"held_out": 1, "num_dataloader_workers": 8},
        seed=LARGEST,
    )
    check_run(loaded)
    assert run(loaded).finished
