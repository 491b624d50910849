"""Packages of strangers, built and installed into a fresh environment beside ltx, are used as ours are."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import venv
from contextlib import closing
from pathlib import Path

import attrs
import pytest
import torch
from safetensors import safe_open

from helpers.media_made import gradient_clip
from helpers.training_runs import put, sound_set
from ltxcore.media.probe import read_clip, write_clip

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
STRANGERS = (ROOT / "examples" / "ltx-checkerboard", ROOT / "examples" / "ltx-depth", Path(__file__).parent / "ltx-late")

RUN = """
output_dir = "out"
seed = 7

[model]
model_path = "tiny-untrained"

[lora]
rank = 4

[optimization]
steps = 3
batch_size = 2

[acceleration]
mixed_precision_mode = "no"

[data]
preprocessed_data_root = "set"
"""

CHECKERBOARD = """
[training_strategy]
name = "flexible"

[training_strategy.video]
is_generated = true
latents_dir = "latents"
conditions = [{ type = "checkerboard", size = 1 }, { type = "first_frame", probability = 0.5 }]
"""

SAMPLES = """
[validation]
video_dims = [64, 64, 17]
frame_rate = 16.0
inference_steps = 2
interval = 2
video_cfg_scale = 1.0
video_stg_scale = 0.0

[[validation.samples]]
prompt = "a red disc rises"
conditions = [{ type = "checkerboard", size = 1, video = "film.mp4" }]
"""

LATE = """
[training_strategy]
name = "late"
latents_dir = "audio_latents"
share = 0.25

[flow_matching]
timestep_sampling_mode = "fixed"
timestep_sampling_params = { sigma = 0.5 }

[trackers.loud]
file = "steps.txt"
"""

PACED = """
[training_strategy]
name = "flexible"

[training_strategy.video]
is_generated = true
latents_dir = "latents"
conditions = [{ type = "paced", speed_dir = "speed" }]

[preprocessing]
skip_audio = true

[preprocessing.columns.speed]
column = "v"
unit = 2

[validation]
video_dims = [64, 64, 17]
frame_rate = 16.0
inference_steps = 2
interval = 10
video_cfg_scale = 1.0
video_stg_scale = 0.0

[[validation.samples]]
prompt = "a red disc rises"
conditions = [{ type = "paced", speed = "a.csv" }]
"""

OBJECTIVES = """
[[objectives]]
type = "flow_matching"

[[objectives]]
type = "consistent"
sharply = 2
weight = { audio = 0.5 }
"""


@attrs.frozen
class Environment:
    """An environment of its own, which sees what this one has."""

    python: Path

    def ltx(self, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
        return self.run("-m", "ltxcore", *arguments, folder=folder)

    def run(self, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
        command = [str(self.python), *arguments]
        return subprocess.run(
            command, cwd=folder, capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
        )


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The packages, built from their sources and installed by pip without a network."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    here = next(path for path in map(Path, sys.path) if path.name == "site-packages")
    site = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    site.joinpath("beside.pth").write_text(
        f"import site; site.addsitedir({str(here)!r})\n"
    )  # like --system-site-packages, where "system" is this environment
    for stranger in STRANGERS:
        source = shutil.copytree(stranger, folder / stranger.name, ignore=shutil.ignore_patterns("__pycache__", ".*_cache"))
        install = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index", "--no-build-isolation", source]
        done = subprocess.run(install, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return Environment(python)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten clips of 3 x 2 x 2 latent cells, and sounds."""
    root = sound_set(tmp_path / "set", 10)
    for number in range(10):
        latents = torch.randn(128, 3, 2, 2, generator=torch.Generator().manual_seed(number))
        put(root, "latents", f"sound{number:02d}", {"latents": latents}, rate=16.0, fingerprint=str(number), origin=f"{number}.mp4")
    return tmp_path


def write(folder: Path, strategy: str) -> None:
    folder.joinpath("run.toml").write_text(RUN + strategy)


