"""A run on an encoded set uses its columns' parameters as the set was encoded with them, and a set that was encoded otherwise is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors import safe_open

from helpers.paced_runs import paced_run, paced_set, put_paced, raw_set, unit
from helpers.training_runs import STOPPER, message
from ltxcore.cli.main import main
from ltxcore.config.load import LoadedRun
from ltxcore.encoded.manifest import read_source
from ltxcore.errors import LtxError
from ltxcore.media.probe import read_sound
from ltxcore.runs.checks import check_run
from ltxcore.runs.run_plan import Outline, draft
from ltxcore.runs.saved_metadata import saved_metadata
from ltxcore.train.outcome import Outcome
from ltxcore.train.start_run import run

TABLE = {"columns": {"pace": {"unit": 4.0}}}


def outline(loaded: LoadedRun) -> Outline:
    return draft(loaded, 1).checked()


def pace_of(found: Outline) -> list[float]:
    """The values that the sample's numbers 2 and 4 become."""
    return found.samples[0].conditions[0].tensors["pace"].flatten().tolist()


def refusal(folder: Path, **changed: Any) -> str:
    loaded = paced_run(folder, **changed)
    with pytest.raises(LtxError) as error:
        check_run(loaded)
    return message(error.value, folder)


def without_record(root: Path) -> None:
    """Make a set what it was before samples recorded their columns."""
    for path in (root / "pace").glob("manifest*.jsonl"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps({key: each for key, each in line.items() if key != "column"}) + "\n" for line in lines))


def test_samples_are_encoded_and_weights_saved_with_the_parameters_of_the_set(tmp_path: Path) -> None:
    paced_set(tmp_path / "data", column=unit(2.0))
    found = outline(paced_run(tmp_path))
    assert pace_of(found) == [1, 2]
    assert saved_metadata(found.config) == {"columns": '{"pace": {"unit": 2.0}}'}
    assert "unit" not in found.loaded.resolved(), "a run file that is read again asks the set again"
    assert check_run(paced_run(tmp_path)).plan is not None


def test_a_set_that_does_not_record_them_is_read_with_those_of_the_run_file(tmp_path: Path) -> None:
    without_record(paced_set(tmp_path / "data"))
    found = outline(paced_run(tmp_path))
    assert (pace_of(found), saved_metadata(found.config)) == ([2, 4], {})
    found = outline(paced_run(tmp_path, preprocessing=TABLE))
    assert (pace_of(found), saved_metadata(found.config)) == ([0.5, 1], {"columns": '{"pace": {"unit": 4.0}}'})
    assert check_run(paced_run(tmp_path)).plan is not None


def test_a_table_that_says_the_same_is_taken_and_another_is_refused(tmp_path: Path) -> None:
    paced_set(tmp_path / "data", column=unit(4.0))
    assert pace_of(outline(paced_run(tmp_path, preprocessing=TABLE))) == [0.5, 1]
    paced_set(tmp_path / "other", column=unit(2.0))
    told = refusal(tmp_path, preprocessing=TABLE, data={"preprocessed_data_root": str(tmp_path / "other")})
    place = next(
        number for number, line in enumerate((tmp_path / "run.toml").read_text().splitlines(), 1) if "preprocessing.columns" in line
    )
    assert told == (
        f"TMP/run.toml:{place}: preprocessing.columns.pace: the samples in TMP/other/pace were encoded with unit = 2.0 for the column "
        '"pace", but this run has unit = 4.0\n    Remove this table, or encode these samples again with unit = 4.0.'
    )


def test_a_set_of_two_parameters_is_refused(tmp_path: Path) -> None:
    paced_set(tmp_path / "data", count=11, column=unit(2.0))
    put_paced(tmp_path / "data", 11, unit(4.0))
    told = refusal(tmp_path)
    assert 'the samples of "pace" do not all have the same parameters of a column: unit = 2.0 in 11, unit = 4.0 in sound11\n' in told
    assert "training_strategy.audio.conditions[0].pace_dir" in told
    assert "[preprocessing.columns.NAME]" in told


