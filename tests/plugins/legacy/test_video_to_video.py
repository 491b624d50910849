"""video_to_video."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
import torch

from helpers.golden_io import list_cases, load_case
from helpers.golden_legacy import FOLDERS, Renamed, assert_agrees, batch_of, built, prepared, run_file, setting
from ltxcore.api import DataError, Entry, Manifest, StoredLatents, notice
from ltxcore.testing import check_strategy
from ltxplugins.legacy.video_to_video import VideoToVideo

CASES = [name for name in list_cases("04_legacy") if name.startswith("v2v.")]
TABLE = load_case("04_legacy", "v2v_downscale_factor_table").scalars["table"]

SAID = """The strategy "video_to_video" is deprecated. Write instead:

[training_strategy]
name = "flexible"

[training_strategy.video]
is_generated = true
latents_dir = "latents"
conditions = [
  { type = "reference", latents_dir = "depth" },
  { type = "first_frame", probability = 0.5 },
]

"""


@pytest.fixture(autouse=True)
def _a_new_run() -> None:
    notice.cache_clear()


def manifest(target: tuple[int, int], *references: tuple[int, int]) -> Manifest:
    """Clips of 3 latent frames, each with a reference of another size in latent cells."""
    samples = {f"clip{index}": reference for index, reference in enumerate(references)}
    return Manifest(
        {
            "video": dict.fromkeys(samples, Entry((128, 3, *target), 24.0)),
            "video.cond0.reference": {name: Entry((128, 3, *reference), 24.0) for name, reference in samples.items()},
        }
    )


@pytest.mark.parametrize("name", CASES)
def test_what_the_model_sees_and_the_loss_agree_with_the_recording(name: str) -> None:
    case, strategy, found = prepared(name)
    assert_agrees(case, strategy, found)


@pytest.mark.parametrize("name", CASES)
def test_video_to_video_reads_the_folders_that_were_recorded(name: str) -> None:
    case, strategy, _ = prepared(name)
    assert {source.folder for source in strategy.sources().values()} == set(case.scalars["data_sources"])


@pytest.mark.parametrize("name", CASES)
def test_the_lora_says_the_factor_only_where_it_is_not_1_and_the_recorded_trainer_always(name: str) -> None:
    """Deliberate difference: legacy video_to_video, `reference_downscale_factor` always written."""
    case, strategy, _ = prepared(name)
    batch = batch_of(case, strategy, FOLDERS)
    data = Manifest({role: {"clip": Entry(tuple(s.latents.shape[1:]), float(s.rate[0]))} for role, s in batch.latents.items()})
    recorded = case.scalars["checkpoint_metadata"]["reference_downscale_factor"]
    wanted = {"reference_downscale_factor": str(recorded), "reference_spatial_scale_factor": str(recorded)} if recorded != 1 else {}
    assert strategy.metadata(data) == wanted


def test_a_reference_has_its_own_frame_rate_where_the_recorded_trainer_takes_the_targets() -> None:
    """Deliberate difference: legacy video_to_video, the reference's time positions use the target's fps."""
    case = load_case("04_legacy", "v2v.same.p1")
    strategy = built(case)
    batch = batch_of(case, strategy, FOLDERS)
    reference = batch.latents["video.cond0.reference"]
    slower = StoredLatents(reference.latents, reference.rate / 2)
    found = strategy.prepare(attrs.evolve(batch, latents=batch.latents | {"video.cond0.reference": slower}), Renamed(case.draws, 2))[
        "video"
    ]
    assert found.clean is not None
    own, recorded = found.positions[:, 0, found.clean.shape[1] :], case.outputs["video.positions"][:, 0, : found.clean.shape[1]]
    torch.testing.assert_close(own, recorded * 2, check_dtype=False)


@pytest.mark.parametrize("row", [row for row in TABLE if "target_hw" in row], ids=lambda row: f"{row['ref_hw']} of {row['target_hw']}")
def test_factors_are_accepted_and_refused_as_recorded(row: dict[str, Any]) -> None:
    strategy = VideoToVideo().build(setting())
    data = manifest(tuple(row["target_hw"]), tuple(row["ref_hw"]))
    if row["ok"]:
        strategy.check(data)
        assert strategy.metadata(data).get("reference_downscale_factor", "1") == str(row["value"])
        return
    with pytest.raises(DataError) as caught:
        strategy.check(data)
    (height, width), (own_height, own_width) = row["target_hw"], row["ref_hw"]
    fault = (
        f"a reference of {own_height} x {own_width} latent cells is smaller than its target of "
        f"{height} x {width} by different factors in height and width"
        if "uniform" in row["message"]
        else f"a target of {height} x {width} latent cells is not a whole multiple of its reference of {own_height} x {own_width}"
    )
    assert str(caught.value) == (
        f"training_strategy.video.conditions.0, sample clip0: {fault}\n"
        "    Make references as large as their targets, or smaller by the same whole factor in height and width."
    )


def test_a_factor_that_changes_between_samples_is_refused_as_recorded() -> None:
    assert TABLE[-1]["case"] == "factor changes between batches (1 then 2)"
    with pytest.raises(DataError) as caught:
        VideoToVideo().build(setting()).check(manifest((4, 4), (4, 4), (2, 2)))
    assert str(caught.value) == (
        "training_strategy.video.conditions.0: references have different spatial factors: 1, 2\n"
        "    Preprocess all of them with the same factor: a LoRA can record only one for each reference."
    )


@pytest.mark.parametrize("table", [VideoToVideo(), VideoToVideo(1.0, "depth")])
def test_video_to_video_keeps_to_the_protocol(table: VideoToVideo) -> None:
    check_strategy(table)


def test_video_to_video_says_once_that_it_is_deprecated_and_what_to_write_instead(caplog: pytest.LogCaptureFixture) -> None:
    table = VideoToVideo(first_frame_conditioning_p=0.5, reference_latents_dir="depth")
    table.build(setting())
    table.build(setting())
    assert caplog.messages == [SAID.removesuffix("\n")]


@pytest.mark.parametrize("table", [VideoToVideo(), VideoToVideo(0, 'a "quoted" folder'), VideoToVideo(0, "\U0001f3b5")])
def test_what_it_says_to_write_instead_is_the_same(tmp_path: Path, table: VideoToVideo) -> None:
    written: Any = run_file(tmp_path, table.replacement().partition("\n")[2]).training_strategy.build(setting())
    ours: Any = table.build(setting())
    assert written.tables == ours.tables


def test_a_run_file_names_it_with_its_own_keys(tmp_path: Path) -> None:
    text = '[training_strategy]\nname = "video_to_video"\nfirst_frame_conditioning_p = 0.0\nreference_latents_dir = "depth"\n'
    assert run_file(tmp_path, text).training_strategy == VideoToVideo(0.0, "depth")


@pytest.mark.parametrize("said", [True, False])
def test_video_to_video_marks_the_first_frame_as_its_key_says_and_so_does_what_it_says_to_write_instead(tmp_path: Path, said: bool) -> None:
    table = VideoToVideo(mark_first_frame=said)
    ours: Any = table.build(setting())
    assert ours.tables["video"].mark_first_frame is said
    assert ("mark_first_frame" in table.replacement()) is not said
    written: Any = run_file(tmp_path, table.replacement().partition("\n")[2]).training_strategy.build(setting())
    assert written.tables == ours.tables