@pytest.mark.parametrize("stranger", STRANGERS, ids=lambda path: path.name)
def test_their_own_tests_pass_in_that_environment(environment: Environment, tmp_path: Path, stranger: Path) -> None:
    tests = shutil.copytree(stranger / "tests", tmp_path / "tests")
    done = environment.run("-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", str(tests), folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_strangers_packages_are_not_in_this_environment(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "ltxcore", "plugins", "list"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "checkerboard" not in done.stdout


def test_strangers_plugins_are_listed_with_where_they_come_from(environment: Environment, tmp_path: Path) -> None:
    done = environment.ltx("plugins", "list", "--json", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    listed = json.loads(done.stdout)
    assert listed["broken"] == []
    theirs = {(one["kind"], one["name"], one["distribution"], one["version"]) for one in listed["plugins"] if one["distribution"] != "ltx"}
    assert theirs == {
        ("condition", "checkerboard", "ltx-checkerboard", "0.1.0"),
        ("condition", "by_depth", "ltx-depth", "0.1.0"),
        ("column", "depth_clip", "ltx-depth", "0.1.0"),
        ("condition", "paced", "ltx-late", "3.2.1"),
        ("strategy", "late", "ltx-late", "3.2.1"),
        ("objective", "consistent", "ltx-late", "3.2.1"),
        ("sigma_sampler", "fixed", "ltx-late", "3.2.1"),
        ("adapter", "gain", "ltx-late", "3.2.1"),
        ("optimizer", "patient", "ltx-late", "3.2.1"),
        ("schedule", "halves", "ltx-late", "3.2.1"),
        ("source", "shelf", "ltx-late", "3.2.1"),
        ("column", "speed", "ltx-late", "3.2.1"),
        ("quantizer", "int4", "ltx-late", "3.2.1"),
        ("exporter", "scaled", "ltx-late", "3.2.1"),
        ("tracker", "loud", "ltx-late", "3.2.1"),
        ("command", "late", "ltx-late", "3.2.1"),
    }


def test_strangers_plugins_are_described_by_the_program(environment: Environment, tmp_path: Path) -> None:
    shown = environment.ltx("plugins", "show", "checkerboard", folder=tmp_path)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "ltx-checkerboard 0.1.0 (checkerboard)" in shown.stdout
    assert "Give every second square of the picture" in shown.stdout
    assert "latent cells" in shown.stdout
    column = environment.ltx("plugins", "show", "speed", folder=tmp_path)
    assert "Encoded to values [F] of video, in the folder speed\n\n[preprocessing.columns.speed]:" in column.stdout
    assert environment.ltx("late", folder=tmp_path).stdout == "too late\n"
    assert "Say how late it is." in environment.ltx("--help", folder=tmp_path).stdout


def test_strangers_plugins_are_in_the_schema(environment: Environment, tmp_path: Path) -> None:
    done = environment.ltx("schema", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    names = "checkerboard late fixed loud share gain most patient wait halves times consistent sharply int4 block shelf table speed unit paced speed_dir"
    for name in names.split():
        assert f'"{name}"' in done.stdout


def test_a_condition_of_a_stranger_trains(environment: Environment, folder: Path) -> None:
    write(folder, CHECKERBOARD)
    done = environment.ltx("run", "run.toml", folder=folder)
    assert done.returncode == 0, done.stderr
    metrics = [json.loads(line) for line in folder.joinpath("out", "metrics.jsonl").read_text().splitlines()]
    assert any("video.cond0.checkerboard" in key for line in metrics for key in line)
    with safe_open(folder / "out" / "lora.safetensors", "pt") as lora:
        assert lora.keys()
    assert 'type = "checkerboard"' in folder.joinpath("out", "run.toml").read_text()


def test_a_condition_of_a_stranger_gives_its_own_medium_in_samples_while_training_and_afterwards(
    environment: Environment, folder: Path
) -> None:
    write_clip(folder / "film.mp4", gradient_clip(17, 64, 64, 16.0))
    write(folder, CHECKERBOARD + SAMPLES)
    done = environment.ltx("run", "run.toml", folder=folder)
    assert done.returncode == 0, done.stderr
    drawn = sorted(path.name for path in (folder / "out" / "samples").glob("*.mp4"))
    assert drawn == ["step_000000_1.mp4", "step_000002_1.mp4", "step_000003_1.mp4"]
    alone = ["sample", "a red disc rises", "--model", "tiny-untrained", "--lora", "out/lora.safetensors", "--no-generate-audio"]
    size = ["--video-dims", "64x64x17", "--frame-rate", "16", "--inference-steps", "2", "--video-cfg-scale", "1", "--video-stg-scale", "0"]
    done = environment.ltx(*alone, *size, "--condition", "type=checkerboard,size=1,video=film.mp4", "-o", "drawn.mp4", folder=folder)
    assert done.returncode == 0, done.stderr
    film = read_clip(folder / "film.mp4").frames.float()
    for path in (folder / "out" / "samples" / "step_000003_1.mp4", folder / "drawn.mp4"):
        frames = read_clip(path).frames.float()
        off = (frames - film).square().mean(dim=-1 if frames.shape[-1] == 3 else 1).sqrt().mean(dim=0)
        squares = off.unflatten(0, (2, 32)).unflatten(2, (2, 32)).mean(dim=(1, 3))
        assert squares.diagonal().max() < 0.3 * squares.flip(0).diagonal().min(), (
            "given squares are those of the film, others are noise yet"
        )


def test_what_a_strangers_condition_gives_is_shown_by_inspect(environment: Environment, folder: Path) -> None:
    write(folder, CHECKERBOARD.replace(', { type = "first_frame", probability = 0.5 }', ""))
    done = environment.ltx("inspect", "run.toml", "--png", "seen.png", "--dump", "seen.safetensors", folder=folder)
    assert done.returncode == 0, done.stderr
    assert "video.cond0.checkerboard  2 of 2 samples" in done.stdout
    with safe_open(folder / "seen.safetensors", "pt") as seen:
        mask = seen.get_tensor("step_1/video/denoise_mask")
    assert mask.tolist() == [[0, 1, 1, 0] * 3] * 2
    assert folder.joinpath("seen.png").read_bytes().startswith(b"\x89PNG")


def test_an_adapter_of_a_stranger_trains_and_is_the_start_of_another_run(environment: Environment, folder: Path) -> None:
    write(folder, LATE.replace("share = 0.25", "share = 0.5"))
    adapter = ["--set", "lora.type=gain", "--set", "lora.params.most=0.5"]
    done = environment.ltx("run", "run.toml", *adapter, folder=folder)
    assert done.returncode == 0, done.stderr
    first = folder / "out" / "lora.safetensors"
    with safe_open(first, "pt") as file:
        assert (file.metadata()["adapter_type"], file.metadata()["adapter_params"]) == ("gain", '{"most": 0.5}')
        assert {name.rpartition(".")[2] for name in file.keys()} == {"gain"}  # noqa: SIM118
    assert "kind        gain" in environment.ltx("model", str(first), folder=folder).stdout
    start = ["--set", f"model.load_checkpoint={first}", "--set", "output_dir=again"]
    done = environment.ltx("run", "run.toml", *adapter, *start, folder=folder)
    assert done.returncode == 0, done.stderr
    done = environment.ltx("export", str(first), "--for", "comfyui", "-o", "x.safetensors", folder=folder)
    assert done.returncode == 2
    assert '"comfyui" cannot load adapters of the type "gain"\n    Export it for another program: --for scaled.' in done.stderr
    done = environment.ltx("export", str(first), "--for", "scaled,prefix=x", "-o", "x.safetensors", folder=folder)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "Let late read x.safetensors.")
    with safe_open(folder / "x.safetensors", "pt") as file:
        assert {name.rpartition("/")[2] for name in file.keys()} == {"factor"}  # noqa: SIM118


def test_a_strategy_an_objective_a_sampler_and_a_tracker_of_a_stranger_train(environment: Environment, folder: Path) -> None:
    write(folder, LATE + OBJECTIVES)
    settings = ["--set", "optimization.optimizer_type=patient", "--set", "optimization.optimizer_params.wait=3"]
    schedule = ["--set", "optimization.scheduler_type=halves", "--set", "optimization.warmup_steps=1"]
    stored = [
        "--set",
        "acceleration.quantization=int4",
        "--set",
        "acceleration.quantization_params.block=64",
        "--set",
        "lora.use_dora=true",
    ]
    swapped = ["--set", "acceleration.offload_blocks=2", "--set", "optimization.enable_gradient_checkpointing=true"]
    done = environment.ltx("run", "run.toml", *settings, *schedule, *stored, *swapped, folder=folder)
    assert done.returncode == 0, done.stderr
    told = folder.joinpath("out", "steps.txt").read_text()
    assert told.startswith("STEP 0\nSTEP 1\n"), "what is held out is measured before the first step"
    with safe_open(folder / "out" / "lora.safetensors", "pt") as lora:
        assert lora.metadata()["late_share"] == "0.25"
    steps = [json.loads(line) for line in folder.joinpath("out", "metrics.jsonl").read_text().splitlines()]
    assert [line["learning_rate"] / 5e-4 for line in steps if "learning_rate" in line] == pytest.approx([0.5, 1.0, 0.5])
    learned = [line for line in steps if "loss" in line]
    assert all(line["loss"] == pytest.approx(line["loss/flow_matching"] + line["loss/consistent"]) for line in learned)
    written = folder.joinpath("out", "run.toml").read_text()
    assert "[optimization.optimizer_params]\nwait = 3\n" in written
    assert "[acceleration.quantization_params]\nblock = 64\n" in written


def test_a_dataset_that_a_strangers_source_reads_is_checked_encoded_and_trained_on(environment: Environment, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_clip(tmp_path / f"{name}.mp4", gradient_clip(17, 64, 64, 16.0))
    with closing(sqlite3.connect(tmp_path / "set.sqlite")) as database:
        database.execute("CREATE TABLE films (video TEXT, caption TEXT)")
        database.executemany("INSERT INTO films VALUES (?, ?)", [("a.mp4", "one"), ("b.mp4", "two"), ("c.mp4", "three")])
        database.commit()
    checked = environment.ltx("check", "set.sqlite", "--set", "source=shelf", "--set", "source_params.table=films", folder=tmp_path)
    assert (checked.returncode, checked.stdout.splitlines()[0]) == (2, "set.sqlite is a dataset of 2 samples.")
    assert 'set.sqlite:3: the video "c.mp4" is not there' in checked.stderr
    video = '\n[training_strategy]\nname = "flexible"\n\n[training_strategy.video]\nis_generated = true\nlatents_dir = "latents"\n'
    table = '\n[preprocessing]\nsource = "shelf"\nsource_params = { table = "films" }\non_error = "skip"\nskip_audio = true\n'
    (tmp_path / "run.toml").write_text(RUN.replace('preprocessed_data_root = "set"', 'dataset = "set.sqlite"') + video + table)
    done = environment.ltx("run", "run.toml", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(path.stem for path in (tmp_path / ".precomputed" / "latents").glob("*.safetensors")) == ["a", "b"]
    assert '[preprocessing.source_params]\ntable = "films"\n' in (tmp_path / "out" / "run.toml").read_text()
    missing = environment.ltx("check", "set.sqlite", folder=tmp_path)
    assert 'the table "clips" cannot be read: no such table: clips' in missing.stderr


def test_a_number_for_each_frame_goes_from_a_column_of_the_dataset_to_generation(environment: Environment, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_clip(tmp_path / f"{name}.mp4", gradient_clip(17, 64, 64, 16.0))
    (tmp_path / "a.csv").write_text("speed\n" + "\n".join(map(str, range(17))))
    rows = [{"video": "a.mp4", "caption": "one", "v": "a.csv"}, {"video": "b.mp4", "caption": "two", "v": [3] * 17}]
    (tmp_path / "set.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    encoded = ["preprocess", "set.jsonl", "--model-path", "tiny-untrained", "--skip-audio", "--no-progress"]
    done = environment.ltx(*encoded, "--columns", "speed.column=v", "--columns", "speed.unit=2", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "speed            2 made       0 reused" in done.stdout
    (tmp_path / "run.toml").write_text(RUN.replace('preprocessed_data_root = "set"', 'dataset = "set.jsonl"\nheld_out = 1') + PACED)
    done = environment.ltx("run", "run.toml", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "0 files encoded now" in done.stderr
    with safe_open(tmp_path / "out" / "lora.safetensors", "pt") as lora:
        assert lora.metadata()["columns"] == '{"speed": {"unit": 2.0}}'
    metrics = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert any("video.cond0.paced" in key for line in metrics for key in line)
    seen = environment.ltx("inspect", "run.toml", "--dump", "seen.safetensors", folder=tmp_path)
    assert "appended                          3" in seen.stdout
    with safe_open(tmp_path / "seen.safetensors", "pt") as tensors:
        given = tensors.get_tensor("step_1/video/noisy")[0, 12:, 0].tolist()
    assert given in ([0, 2.25, 6.25], [1.5, 1.5, 1.5]), "the values of the clip that is not held out"
    assert len(list((tmp_path / "out" / "samples").glob("*.mp4"))) == 2
    alone = ["sample", "a red disc rises", "--model", "tiny-untrained", "--lora", "out/lora.safetensors", "--no-generate-audio"]
    size = ["--video-dims", "64x64x17", "--frame-rate", "16", "--inference-steps", "2", "--video-cfg-scale", "1", "--video-stg-scale", "0"]
    (tmp_path / "still.json").write_text(json.dumps([0.0] * 17))
    drawn = []
    for speed in ("a.csv", "still.json", "a.csv"):
        done = environment.ltx(*alone, *size, "--condition", f"type=paced,speed={speed}", "-o", f"{len(drawn)}.mp4", folder=tmp_path)
        assert done.returncode == 0, done.stderr
        drawn.append(read_clip(tmp_path / f"{len(drawn)}.mp4").frames)
    assert torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[1]), "the model sees the numbers of the file"


@pytest.mark.parametrize(
    ("strategy", "said"),
    [
        (
            CHECKERBOARD.replace("size = 1", "sise = 1"),
            'training_strategy.video.conditions[0].sise: there is no such key\n    Did you mean "size"?',
        ),
        (CHECKERBOARD.replace("size = 1", "size = 0"), "training_strategy.video.conditions[0].size: must be at least 1, not 0"),
        (CHECKERBOARD.replace("size = 1", "size = true"), "training_strategy.video.conditions[0].size: must be a whole number, not true"),
        (CHECKERBOARD.replace('"checkerboard"', '"chekerboard"'), 'there is no condition "chekerboard"\n    Did you mean "checkerboard"?'),
        (LATE.replace("share = 0.25", "share = 2.0"), "training_strategy.share: must be at most 1, not 2"),
    ],
)
def test_mistakes_in_the_tables_of_strangers_are_told_as_ours_are(environment: Environment, folder: Path, strategy: str, said: str) -> None:
    write(folder, strategy)
    done = environment.ltx("check", "run.toml", folder=folder)
    assert done.returncode == 2
    assert said in done.stderr


def test_samples_that_a_strangers_condition_cannot_take_are_named(environment: Environment, folder: Path) -> None:
    write(folder, CHECKERBOARD.replace("size = 1", "size = 2"))
    done = environment.ltx("run", "run.toml", folder=folder)
    assert done.returncode == 2
    assert "a picture of 2 x 2 latent cells is a single square of size 2, which leaves nothing to generate\n" in done.stderr
    assert "samples sound00, sound01, sound02, sound03, sound04 and 5 more" in done.stderr


def test_a_quantizer_of_a_stranger_refuses_what_it_cannot_store(environment: Environment, folder: Path) -> None:
    write(folder, LATE)
    settings = ["--set", "acceleration.quantization=int4", "--set", "acceleration.quantization_params.block=48"]
    done = environment.ltx("check", "run.toml", *settings, folder=folder)
    assert done.returncode == 2
    assert (
        'acceleration.quantization_params: the quantizer "int4" cannot store transformer_blocks.0.attn1.to_q.weight, 128 x 128: '
        "128 columns are no multiple of a block of 48\n    See `ltx plugins show int4`, or use another."
    ) in done.stderr
