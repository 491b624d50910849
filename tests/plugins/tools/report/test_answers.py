"""Did it learn, and is it still learning: what is said of runs whose numbers are known."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from helpers.made_run import STEPS, made_run, metrics
from ltxcore.api.runs import Record, read_run
from ltxplugins.tools.report.answers import HOLD_OUT, Bar, held_out, learned, quarter_change, still_learning

LISTENS = "With the conditioning of another clip it is 3.0 times as high: the model uses its conditioning."


def record(folder: Path, **changed: Any) -> Record:
    return read_run(made_run(folder / "run", lines=metrics(**changed)))


def test_held_out_losses_are_means_over_the_measured_sigmas(tmp_path: Path) -> None:
    found = held_out(record(tmp_path, held_out=(1.0, 0.8, 0.5)))
    assert [each.modality for each in found] == ["video", "audio"]
    for each in found:
        assert each.own.steps == (0, STEPS // 2, STEPS)
        assert each.own.values == pytest.approx((1.0, 0.8, 0.5))
        assert each.other == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("last", "word", "tone", "said"),
    [
        (0.5, "Yes", "good", "fell by 50%"),
        (0.98, "A little", "fair", "fell by 2%"),
        (1.0, "Not measurably", "fair", "stayed the same"),
        (1.2, "No, it got worse", "bad", "rose by 20%"),
    ],
)
def test_a_run_has_learned_as_far_as_its_held_out_loss_fell(tmp_path: Path, last: float, word: str, tone: str, said: str) -> None:
    answer = learned(record(tmp_path, held_out=(1.0, last)))
    assert (answer.word, answer.tone) == (word, tone)
    assert answer.reason == f"On 12 held-out clips, which it never trained on, the loss {said} on video, and {said} on audio. {LISTENS}"
    bars = [Bar("before", 1.0, "before"), Bar("after", pytest.approx(last), "after")]
    bars.append(Bar("with another clip's conditioning", pytest.approx(3 * last), "other"))
    assert answer.bars == {"video": bars, "audio": bars}


def test_a_model_that_ignores_what_it_is_given_is_told_of(tmp_path: Path) -> None:
    assert learned(record(tmp_path, listens=1.0)).reason.endswith(
        "With the conditioning of another clip the loss is about the same: the model hardly uses its conditioning."
    )


def test_a_loss_that_rose_again_is_told_of(tmp_path: Path) -> None:
    assert learned(record(tmp_path, held_out=(1.0, 0.5, 0.6))).reason.endswith(
        "It was lowest at step 100 and has risen by 20% since: use fewer steps, or more data."
    )


def test_without_held_out_clips_it_is_not_known_and_the_training_loss_is_told(tmp_path: Path) -> None:
    answer = learned(record(tmp_path, held_out=()))
    assert (answer.word, answer.tone) == ("Not known", "none")
    # Mean of 0.2 + exp(-3 t) over the first and the last tenth of t.
    first, last = (0.2 + (math.exp(-3 * a) - math.exp(-3 * (a + 0.1))) / 0.3 for a in (0.0, 0.9))
    assert [bar.value for bar in answer.bars["training"]] == pytest.approx([2 * first, 2 * last], rel=0.05)
    assert answer.reason == (
        f"Nothing was held out. The training loss fell by 77% from the first tenth of the steps to the last: this may be memorization. {HOLD_OUT}"
    )


def test_of_too_few_steps_nothing_is_said(tmp_path: Path) -> None:
    found = record(tmp_path, held_out=(), steps=30)
    assert learned(found).reason == f"Nothing was held out, and there are too few steps to tell how the training loss changed. {HOLD_OUT}"
    assert still_learning(found).reason == "There are too few steps to tell (30)."
    assert (learned(found).word, still_learning(found).word) == ("Not known", "Not known")


@pytest.mark.parametrize(("fall", "word"), [(1.0, "Yes"), (0.0, "Not measurably"), (-0.3, "No, it is rising")])
def test_a_run_is_still_learning_while_its_loss_falls_by_more_than_chance(tmp_path: Path, fall: float, word: str) -> None:
    found = record(tmp_path, fall=fall)
    assert still_learning(found).word == word
    third, fourth = (
        0.2 + (1.0 if fall == 0 else (math.exp(-3 * fall * a) - math.exp(-3 * fall * (a + 0.25))) / (0.75 * fall)) for a in (0.5, 0.75)
    )
    change, error = quarter_change(found, STEPS)
    assert change == pytest.approx(1 - fourth / third, abs=3 * error)
    assert 0 < error < 0.02


def test_a_learning_rate_that_ran_out_is_told_of(tmp_path: Path) -> None:
    assert still_learning(record(tmp_path)).reason.endswith(
        "More steps are likely to help. "
        "The learning rate had decayed to 0.0% of its peak, so train longer in a new run, with a schedule of that length."
    )
