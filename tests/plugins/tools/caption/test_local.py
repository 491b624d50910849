"""Captions by a model of transformers in a folder: what it says of the pictures, and what cannot be used."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image
from transformers import AutoProcessor, LlavaForConditionalGeneration

from helpers.raw_media import clip_file, dataset_file, sound_file
from helpers.vision_models import captioning_model, depth_model, text_model
from ltxcore.cli.main import main
from ltxcore.media.probe import read_clip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return captioning_model(tmp_path_factory.mktemp("models") / "captioning")


def ltx(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["caption", *map(str, arguments), "--no-progress"])


def clips(folder: Path, count: int = 3) -> Path:
    for index in range(count):
        clip_file(folder / f"clips/{index}.mp4", seed=7 * index)
    return folder / "clips"


def rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def said(model: Path, clip: Path, frames: list[int], instruction: str, most: int) -> str:
    """The model's answer, from the template written out by hand."""
    processor = AutoProcessor.from_pretrained(model)
    pictures = []
    for frame in read_clip(clip).frames[frames]:
        content = io.BytesIO()
        Image.fromarray(frame.numpy()).save(content, "JPEG", quality=85)
        pictures.append(Image.open(content))
    text = f"USER : {instruction} {'<image> ' * len(frames)}ASSISTANT : "
    inputs = processor(text=text, images=pictures, return_tensors="pt")
    tokens = LlavaForConditionalGeneration.from_pretrained(model).eval().generate(**inputs, max_new_tokens=most, do_sample=False)
    return processor.tokenizer.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def test_a_folder_of_clips_has_the_captions_that_the_model_gives(model: Path, tmp_path: Path) -> None:
    folder = clips(tmp_path)
    result = ltx(folder, "--model-path", model, "--instruction", "Describe this clip", "--frames", "2", "--max-tokens", "50")
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"3 made, 0 reused in {folder}\n", "")
    wanted = [said(model, folder / f"{index}.mp4", [4, 12], "Describe this clip", 50) for index in range(3)]
    assert [(folder / f"{index}.txt").read_text() for index in range(3)] == [f"{words}\n" for words in wanted]
    assert len(set(wanted)) > 1
    (folder / "1.txt").unlink()
    assert ltx(folder, "--model-path", model, "--frames", "2", "--max-tokens", "50").stdout == f"1 made, 2 reused in {folder}\n"


def test_an_answer_that_is_cut_off_loses_only_its_row(model: Path, tmp_path: Path) -> None:
    folder = clips(tmp_path, 1)
    result = ltx(folder, "-o", tmp_path / "a.jsonl", "--model-path", model, "--max-tokens", "1", "--instruction", "Describe")
    assert (result.exit_code, result.stderr) == (2, "0.mp4: the answer is longer than 1 tokens\n    Allow more tokens with --max-tokens.\n")


def test_sound_is_refused_by_row_where_the_model_understands_none(model: Path, tmp_path: Path) -> None:
    sound_file(tmp_path / "a.wav")
    data = dataset_file(tmp_path / "set.jsonl", [{"audio": "a.wav"}])
    result = ltx(data, "-o", tmp_path / "out.jsonl", "--model-path", model)
    assert result.exit_code == 2
    assert result.stderr == (
        f"{data}:1: a.wav: the model does not understand audio\n    Leave out --sound, or name a model that understands audio.\n"
    )


def test_pictures_are_refused_where_the_model_takes_none(tmp_path: Path) -> None:
    folder = clips(tmp_path, 1)
    result = ltx(folder, "--model-path", text_model(tmp_path / "text"))
    assert (result.exit_code, result.stderr) == (
        2,
        "0.mp4: the model does not understand pictures\n    Name a model that does.\n",
    )


def test_what_cannot_be_used_is_refused_before_any_clip(model: Path, tmp_path: Path) -> None:
    folder = clips(tmp_path, 1)
    wordless = captioning_model(tmp_path / "wordless", template=None)
    depth = depth_model(tmp_path / "depth")
    for arguments, told in (
        (
            (),
            "there is no model to write the captions: --base-url is missing\n"
            "    Name a server with --base-url and --model, or the folder of a model with --model-path.\n",
        ),
        (
            ("--base-url", "http://127.0.0.1:1"),
            "there is no model to write the captions: --model is missing\n"
            "    Name a server with --base-url and --model, or the folder of a model with --model-path.\n",
        ),
        (
            ("--model-path", model, "--retries", "3"),
            "--retries: is for servers, and --model-path names a model in a folder\n    Leave one of the two out.\n",
        ),
        (
            ("--model-path", tmp_path / "none"),
            f"there is no folder {tmp_path}/none\n    Name the folder of the model; ltx downloads none.\n",
        ),
        (
            ("--model-path", depth),
            f"the model in {depth} is of the class GLPNForDepthEstimation; the class must be ...ForConditionalGeneration or ...ForImageTextToText or "
            "...ForCausalLM or ...LMHeadModel of the installed transformers\n    Name a model of this kind.\n",
        ),
        (
            ("--model-path", wordless),
            f"{wordless}: the model has no chat template, so it cannot be given an instruction\n"
            "    Name a model that follows instructions, with its chat_template.jinja.\n",
        ),
    ):
        result = ltx(folder, *arguments)
        assert (result.exit_code, result.stdout, result.stderr) == (2, "", told)
    assert not list(folder.glob("*.txt"))
