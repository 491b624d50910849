"""The dump holds every tensor that the model sees, under the names that its reader knows, and they agree with each other; the
tables say it all, in 80 columns."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import attrs
import pytest
import torch
from rich.console import Console
from safetensors import safe_open
from torch import Tensor

from helpers.inspected_sets import AUDIO, VIDEO, av_run, av_set, seen_of
from helpers.mixed_sets import mixed_set, mixed_tables
from helpers.training_runs import put, write_run
from ltxcore.config.load import load_run
from ltxcore.errors import DataError
from ltxcore.inspection.first_steps import FIELDS, inspect, tables, tensors_of, write_dump
from ltxcore.inspection.seen import Seen

GENERATED = {*FIELDS, "predicted", "loss"} - {
    "marked",
    "levels",
    "strengths",
}  # the tiny model takes no marker, and the run has no such keys


@pytest.fixture(scope="module")
def dumped(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Tensor], dict[str, str], list[Seen]]:
    """Tensors and header of two steps of a run of picture and sound."""
    folder = tmp_path_factory.mktemp("dumped")
    av_set(folder / "data")
    seen = inspect(av_run(folder), steps=2, dump=folder / "dump.safetensors")
    with safe_open(folder / "dump.safetensors", "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata(), seen  # noqa: SIM118


def test_every_tensor_of_a_generated_modality_is_there_in_every_step(dumped: tuple[dict[str, Tensor], dict[str, str], list[Seen]]) -> None:
    tensors, _, _ = dumped
    for step in ("step_1", "step_2"):
        for modality in ("video", "audio"):
            assert {key.split("/")[2] for key in tensors if key.startswith(f"{step}/{modality}/")} == GENERATED


def test_the_tensors_are_those_of_the_design(dumped: tuple[dict[str, Tensor], dict[str, str], list[Seen]]) -> None:
    tensors, _, _ = dumped
    for place in ("step_1/video", "step_1/audio", "step_2/video", "step_2/audio"):
        of = {name: tensors[f"{place}/{name}"] for name in GENERATED}
        target = of["clean"].shape[1]
        torch.testing.assert_close(of["timesteps"], of["sigma"].unsqueeze(1) * of["denoise_mask"])
        level = of["timesteps"][:, :target].unsqueeze(2)
        torch.testing.assert_close(of["noisy"][:, :target], of["clean"] + level * (of["noise"] - of["clean"]))
        torch.testing.assert_close(of["velocity"], of["noise"] - of["clean"])
        assert torch.equal(of["loss_mask"].bool(), of["denoise_mask"][:, :target] == 1)
        counted = of["loss_mask"].float()
        errors = (of["predicted"][:, :target].float() - of["velocity"]).square().mean(dim=2)
        torch.testing.assert_close(of["loss"], (errors * counted).sum(dim=1) / counted.sum(dim=1))
        assert of["positions"].shape[2:] == (of["noisy"].shape[1], 2)
        assert of["context_mask"].shape == of["context"].shape[:2]


def test_the_draws_of_the_conditions_are_there_and_decide_where_they_apply(
    dumped: tuple[dict[str, Tensor], dict[str, str], list[Seen]],
) -> None:
    tensors, _, _ = dumped
    for step in ("step_1", "step_2"):
        for key, probability in (("video.cond1.first_frame", 0.5), ("audio.cond0.mask", 0.75)):
            drawn, applied = tensors[f"{step}/draws/{key}.u"], tensors[f"{step}/applied/{key}"]
            assert torch.equal(applied, drawn < probability)


def test_drawn_values_are_shown_counted_and_dumped(tmp_path: Path) -> None:
    av_set(tmp_path / "data")
    conditions = [
        {"type": "suffix", "temporal_boundary": {"min": 1, "max": 2}},
        {"type": "spatial_crop", "spatial_region": {"one_of": [[0, 0, 64, 32], [0, 32, 64, 64]]}, "probability": 0.5},
    ]
    seen = seen_of(av_run(tmp_path, video={**VIDEO, "conditions": conditions}), steps=3)
    write_dump(tmp_path / "dump.safetensors", seen, "")
    with safe_open(tmp_path / "dump.safetensors", "pt") as file:
        lengths, regions, applied = (
            torch.cat([file.get_tensor(f"step_{step}/{key}") for step in (1, 2, 3)])
            for key in (
                "drawn/video.cond0.suffix/temporal_boundary",
                "drawn/video.cond1.spatial_crop/spatial_region",
                "applied/video.cond1.spatial_crop",
            )
        )
    assert set(lengths.tolist()) == {1, 2}
    assert regions.shape == (6, 4)
    table = [" ".join(line.split()) for line in shown(seen).splitlines()]
    for length in (1, 2):
        assert f"temporal_boundary {length} {int((lengths == length).sum())} of 6" in table
    for region in ((0, 0, 64, 32), (0, 32, 64, 64)):
        often = int(((regions == torch.tensor(region)).all(dim=1) & applied).sum())
        assert f"spatial_region {','.join(map(str, region))} {often} of {int(applied.sum())}" in table
    assert any(line.endswith(" 0 (2)") or " 0 (2)," in line for line in table)


def test_keyframes_are_shown_with_the_candidates_that_were_drawn(tmp_path: Path) -> None:
    av_set(tmp_path / "data")
    for number in range(6):
        stills = {"pictures": torch.randn(4, 128, 1, 2, 4), "frames": torch.tensor([0.0, number + 1, 9.0, 16.0])}
        put(tmp_path / "data", "keyframes", f"clips/clip{number}", stills, fingerprint=f"k{number}")
    condition = {"type": "keyframes", "keyframes_dir": "keyframes", "candidates": {"one_of": [[0, -1], [1]]}}
    seen = seen_of(av_run(tmp_path, video={**VIDEO, "conditions": [condition]}), steps=3)
    for each in seen:
        video = each.inputs["video"]
        (drawn,) = {tuple(value.value) for value in video.drawn["video.cond0.keyframes/candidates"]}
        for index, name in enumerate(each.micro_batch.names):
            starts = {round(float(start) * 16) for start in video.positions[index, 0, 24:, 0]}
            assert starts == ({0, 16} if drawn == (0, -1) else {int(name.removeprefix("clips/clip")) + 1})
    table = " ".join(shown(seen).split())
    assert "candidates 0,-1" in table
    assert "candidates 1" in table


def test_the_lists_that_samples_draw_are_shown_counted_and_dumped(tmp_path: Path) -> None:
    av_set(tmp_path / "data")
    choice = {"one_of": [[{"type": "suffix", "temporal_boundary": 1}], [{"type": "first_frame", "probability": 0.5}], []]}
    seen = seen_of(av_run(tmp_path, video={**VIDEO, "choices": [choice]}), steps=6)
    write_dump(tmp_path / "dump.safetensors", seen, "")
    with safe_open(tmp_path / "dump.safetensors", "pt") as file:
        drawn = torch.cat([file.get_tensor(f"step_{step}/drawn/video.choice0/one_of") for step in range(1, 7)])
    table = [" ".join(line.split()) for line in shown(seen).splitlines()]
    for number, name in enumerate(("0_suffix", "1_first_frame", "2_nothing")):
        assert f"one_of {name} {int((drawn == number).sum())} of 12" in table
    assert f"video.choice0.list0.cond0.suffix {int((drawn == 0).sum())} of 12 samples" in table
    assert any(line.endswith(" choice0.list0.0") for line in table)


def test_the_header_says_which_samples_each_step_has_and_what_the_run_file_was(
    dumped: tuple[dict[str, Tensor], dict[str, str], list[Seen]],
) -> None:
    _, metadata, seen = dumped
    steps = json.loads(metadata["steps"])
    assert {name: told["samples"] for name, told in steps.items()} == {each.name: list(each.micro_batch.names) for each in seen}
    assert "[training_strategy.video]" in metadata["run_file"]


def test_a_frozen_modality_has_no_noise_and_no_loss(tmp_path: Path) -> None:
    av_set(tmp_path / "data")
    loaded = av_run(tmp_path, video={"is_generated": False, "latents_dir": "latents"}, audio=AUDIO)
    write_dump(tmp_path / "dump.safetensors", seen_of(loaded), loaded.resolved())
    with safe_open(tmp_path / "dump.safetensors", "pt") as file:
        names = {key.split("/")[2] for key in file.keys() if key.startswith("step_1/video/")}  # noqa: SIM118
        assert torch.equal(file.get_tensor("step_1/video/sigma"), torch.zeros(2))
    assert not names & {"noise", "velocity", "loss_mask", "loss", "predicted"}


def test_a_dump_that_cannot_be_written_is_told_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "file" / "dump.safetensors"
    path.parent.write_text("")
    with pytest.raises(DataError) as caught:
        write_dump(path, [], "")
    assert str(caught.value) == f"{path}: cannot be written: File exists\n    Free some space, or name another file."


def shown(seen: list[Seen]) -> str:
    console = Console(file=io.StringIO(), width=80)
    for title, table in tables(seen):
        console.print(title)
        console.print(table)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= 80
    return "\n".join(" ".join(line.strip("─ ").split()) for line in text.splitlines() if line.strip("─ "))


def test_levels_and_strengths_of_given_tokens_are_shown_and_dumped_where_there_are_any(tmp_path: Path) -> None:
    av_set(tmp_path / "data")
    reference, first_frame = ({**condition, "probability": 1.0} for condition in VIDEO["conditions"])
    (plain,) = seen_of(av_run(tmp_path, video={**VIDEO, "conditions": [reference, first_frame]}))
    assert not re.search("level|strength", shown([plain]))
    (seen,) = seen_of(av_run(tmp_path, video={**VIDEO, "conditions": [{**reference, "strength": 0.5}, {**first_frame, "level": 0.25}]}))
    assert re.findall("(?:level|strength) .*", shown([seen])) == ["level of given 0.000 to 0.250 0.000", "strength of appended 0.500 1.000"]
    assert {"step_1/video/levels", "step_1/video/strengths"} <= dict(tensors_of(seen)).keys()


def test_a_run_of_both_modalities_is_shown(tmp_path: Path) -> None:
    av_set(tmp_path / "data")
    (seen,) = seen_of(av_run(tmp_path))
    first, second = seen.micro_batch.names
    video, audio = seen.inputs["video"], seen.inputs["audio"]
    given = video.applied["video.cond1.first_frame"].tolist()
    masked = audio.applied["audio.cond0.mask"].tolist()
    assert (given, masked, video.tokens.shape[1]) == ([True, False], [True, True], 24), "what the text below shows"
    sigma = {name: [f"{value:.3f}" for value in sorted(inputs.sigma.tolist())] for name, inputs in seen.inputs.items()}
    v, a = ([f"{value:.3f}" for value in inputs.sigma.tolist()] for inputs in (video, audio))
    assert shown([seen]).splitlines() == [
        "What the model sees: tokens per sample, in 2 samples",
        "video, generated audio, generated",
        "generated 16 to 24 2",
        "given 0 to 8 2",
        "given in part 0 4",
        "appended 0 0",
        "in the loss 16 to 24 2",
        f"sigma {sigma['video'][0]} to {sigma['video'][1]} {sigma['audio'][0]} to {sigma['audio'][1]}",
        f"timesteps 0.000 to {sigma['video'][1]} 0.000 to {sigma['audio'][1]}",
        "position, seconds 0.00 to 1.06 0.00 to 0.29",
        "position, pixels 128 x 64 -",
        "Conditions",
        "condition applied to",
        "video.cond0.reference 0 of 2 samples",
        "video.cond1.first_frame 1 of 2 samples",
        "audio.cond0.mask 2 of 2 samples",
        "Step 1",
        "sample generated given part appended in loss sigma cond",
        f"{first} video 16 8 0 0 16 {v[0]} 1",
        f"audio 2 2 4 0 2 {a[0]} 0",
        f"{second} video 24 0 0 0 24 {v[1]} -",
        f"audio 2 2 4 0 2 {a[1]} 0",
    ]


def test_losses_and_parts_of_a_step_are_shown_where_there_are_any(tmp_path: Path) -> None:
    av_set(tmp_path / "data")
    frozen = {"is_generated": False, "latents_dir": "latents"}
    (seen, _) = seen_of(av_run(tmp_path, video=frozen, audio=AUDIO, optimization={"gradient_accumulation_steps": 2, "batch_size": 1}))
    text = shown([attrs.evolve(seen, losses={"audio": torch.tensor([0.25])})])
    lines = text.splitlines()
    assert lines[:2] == ["What the model sees: tokens per sample, in 1 sample", "video, frozen audio, generated"]
    assert lines[-4:-1] == [
        "Step 1, micro-batch 1 of 2",
        "sample generated given part appended in loss sigma loss cond",
        f"{seen.micro_batch.names[0]} video 0 24 0 0 0 0.000 - -",
    ]
    assert " 0.2500 " in lines[-1]


def test_a_run_without_conditions_has_no_table_of_them(tmp_path: Path) -> None:
    av_set(tmp_path / "data")
    bare = {**VIDEO, "conditions": []}
    (seen,) = seen_of(av_run(tmp_path, video=bare, audio=None, lora={"target_modules": ["attn1.to_q"]}))
    assert "Conditions" not in shown([seen])


def test_samples_without_a_caption_are_shown_and_those_of_both_streams_are_counted_once(tmp_path: Path) -> None:
    av_set(tmp_path / "data")
    (seen,) = seen_of(av_run(tmp_path, data={"held_out": 0, "caption_dropout": 0.5}, optimization={"batch_size": 6}))
    dropped = seen.inputs["video"].applied["caption_dropout"].tolist()
    lines = shown([seen]).splitlines()
    assert 0 < sum(dropped) < 6
    assert f"caption_dropout {sum(dropped)} of 6 samples" in lines
    rows = [line for line in lines if line.startswith("audio ") or " video " in line][-12:]
    assert [line.endswith("no text") for line in rows] == [lost for lost in dropped for _ in ("video", "audio")]


def test_a_modality_that_a_sample_lacks_is_shown_as_absent(tmp_path: Path) -> None:
    root = mixed_set(tmp_path / "data")
    console = Console(file=io.StringIO(), width=80)
    loaded = load_run(write_run(tmp_path, mixed_tables(root, tmp_path / "out", optimization={"batch_size": 1, "steps": 10})))
    inspect(loaded, console, steps=10, png=tmp_path / "seen.png", dump=tmp_path / "dump.safetensors")
    said = console.file.getvalue()  # type: ignore[attr-defined]
    lines = [" ".join(line.split()) for line in said.splitlines()]
    assert sum(line.startswith("audio absent - - - - - - -") for line in lines) == 4
    assert sum(" video absent - - - - - - -" in line for line in lines) == 2
    assert "in the loss 8 to 12 5 to 8" in lines  # without the placeholders, of which none counts
    assert any(line.startswith("audio.cond0.mask") and line.endswith("of 10 samples") for line in lines)
    assert (tmp_path / "seen.png").stat().st_size > 0