def test_a_key_that_the_plugin_has_had_only_since_then_counts_as_its_default(tmp_path: Path) -> None:
    paced_set(tmp_path / "data", column='{"pace": {}}')
    told = refusal(tmp_path, preprocessing=TABLE)
    assert 'were encoded with unit = 1.0 for the column "pace", but this run has unit = 4.0' in told
    assert check_run(paced_run(tmp_path, preprocessing={"columns": {"pace": {"unit": 1.0}}})).plan is not None


def test_parameters_that_the_plugin_does_not_take_are_told_with_their_folder(tmp_path: Path) -> None:
    paced_set(tmp_path / "data", column='{"pace": {"units": 2.0}}')
    told = refusal(tmp_path)
    assert told.startswith(
        'TMP/data/pace: the column "pace" does not take the parameters that the samples of training were encoded with: units: '
    )


def test_the_set_of_an_objective_must_agree_with_that_of_the_run(tmp_path: Path) -> None:
    paced_set(tmp_path / "data", column=unit(2.0))
    paced_set(tmp_path / "others", column=unit(4.0))
    objectives = [{"type": "flow_matching"}, {"type": "regularization", "dataset": str(tmp_path / "others")}]
    told = refusal(tmp_path, objectives=objectives)
    assert 'the samples in TMP/others/pace were encoded with unit = 4.0 for the column "pace", but this run has unit = 2.0' in told
    assert "    Encode these samples again with unit = 2.0." in told


def test_the_sets_of_a_run_must_agree_with_the_first(tmp_path: Path) -> None:
    paced_set(tmp_path / "data", column=unit(2.0))
    paced_set(tmp_path / "others", column=unit(4.0))
    sets = [{"name": name, "preprocessed_data_root": str(tmp_path / name)} for name in ("data", "others")]
    told = refusal(tmp_path, data={"preprocessed_data_root": None, "held_out": None, "sets": sets})
    assert 'the samples in TMP/others/pace were encoded with unit = 4.0 for the column "pace", but this run has unit = 2.0' in told


def test_a_run_on_a_dataset_records_the_default_that_it_encodes_with(tmp_path: Path) -> None:
    dataset = raw_set(tmp_path, [1, 2], [3, 4])
    found = outline(paced_run(tmp_path, data={"preprocessed_data_root": str(tmp_path / "data"), "dataset": str(dataset)}))
    assert (pace_of(found), saved_metadata(found.config)) == ([2, 4], {"columns": '{"pace": {"unit": 1.0}}'})


@pytest.mark.slow
def test_a_run_and_its_resumption_and_what_is_generated_afterwards_use_them(tmp_path: Path) -> None:
    """The held-out dataset is encoded with them too."""
    paced_set(tmp_path / "data", column=unit(2.0))
    raw = raw_set(tmp_path, [2, 4])
    (tmp_path / "stopper.py").write_text(STOPPER)

    def started(at: int) -> Outcome:
        sample = {"prompt": "a sound", "conditions": [{"type": "paced", "pace": "two.json"}]}
        loaded = paced_run(
            tmp_path,
            plugins=["pace.py", "stopper.py"],
            data={"held_out": str(raw)},
            model={"model_path": "tiny"},
            optimization={"steps": 2},
            validation={"samples": [sample], "video_dims": [64, 64, 17], "frame_rate": 16.0, "skip_initial_validation": True},
            trackers={"stopper": {"at": at}},
        )
        return run(loaded, allow_changes=True)

    assert not started(at=1).finished
    assert {entry.column for entry in read_source(tmp_path / ".precomputed", "pace").values()} == {unit(2.0)}
    resumed = started(at=9)
    with safe_open(resumed.weights, "pt") as file:
        assert (resumed.finished, file.metadata()["columns"]) == (True, unit(2.0))
    arguments = ["sample", str(tmp_path / "run.toml"), "--lora", str(resumed.weights), "--plugin", str(tmp_path / "pace.py")]
    done = CliRunner().invoke(main, [*arguments, "--no-generate-video", "-o", str(tmp_path / "generated.wav")])
    assert done.exit_code == 0, done.output
    generated, during = (
        read_sound(path).samples for path in (tmp_path / "generated.wav", resumed.output_dir / "samples/step_000002_1.wav")
    )
    assert torch.allclose(generated, during, atol=0.01), "with the default, they differ by 0.3 on average"
