"""`ltx plan`: for the real models without their weights, and for people and machines."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from helpers.raw_media import dataset_file
from helpers.sample_made import clip_file, film
from helpers.training_runs import put_sound, sound_set, tables, write_run
from ltxcore.cli.main import main
from ltxcore.config.load import load_run
from ltxcore.planner.cost_in_json import machine
from ltxcore.planner.costs import cost, told
from ltxcore.planner.largest_batch import glance_at_datasets, shapes_of
from ltxcore.runs.run_plan import draft

EXAMPLES = Path(__file__).parents[2] / "examples"


def plan(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["plan", *arguments])


@pytest.fixture(scope="module")
def found() -> dict[str, object]:
    """Full fine-tuning of the 22B model on eight GPUs of 80 GiB."""
    result = plan(
        str(EXAMPLES / "full_finetune_zero3.toml"),
        "--gpus=8",
        "--gpu-memory=80",
        "--model=ltx-2.3-22b",
        "--bucket=512x512x25",
        "--set=optimization.batch_size=1",
        "--json",
    )
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_full_fine_tuning_of_a_real_model_fits_on_eight_gpus_as_deepspeeds_own_estimate_says(found: dict[str, object]) -> None:
    gpu = found["gpu"]
    assert found["trained_parameters"] == 18_988_838_144
    # A bf16 weight, a bf16 gradient, a float32 master and two float32 moments, divided by eight.
    divided = 18_988_838_144 / 8
    assert gpu["gradients"] == pytest.approx(2 * divided, rel=1e-3)
    assert gpu["optimizer"] == pytest.approx(12 * divided, rel=1e-3)
    connectors = 2 * 2_016_166_400
    assert gpu["weights"] - connectors == pytest.approx(2 * divided, rel=0.02)
    assert found["fits"] is True
    assert found["would_fit"] == []
    assert found["disk"]["result"] == 2 * 18_988_838_144


def test_a_size_that_is_no_bucket_is_told() -> None:
    result = plan(str(EXAMPLES / "full_finetune_zero3.toml"), "--gpus=8", "--model=ltx-2.3-22b", "--bucket=500x512x25")
    assert result.exit_code == 2
    assert result.stderr.splitlines(keepends=True)[-2:] == [
        "--bucket: the bucket 500x512x25 has width 500, which is not a multiple of 32\n",
        "    Use 480 or 512.\n",
    ]


def test_a_model_that_was_not_released_is_told() -> None:
    result = plan(str(EXAMPLES / "full_finetune_zero3.toml"), "--model=ltx-2.4-22b")
    assert result.exit_code == 2
    assert result.output.endswith('--model: no released model is called "ltx-2.4-22b"\n    Known: ltx-2-19b, ltx-2.3-22b, ltx-2.5-22b.\n')


def test_more_machines_than_gpus_are_refused() -> None:
    result = plan(str(EXAMPLES / "full_finetune_zero3.toml"), "--gpus=2", "--nodes=4")
    assert result.exit_code == 2
    assert "2 GPUs cannot be divided evenly among 4 machines." in result.output


def test_a_model_that_is_not_here_may_be_named(tmp_path: Path) -> None:
    run_file = tmp_path / "run.toml"
    here = (EXAMPLES / "t2a.toml").read_text()
    run_file.write_text(here.replace('"media/', f'"{EXAMPLES}/media/'))
    result = plan(str(run_file), f"--set=model.model_path={tmp_path}/none.safetensors")
    assert result.exit_code == 2
    assert result.output == (
        f"--set: model.model_path: there is no file or folder {tmp_path}/none.safetensors\n"
        f'    Paths are relative to the run file; "tiny" is the model that comes with ltx. '
        "If it is on another machine, name it: --model NAME.\n"
    )


def test_paths_of_a_table_that_are_elsewhere_are_not_looked_for() -> None:
    there = ["model_path", "text_encoder_path", "video_vae_path", "audio_vae_path"]
    loaded = load_run(EXAMPLES / "t2a.toml", [f"model.{key}=/far/{key}" for key in there], elsewhere=("model",))
    assert [str(getattr(loaded.config.model, key)) for key in there] == [f"/far/{key}" for key in there]


SHOWN = """\
LoRA of rank N of audio on tiny-untrained, one process
  trained      N of N parameters loaded
  micro-batch  N of N encoded samples, the largest such as soundN
  trains on    each of N samples N times; N of N micro-batches is not full: N of N on average

The GPU
  weights                        N MiB
  gradients                      N MiB
  optimizer                      N MiB
  communication                  N MiB
  activations, no checkpointing  N MiB, of which N MiB kept for the backward pass
  inputs                         N MiB
  peak                           N MiB, in forward and backward
  peak with margin               N GiB of N GiB: fits

