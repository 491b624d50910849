"""docs/reference/cost.md, counted from the real blocks without weights or memory: `python docs/made/cost.py` writes it, and a test compares."""

from __future__ import annotations

import sys

from compiled import compiled
from counted import ALONE, AUDIO, VIDEO, WAYS, WORDS, Counted, Way, of_a_block, of_a_step
from pages import DOCS, _table

PAGE = DOCS / "reference" / "cost.md"

INTRODUCTION = f"""\
# What a step costs

<!-- made by docs/made/cost.py -->

What training LTX-2.3 asks of a GPU, counted for {VIDEO:,} tokens of video (a reference adds a quarter), {AUDIO} of audio ({ALONE} where
there is no video) and {WORDS:,} of text, in bf16 throughout, with batch size 1. LoRAs have rank 32, on the attention.

These are counts, not measurements: the model runs on tensors that have shapes but no memory. RMS norm counts as one
operation and attention keeps no scores, as on a GPU. A value that is read by all tokens counts once.

- **TFLOP**: the floating-point operations of matrix products and attention, in units of 10¹².
- **moved**: the bytes that all other operations read and write.
- **launched**: the number of these other operations.
- **kept**: the bytes that stay in memory between the forward and the backward pass.
"""

BLOCK = """
## One block

Without gradient checkpointing; forward + backward. The last column is for `acceleration.compile = true`: what the kernels of PyTorch's
compiler read and write, by its own count for a CPU, whose kernels it fuses much as it does a GPU's.

"""

REFERENCE = """
For comparison, a block of ltx-core 1.2.0 moves 71.8 GB + 121.6 GB and keeps 11.0 GB for the LoRA without given tokens, with RMS norm
counted as the operations that it consists of there. Matrix products and attention are the same.
"""

STEP = """
## A step

Forward and backward through all 48 blocks, with gradient checkpointing: the backward pass computes each block a second time. The update
by the optimizer is not included.

"""

BLOCK_HEAD = ("one block", "TFLOP", "moved", "launched", "kept", "moved, compiled")
STEP_HEAD = ("a step", "TFLOP", "moved", "launched", "kept")


def block_line(way: Way, found: Counted, planned: tuple[int, int]) -> str:
    """The row of a way in the table of one block."""
    return _table(BLOCK_HEAD, [(way.said, *_cells(found), " + ".join(map(_gb, planned)))]).splitlines()[-1]


def step_line(way: Way, found: Counted) -> str:
    """The row of a way in the table of a step."""
    return _table(STEP_HEAD, [(way.said, *_cells(found))]).splitlines()[-1]


def _cells(found: Counted) -> tuple[str, ...]:
    return (
        f"{found.forward_flops / 1e12:,.1f} + {found.backward_flops / 1e12:,.1f}",
        f"{_gb(found.forward_bytes)} + {_gb(found.backward_bytes)}",
        f"{found.forward_kernels:,} + {found.backward_kernels:,}",
        _gb(found.kept_bytes),
    )


def _gb(size: int) -> str:
    return f"{size / 1e9:,.1f} GB"


def page() -> str:
    blocks = [block_line(way, of_a_block(way), compiled(way)) for way in WAYS]
    steps = [step_line(way, of_a_step(way)) for way in WAYS]
    return "\n".join(
        [INTRODUCTION + BLOCK + _table(BLOCK_HEAD, ()) + "\n".join(blocks), REFERENCE + STEP + _table(STEP_HEAD, ()) + "\n".join(steps), ""]
    )


def main() -> None:
    PAGE.write_text(page())


if __name__ == "__main__":
    sys.exit(main())
