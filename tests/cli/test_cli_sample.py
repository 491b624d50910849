"""`ltx sample` draws prompts to files, and says what is wrong in the words it was given."""

from __future__ import annotations

import filecmp
from pathlib import Path

import av
import pytest
import torch
from click.testing import CliRunner

from helpers.media_made import psnr
from helpers.refusing import Refusing, without_sizes
from helpers.sample_made import film, image_file, sound_file
from ltxcore.cli.main import main
from ltxcore.media.probe import probe, read_clip
from ltxcore.models.load_base import load_backbone
from ltxcore.models.lora import add_lora, lora_parameters, save_lora

QUICK = ["--model", "tiny", "--inference-steps", "2", "--device", "cpu"]
PLAIN = [
    f"--{modality}-{scale}" for modality in ("video", "audio") for scale in ("cfg-scale=1", "stg-scale=0", "modality-guidance-scale=1")
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    film(tmp_path / "film.mp4")
    sound_file(tmp_path / "sound.wav")
    return tmp_path


def draw(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(main, ["sample", *arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


def lora(path: Path, **metadata: str) -> Path:
    backbone = load_backbone("tiny", frozenset({"audio"}), dtype=torch.float32)
    add_lora(backbone, rank=2, alpha=2, dropout=0.0, target_modules=["audio_attn1.to_q"])
    for parameter in lora_parameters(backbone).values():
        parameter.data = torch.full(parameter.shape, 0.3)
    save_lora(backbone, path, metadata=metadata, dtype=torch.float32)
    return path


def test_a_prompt_is_drawn_with_picture_and_sound_to_the_size_of_the_tiny_world(folder: Path) -> None:
    assert draw("a red disc sways slowly", *QUICK, *PLAIN) == (0, "samples/sample_1.mp4\n", "")
    told = probe(folder / "samples" / "sample_1.mp4")
    assert (told.width, told.height, told.frames, told.rate, told.sound_rate) == (64, 64, 17, 16, 16_000)


def test_the_same_seed_gives_the_same_file_and_another_seed_another(folder: Path) -> None:
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        assert draw("a red disc", *QUICK, *PLAIN, "--seed", seed, "-o", f"{name}.mp4") == (0, f"{name}.mp4\n", "")
    a, b, c = ((folder / f"{name}.mp4").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_conditions_and_options_of_the_command_line(folder: Path) -> None:
    status, said, told = draw(
        "a red disc",
        *QUICK,
        *PLAIN,
        "--condition",
        "type=first_frame,image_or_video=film.mp4",
        "--no-generate-audio",
        "--video-dims",
        "64x64x9",
        "--frame-rate",
        "8",
        "-o",
        "out/a.mp4",
    )
    assert (status, said, told) == (0, "out/a.mp4\n", "")
    found = read_clip(folder / "out" / "a.mp4")
    assert (found.frames.shape[0], found.rate) == (9, 8.0)
    assert psnr(found.frames[0], read_clip(folder / "film.mp4").frames[0]) > 25
    assert probe(folder / "out" / "a.mp4").sound_rate is None


def test_a_file_of_prompts_is_drawn_to_numbered_files(folder: Path) -> None:
    (folder / "prompts.jsonl").write_text('{"prompt": "one"}\n{"prompt": "two", "seed": 5}\n')
    assert draw("prompts.jsonl", *QUICK, *PLAIN, "--no-generate-video", "-o", "s.wav") == (0, "s_1.wav\ns_2.wav\n", "")
    assert draw("prompts.jsonl", *QUICK, *PLAIN, "--no-generate-video", "-o", "all")[1] == "all/sample_1.wav\nall/sample_2.wav\n"
    assert draw("prompts.jsonl", *QUICK, *PLAIN, "--no-generate-video", "-o", "all")[1] == "all/sample_3.wav\nall/sample_4.wav\n"
    assert filecmp.cmp(folder / "all" / "sample_4.wav", folder / "s_2.wav", shallow=False)


def test_a_run_file_says_the_model_and_the_samples(folder: Path) -> None:
    (folder / "run.toml").write_text(
        "[model]\nmodel_path = 'tiny'\n[validation]\nvideo_dims = [64, 64, 9]\ninference_steps = 2\n[[validation.samples]]\nprompt = 'x'\n"
        "conditions = [{ type = 'video_to_audio', video = 'film.mp4' }]\n"
    )
    status, said, _ = draw("run.toml", *PLAIN, "--device", "cpu", "-o", "a.mp4")
    assert (status, said) == (0, "a.mp4\n")
    assert torch.equal(read_clip(folder / "a.mp4").frames.shape[0] * torch.ones(1), 9 * torch.ones(1))


def test_a_lora_changes_what_is_drawn_as_strongly_as_one_likes(folder: Path) -> None:
    path = lora(folder / "lora.safetensors")
    drawn = {}
    for strength in (None, "0", "0.5", "1"):
        chosen = [] if strength is None else ["--lora", f"{path.name}:{strength}"]
        assert draw("a tone", *QUICK, *PLAIN, "--no-generate-video", *chosen, "-o", f"{strength}.wav")[0] == 0
        drawn[strength] = (folder / f"{strength}.wav").read_bytes()
    assert drawn[None] == drawn["0"]
    assert len(set(drawn.values())) == 3
    assert (
        draw("a tone", *QUICK, *PLAIN, "--no-generate-video", "--lora", f"{path.name}:0.5", "--lora", f"{path.name}:0.5", "-o", "two.wav")[
            0
        ]
        == 0
    )
    assert (folder / "two.wav").stat().st_size == (folder / "1.wav").stat().st_size


def test_a_trigger_word_that_is_missing_and_a_rate_that_differs_are_told(folder: Path) -> None:
    lora(folder / "lora.safetensors", trigger="TOK")
    arguments = [*QUICK, *PLAIN, "--lora", "lora.safetensors", "--frame-rate", "8", "--condition", "type=video_to_audio,video=film.mp4"]
    assert draw("a tone", *arguments, "-o", "a.mp4")[2] == (
        f"{folder}/film.mp4 has 16 frames per second and is used frame by frame at 8: it plays 2.00 times slower\n"
        'lora.safetensors was trained with "TOK" before every caption, but the prompt "a tone" does not contain it.\n'
        "The tiny model is only for trying ltx: `ltx new MODE --data DATA` writes a run file for a real model.\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x"], "--model: there is no model to generate with\n    Write --model tiny, or --model and the path of a model file."),
        (
            ["x", *QUICK, "-o", "film.mp4"],
            "--output: the file film.mp4 already exists\n    Name another file, or overwrite it with --overwrite.",
        ),
        (["x", *QUICK, "-o", "a.wav"], '--output: the result is a clip, which cannot be written as ".wav"\n    Use .mp4.'),
        (
            ["x", *QUICK, "--no-generate-video", "-o", "a.mp4"],
            '--output: the result is a sound, which cannot be written as ".mp4"\n    Use .wav.',
        ),
        (
            ["x", *QUICK, "--video-dims", "64x64x1", "-o", "a.mp4"],
            '--output: the result is a single picture, which cannot be written as ".mp4"\n    Use .png.',
        ),
        (
            ["x", *QUICK, "--video-dims", "64x60x17"],
            "--video-dims: a clip of 64x60x17 has height 60, which is not a multiple of 32\n    Use 32 or 64.",
        ),
        (["x", *QUICK, "--stg-blocks", "9"], "--stg-blocks: there is no block 9\n    The model has 4, numbered from 0."),
        (["x", *QUICK, "--inference-steps", "1"], "--inference-steps: must be at least 2, not 1"),
        (["x", *QUICK, "--lora", "gone"], "there is no file gone\n    Name a LoRA file, such as lora.safetensors or lora.safetensors:0.8."),
        (
            ["x", *QUICK, "--condition", "type=prefix,video=film.mp4,num_frames=8"],
            "--condition type=prefix,video=film.mp4,num_frames=8: num_frames: 8 pixel frames at the start are not a whole number of latent frames\n"
            "    Use 1 or 9: a multiple of 8 plus 1.",
        ),
        (
            ["x", *QUICK, "--condition", "type=first_frame,video=sound.wav"],
            "--condition type=first_frame,video=sound.wav: TMP/sound.wav: this file has no video\n    Name a clip or an image.",
        ),
        (
            ["x", *QUICK, "--no-generate-audio", "--condition", "type=prefix,audio=sound.wav"],
            '--condition type=prefix,audio=sound.wav: the condition "prefix" works on audio, which this sample lacks\n'
            "    Set generate_audio = true, or remove the condition.",
        ),
    ],
)
def test_what_is_wrong_is_said_in_the_words_of_the_command_line(folder: Path, arguments: list[str], message: str) -> None:
    status, said, told = draw(*arguments)
    assert (status, said) == (2, "")
    assert told.replace(str(folder), "TMP") == f"{message}\n"


def test_an_existing_file_is_written_over_when_told(folder: Path) -> None:
    before = (folder / "film.mp4").read_bytes()
    assert draw("x", *QUICK, *PLAIN, "-o", "film.mp4", "--overwrite")[0] == 0
    assert (folder / "film.mp4").read_bytes() != before


def test_options_that_cannot_be_read_say_how_they_are_written(folder: Path) -> None:
    assert '"64x64" is not width x height x frames, such as 960x544x89.' in draw("x", *QUICK, "--video-dims", "64x64")[2].replace("\n", " ")
    assert '"a" is not a list of blocks; write numbers separated by commas, or "all".' in draw("x", *QUICK, "--stg-blocks", "a")[2].replace(
        "\n", " "
    )


@pytest.mark.parametrize(
    ("functions", "doing", "less"),
    [
        (("encode", "_texts"), "encoding prompts and media", "--offload-text-encoder; --vae-tiling"),
        (("_sampler", "load_backbone"), "loading the model", "--precision bf16; --quantization int8; --offload-blocks 2"),
        (
            ("euler",),
            'generating "a disc" at 64x64x9',
            "--precision bf16; --quantization int8; --offload-blocks 2; fewer or smaller frames: --video-dims",
        ),
        (
            ("shown",),
            'decoding "a disc" at 64x64x9',
            "--vae-tiling; --precision bf16; --quantization int8; --offload-blocks 2; fewer or smaller frames: --video-dims",
        ),
    ],
)
def test_memory_that_runs_out_is_said_with_what_takes_less(folder: Path, functions: tuple[str, ...], doing: str, less: str) -> None:
    with Refusing(*functions):
        code, out, said = draw("a disc", *QUICK, *PLAIN, "--video-dims", "64x64x9")
    assert (code, out) == (2, "")
    assert without_sizes(said) == (
        "CPU memory ran out (this process took up to SOME; 2.00 GiB more were requested) "
        f"while {doing}\n    Each of these needs less memory: {less}.\n"
    )


def test_the_preset_for_distilled_models_sets_noise_levels_and_no_guidance(folder: Path) -> None:
    quick = ["a red disc", "--model", "tiny", "--device", "cpu", "--video-dims", "64x64x9"]
    assert draw(*quick, "--preset", "distilled", "-o", "a.mp4") == (0, "a.mp4\n", "")
    levels = "1,0.99375,0.9875,0.98125,0.975,0.909375,0.725,0.421875,0"
    assert draw(*quick, "--sigmas", levels, *PLAIN, "--guidance-rescale=0", "-o", "b.mp4") == (0, "b.mp4\n", "")
    assert (folder / "a.mp4").read_bytes() == (folder / "b.mp4").read_bytes()
    code, _, said = draw(*quick, "--sigmas", "1,much,0")
    assert code == 2
    assert '"1,much,0" is not a list of noise levels' in said


def test_a_clip_from_a_compressed_image_says_so_in_its_metadata(folder: Path) -> None:
    image_file(folder / "a.png")
    for crf, said in (("30", "image_crf=30"), ("0", None)):
        condition = ["--condition", "type=first_frame,image_or_video=a.png"]
        draw("a red disc", *QUICK, *PLAIN, *condition, "--image-crf", crf, "--overwrite", "-o", "a.mp4")
        with av.open("a.mp4") as container:
            assert container.metadata.get("comment") == said