Time on RTX N
  a step, about   less than N s
  the run, about  less than N hours for N steps, without validation
  assumed         N% of N TFLOP/s in floatN, N% in attention; N% of N TB/s
                  of memory; N% of N GB/s to CPU memory and N GB/s between GPUs: NVIDIA's data sheet of the RTX N
                  This is an estimate that was never compared with a GPU.

CPU memory
  offloaded     N MiB
  total, about  N GiB

Disk
  checkpoints   N MiB, N of N MiB at once
  result        N MiB
  encoded data  N MiB

Computed from the model's shapes and the tensors that PyTorch's own kernels keep. Not included: fragmentation, and the workspaces of kernels (cuDNN, flash attention, NCCL). \
The margin of N% and N GiB is for these.
"""


@pytest.fixture
def small(tmp_path: Path) -> str:
    """A run file of a small set of sounds."""
    sound_set(tmp_path / "data", count=9)
    return str(write_run(tmp_path, tables(tmp_path / "data", tmp_path / "out")))


def test_people_are_told_in_words(small: str) -> None:
    result = plan(small, "--gpus=1", "--gpu-memory=8")
    assert re.sub(r"\d[\d,.]*(?<![,.])", "N", result.stdout) == SHOWN
    assert "each of 5 samples 3.2 times" not in result.stdout  # batches of 4 and of 1: a pass is two micro-batches
    assert "each of 5 samples 2 times; 1 of 2 micro-batches is not full: 2.5 of 4 on average" in result.stdout
    assert result.exit_code == 0


def test_what_is_learned_is_told_with_what_it_takes(small: str) -> None:
    path = Path(small)
    path.write_text(f"objectives = [{{ type = 'flow_matching' }}, {{ type = 'flow_matching', error = 'l1' }}]\n{path.read_text()}")
    assert "  learns       flow_matching, flow_matching_2: 2 forwards and 2 backwards per micro-batch\n" in plan(small, "--gpus=1").stdout
    found = json.loads(plan(small, "--gpus=1", "--json").stdout)
    assert (found["forwards"], found["backwards"]) == (2, 2)


SQUARES = """
import torch


class Squares(torch.optim.SGD):
    \"\"\"An optimizer that keeps a square matrix for each matrix, which grows with no share of its numbers.\"\"\"

    def step(self):
        for group in self.param_groups:
            for weight in group["params"]:
                self.state[weight]["square"] = weight.detach() @ weight.detach().T
        super().step()
