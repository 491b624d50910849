"""How often each sample is trained on, and how full micro-batches are: counted, and as a run draws them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from helpers.training_runs import sound_set, tables, write_run
from ltxcore.config.load import load_run
from ltxcore.encoded.batches import Order, Portion
from ltxcore.runs.passes import Passes, passes_of, said


def test_samples_of_a_pass_and_of_a_step_are_those_that_the_run_draws(tmp_path: Path) -> None:
    """Nine clips of four shapes in batches of 16: none is ever full."""
    run = tables(sound_set(tmp_path / "data", 5), tmp_path / "out", optimization={"steps": 60, "batch_size": 16})
    order = Order(tuple((Portion(tuple(names), len(names)),) for names in ("a", "bc", "defg", "hi")), (16,) * 4, seed=0)
    found = passes_of(order, load_run(write_run(tmp_path, run)).config, 2)
    drawn = [order.step(step, 2) for step in range(60)]
    names = [name for step in drawn for batch in step for name in batch.names]
    assert found.passes == 30 == len(names) / 9
    assert found.in_step == len(names) / 60 == 4.5
    assert (found.samples, found.per_pass, found.not_full) == (9, 4, 4)
    assert found.in_batch == 2.25


@pytest.mark.parametrize(
    ("shapes", "batch_size", "words"),
    [
        ((6,), 3, "each of 6 samples 50 times"),
        ((7,), 3, "each of 7 samples 33.3 times; 1 of 3 micro-batches is not full: 2.33 of 3 on average"),
        (
            (1, 1, 3),
            3,
            "each of 5 samples 33.3 times; 2 of 3 micro-batches are not full (each holds samples of one shape, and there are 3 shapes): "
            "1.67 of 3 on average",
        ),
        ((1,), 2, "the one sample 100 times; the only micro-batch is not full: 1 of 2 on average"),
    ],
)
def test_passes_are_said_in_a_sentence(shapes: tuple[int, ...], batch_size: int, words: str) -> None:
    found = Passes(shapes, (batch_size,) * len(shapes), steps=100, at_once=1)
    assert said(found) == words
    assert math.isclose(found.passes * found.samples, found.steps * found.in_step)


@pytest.mark.parametrize(
    ("shapes", "sizes", "words"),
    [
        ((8, 3), (4, 1), "each of 11 samples 20 times; a micro-batch of up to 60 tokens holds 1 to 4 of one shape, 2.2 on average"),
        (
            (8, 2),
            (4, 0),
            "each of 10 samples 25 times; a micro-batch of up to 60 tokens holds 1 to 4 of one shape, 2.5 on average; "
            "samples with more tokens, each in a micro-batch of its own: 2",
        ),
        ((3,), (1,), "each of 3 samples 33.3 times; a micro-batch of up to 60 tokens holds 1 of one shape"),
    ],
)
def test_passes_of_micro_batches_of_tokens_are_said_in_a_sentence(shapes: tuple[int, ...], sizes: tuple[int, ...], words: str) -> None:
    assert said(Passes(shapes, sizes, steps=100, at_once=1, tokens=60)) == words
