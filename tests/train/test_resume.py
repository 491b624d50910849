"""Whether an unfinished run is that of a run file: any engine and number of processes, as long as the global batch stays the same."""

from __future__ import annotations

from ltxcore.train.resume import Difference, difference


def run(seed: int = 1, accumulation: int = 2, engine: str = "auto") -> str:
    return f'seed = {seed}\n[optimization]\nsteps = 4\ngradient_accumulation_steps = {accumulation}\n[engine]\nname = "{engine}"\n'


def test_the_same_run_goes_on_and_so_does_it_on_another_engine() -> None:
    assert difference(run(), run()) is None
    assert difference(run(engine="single"), run(engine="zero")) is None


def test_another_number_of_processes_goes_on_where_the_accumulation_makes_up_for_it() -> None:
    assert difference(run(accumulation=4), run(accumulation=1), (1, 4)) is None
    assert difference(run(accumulation=2), run(accumulation=4), (2, 1)) is None


def test_another_global_batch_is_refused_with_the_accumulation_that_would_keep_it() -> None:
    assert difference(run(accumulation=2), run(accumulation=2), (2, 1)) == Difference(
        "that takes 4 micro-batches a step (accumulation 2, processes 2), and here a step would take 2 (accumulation 2, processes 1)",
        "Set optimization.gradient_accumulation_steps to 4.",
    )
    assert difference(run(accumulation=1), run(accumulation=1), (4, 3)) == Difference(
        "that takes 4 micro-batches a step (accumulation 1, processes 4), and here a step would take 3 (accumulation 1, processes 3)",
        "Go on with a number of processes that divides 4.",
    )
    assert difference(run(accumulation=2), run(accumulation=3)) == Difference(
        "that takes 2 micro-batches a step (accumulation 2, processes 1), and here a step would take 3 (accumulation 3, processes 1)",
        "Set optimization.gradient_accumulation_steps to 2.",
    )


def test_another_run_file_is_refused_with_the_lines_that_differ() -> None:
    assert difference(run(seed=1), run(seed=2)) == Difference(
        "of another run file:\n    -seed = 1\n    +seed = 2",
        "Undo that to go on with it, allow it with --allow-changes, set checkpoints.no_resume to start over in the same folder, or choose another output_dir.",
    )


def test_what_is_verified_before_a_run_is_no_difference() -> None:
    saved = "[data]\nheld_out = 4\n"
    assert difference(saved, saved + "verify = 0.01\n") is None
    assert difference(saved, saved.replace("4", "5") + "verify = 0.01\n") is not None