"""


def test_the_state_of_an_optimizer_that_cannot_be_counted_is_told_as_unknown(
    small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site/squares_of_a_stranger.py").write_text(SQUARES)
    monkeypatch.syspath_prepend(tmp_path / "site")
    found = cost(load_run(Path(small), ["optimization.optimizer_type=squares_of_a_stranger:Squares"]), 1, 8 * 2**30)
    assert ("optimizer", "unknown, and not included below") in dict(told(found))["The GPU"]
    assert machine(found)["gpu"]["optimizer"] is None
    assert found.need.states.optimizer == 0


def test_what_it_does_is_told_on_the_error_stream(small: str) -> None:
    assert plan(small, "--gpus=1", "--gpu-memory=8").stderr.splitlines() == [
        "reading the headers of tiny-untrained",
        "counting the parameters of tiny-untrained with a LoRA of rank 2",
        "running 3 blocks without memory with a LoRA of rank 2: float32, 4 at a time",
    ]


@pytest.mark.parametrize(
    "data", [{"dataset": "/far/clips.jsonl", "preprocessed_data_root": "/far/encoded", "held_out": "/far/other.jsonl"}, {}]
)
def test_neither_data_nor_media_of_samples_need_be_here_where_the_size_is_said(tmp_path: Path, data: dict[str, str]) -> None:
    run = {
        **tables(tmp_path / "none", tmp_path / "out"),
        "data": data,
        "training_strategy": {"name": "flexible", "video": {"is_generated": True, "latents_dir": "latents"}},
        "lora": {"rank": 2, "target_modules": ["attn1.to_q"]},
        "validation": {
            "samples": [{"prompt": "rain", "conditions": [{"type": "reference", "video": "/far/still.mp4"}]}],
            "video_dims": [64, 64, 17],
        },
    }
    path = write_run(tmp_path, run)
    result = plan(str(path), "--gpus=1", "--gpu-memory=8", "--bucket=64x64x17")
    assert result.exit_code == 0, result.output
    assert "micro-batch  4 of clips of 64x64x17\n" in result.stdout
    assert result.stdout.count("unknown, because there are no encoded data here") == 2
    in_file = plan(str(path), "--gpus=1", "--gpu-memory=8", "--set=preprocessing.resolution_buckets=64x64x17;64x32x17")
    assert in_file.stdout == result.stdout
    unsaid = plan(str(path), "--gpus=1")
    assert unsaid.exit_code == 2
    assert (
        "preprocessing.resolution_buckets: the size of the clips is unknown: it is not set, and there are neither encoded data nor clips here"
        in unsaid.stderr
    )
    assert "--bucket 960x544x49" in unsaid.stderr


def test_clips_that_are_not_encoded_yet_tell_their_size_and_frame_rate_by_their_headers(tmp_path: Path) -> None:
    rows = [{"video": film(tmp_path / f"{index}.mp4").name, "caption": "a square"} for index in range(2)]
    both = {name: {"is_generated": True, "latents_dir": folder} for name, folder in (("video", "latents"), ("audio", "audio_latents"))}
    run = {
        **tables(tmp_path / "none", tmp_path / "out"),
        "data": {"dataset": str(dataset_file(tmp_path / "clips.jsonl", rows)), "preprocessed_data_root": str(tmp_path / "encoded")},
        "training_strategy": {"name": "flexible", **both},
    }
    path = str(write_run(tmp_path, run))
    result = plan(path, "--gpus=1", "--gpu-memory=8")
    assert result.exit_code == 0, result.output
    assert "4 of clips of 64x64x17 with 1.1 s of sound at 16 frames per second, as the clips have\n" in result.stdout
    assert f"reading the headers of {tmp_path / 'clips.jsonl'}\n" in result.stderr
    found = draft(load_run(Path(path)), 1, writes=False).checked()
    larger = shapes_of(found, found.base, "96x64x33", seen=glance_at_datasets(found, lambda said: None, is_needed=False))
    assert larger.described == "clips of 96x64x33 with 2.1 s of sound at 16 frames per second, as the clips have"
    assert not (tmp_path / "encoded").exists()
    dataset_file(tmp_path / "clips.jsonl", [*rows, {"video": clip_file(tmp_path / "long.mp4", frames=25).name, "caption": "a square"}])
    several = plan(path, "--gpus=1")
    assert several.exit_code == 2
    assert "Set resolution_buckets, such as " in several.stderr
    sets = []
    for name, frames in (("short", 17), ("long", 25)):
        (tmp_path / name).mkdir()
        clip = clip_file(tmp_path / name / "a.mp4", frames=frames)
        sets.append({"name": name, "dataset": str(dataset_file(clip.with_name("set.jsonl"), [{"video": clip.name, "caption": name}]))})
    run["data"] = {"sets": sets}
    found = draft(load_run(write_run(tmp_path, run, "sets.toml")), 1, writes=False).checked()
    seen = glance_at_datasets(found, lambda said: None, is_needed=True)
    assert shapes_of(found, found.base, seen=seen).described.startswith("clips of 64x64x25 with 1.6 s of sound at 16 frames per second")


def test_the_size_that_the_run_file_says_counts_and_encoded_data_are_still_counted(small: str) -> None:
    result = plan(small, "--gpus=1", "--gpu-memory=8", "--bucket=64x64x241")
    assert "4 of 10.0 s of sound\n" in result.stdout
    assert "each of 5 samples 2 times" in result.stdout
    assert "encoded data  not known" not in result.stdout


@pytest.mark.slow
def test_where_nothing_makes_it_fit_people_are_told_so_and_scripts_by_status_1(small: str) -> None:
    """Nothing fits where the margin alone does not."""
    result = plan(small, "--gpus=1", "--gpu-memory=0.5")
    assert "No setting makes the run fit, not even all settings together: the run needs GPUs with more memory.\n" in result.output
    assert result.exit_code == 1


def test_a_regularization_dataset_is_counted_with_its_tokens_and_its_memory_whether_it_is_here_or_not(small: str) -> None:
    path = Path(small)
    for number in range(20, 29):
        put_sound(path.parent / "others", number, steps=12)
    body, found = path.read_text(), {}
    for name in ("others", "elsewhere"):
        path.write_text(f"objectives = [{{ type = 'flow_matching' }}, {{ type = 'regularization', dataset = '{name}' }}]\n{body}")
        found[name] = cost(load_run(path, elsewhere=["objectives"]), 1, 80 * 2**30)
    rows = {name: dict(next(told(each))[1])["regularization"] for name, each in found.items()}
    assert re.fullmatch(r"48 tokens: 4 of 9 encoded samples, the largest such as sound\d\d", rows["others"])
    assert rows["elsewhere"].startswith("32 tokens: 4 of samples that are not encoded here, taken to be as large as 9 encoded samples")
    assert machine(found["others"])["datasets"]["regularization"]["tokens"] == 48
    assert found["others"].need.passes.forwards == 2
    peaks = {name: each.need.activations.peak for name, each in found.items()}
    assert peaks["others"] > 1.2 * peaks["elsewhere"], "that of the run's own samples is smaller"


@pytest.mark.parametrize("memory", ["nan", "inf"])
def test_memory_that_is_not_finite_is_refused(small: str, memory: str) -> None:
    result = plan(small, "--gpu-memory", memory)
    assert result.exit_code == 2
    assert f"{memory} is not a finite number." in result.output
