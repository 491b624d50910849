"""Captions from a server on this machine that speaks the chat protocol: what it is sent, what is written, and what happens when it fails."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
import wave
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from helpers.chat_server import Reply, Server, said
from helpers.raw_media import clip_file, dataset_file, sound_file
from ltxcore.cli.main import main


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.http.shutdown()
    made.http.server_close()
    thread.join()


def ltx(server: Server, *arguments: str | Path, model: str = "m") -> Result:
    options = ["--base-url", server.url, "--model", model, "--no-progress", "--workers", "1"]
    return CliRunner().invoke(main, ["caption", *map(str, arguments), *options])


def rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def clips(folder: Path, count: int = 3) -> Path:
    for index in range(count):
        clip_file(folder / f"clips/{index}.mp4", seed=index)
    return folder / "clips"


def test_every_clip_of_a_folder_gets_a_caption(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "secret")
    output = tmp_path / "set.jsonl"
    result = ltx(server, clips(tmp_path), "-o", output, "--key-variable", "MY_KEY")
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"3 made, 0 reused in {output}\n", "")
    assert rows(output) == [{"video": f"clips/{index}.mp4", "caption": f"caption {index + 1}"} for index in range(3)]
    assert {sent["model"] for sent in server.sent} == {"m"}
    assert set(server.keys) == {"Bearer secret"}


def test_frames_are_sent_as_pictures_and_sound_where_it_is_asked_for(server: Server, tmp_path: Path) -> None:
    ltx(server, clips(tmp_path, 1), "-o", tmp_path / "a.json", "--frames", "3", "--size", "32", "--instruction", "What is it?", "--sound")
    text, *pictures, sound = server.parts()
    assert text == {"type": "text", "text": "What is it?"}
    assert len(pictures) == 3
    for part in pictures:
        head, _, content = part["image_url"]["url"].partition(",")
        assert head == "data:image/jpeg;base64"
        assert Image.open(io.BytesIO(base64.b64decode(content))).size == (32, 32)
    with wave.open(io.BytesIO(base64.b64decode(sound["input_audio"]["data"]))) as file:
        assert (file.getframerate(), file.getnchannels(), file.getnframes() / 16_000) == (16_000, 1, pytest.approx(17 / 16, abs=0.1))
    ltx(server, tmp_path / "clips", "-o", tmp_path / "b.json")
    assert [part["type"] for part in server.parts(1)] == ["text", *["image_url"] * 8]


def test_sounds_without_pictures_are_sent_as_sound(server: Server, tmp_path: Path) -> None:
    sound_file(tmp_path / "a.wav")
    ltx(server, dataset_file(tmp_path / "set.jsonl", [{"audio": "a.wav"}]), "-o", tmp_path / "out.jsonl")
    assert [part["type"] for part in server.parts()] == ["text", "input_audio"]
    assert rows(tmp_path / "out.jsonl") == [{"audio": "a.wav", "caption": "caption 1"}]


def test_captions_that_are_there_are_kept_and_the_rest_is_asked_for(server: Server, tmp_path: Path) -> None:
    clips(tmp_path)
    listed = [{"video": f"clips/{index}.mp4", "text": "mine" if index == 0 else ""} for index in range(3)]
    data, output = dataset_file(tmp_path / "set.jsonl", [{**row, "caption": row.pop("text")} for row in listed]), tmp_path / "out.jsonl"
    server.reply = lambda number: said("yours") if number == 1 else (400, {"error": {"message": "too large"}})
    result = ltx(server, data, "-o", output)
    assert (result.exit_code, result.stdout) == (2, f"1 made, 1 reused, 1 failed in {output}\n")
    assert result.stderr == f"{data}:3: clips/2.mp4: the server answers 400: too large\n"
    assert [row["caption"] for row in rows(output)] == ["mine", "yours"]
    server.reply = lambda number: said("at last")
    assert ltx(server, data, "-o", output).stdout == f"1 made, 2 reused in {output}\n"
    assert [row["caption"] for row in rows(output)] == ["mine", "yours", "at last"]
    assert ltx(server, data, "-o", output).stdout == f"0 made, 3 reused in {output}\n"
    assert len(server.sent) == 3


def test_captions_that_are_there_are_written_even_if_no_answer_comes(server: Server, tmp_path: Path) -> None:
    data, output = tmp_path / "set.jsonl", tmp_path / "out.jsonl"
    clip_file(tmp_path / "a.mp4")
    dataset_file(data, [{"video": "a.mp4", "caption": "mine"}, {"video": "gone.mp4"}])
    result = ltx(server, data, "-o", output)
    assert (result.exit_code, result.stdout) == (2, f"0 made, 1 reused, 1 failed in {output}\n")
    assert rows(output) == [{"video": "a.mp4", "caption": "mine"}]


def test_a_server_that_is_too_busy_or_fails_is_asked_again(server: Server, tmp_path: Path) -> None:
    server.reply = lambda number: (429, {}) if number == 1 else (503, {}) if number == 2 else said("in the end")
    assert ltx(server, clips(tmp_path, 1), "-o", tmp_path / "a.jsonl").exit_code == 0
    assert (len(server.sent), rows(tmp_path / "a.jsonl")[0]["caption"]) == (3, "in the end")


def test_a_server_is_not_asked_for_ever(server: Server, tmp_path: Path) -> None:
    server.reply = lambda number: (500, {"error": {"message": "on fire"}})
    result = ltx(server, clips(tmp_path, 1), "-o", tmp_path / "a.jsonl", "--retries", "1")
    assert (result.exit_code, len(server.sent)) == (2, 2)
    assert result.stderr == "0.mp4: the server answers 500: on fire\n"


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (said(None, refusal="I will not"), "the model refuses: I will not"),
        (said("It is a", finish="length"), "the answer is longer than 1024 tokens\n    Allow more tokens with --max-tokens."),
        (
            (200, {"choices": []}),
            "the server's answer holds no message\n    Check in the server's manual how --base-url must end; it often ends with /v1.",
        ),
        (said("<think>hm</think>\n"), "the model's answer is empty"),
    ],
)
def test_an_answer_that_is_none_loses_only_its_row(server: Server, tmp_path: Path, reply: Reply, told: str) -> None:
    server.reply = lambda number: reply if number == 1 else said("<think>well</think>a\nsquare")
    result = ltx(server, clips(tmp_path, 2), "-o", tmp_path / "a.jsonl")
    assert (result.exit_code, result.stderr) == (2, f"0.mp4: {told}\n")
    assert rows(tmp_path / "a.jsonl") == [{"video": "clips/1.mp4", "caption": "a square"}]


def test_what_would_fail_for_every_row_stops_at_once(server: Server, tmp_path: Path) -> None:
    folder = clips(tmp_path)
    server.reply = lambda number: (401, {"error": {"message": "who are you?"}})
    result = ltx(server, folder, "-o", tmp_path / "a.jsonl")
    assert result.exit_code == 2
    assert result.stderr == (
        f"{server.url}: the server answers 401: who are you?\n"
        "    Put your key into the environment variable OPENAI_API_KEY, or name another with --key-variable.\n"
    )
    server.reply = lambda number: (404, {"error": {"message": "no such model"}})
    assert ltx(server, folder, "-o", tmp_path / "a.jsonl").stderr == (
        f'{server.url}: the server answers 404: no such model\n    Check that --base-url is right, and that the server knows the model "m".\n'
    )
    server.url = "127.0.0.1"
    assert ltx(server, folder, "-o", tmp_path / "a.jsonl").stderr == (
        '--base-url: "127.0.0.1" is not the address of a server\n    The address must begin with http:// or https://.\n'
    )


def test_a_server_that_is_not_there_is_named_at_once_and_how_to_start_one(server: Server, tmp_path: Path) -> None:
    server.url = "http://127.0.0.1:9/v1"
    folder, began = clips(tmp_path, 1), time.monotonic()
    result = ltx(server, folder, "-o", tmp_path / "a.jsonl", "--frames", "4")
    assert time.monotonic() - began < 20  # five retries alone would take longer; a request takes QUICK at the most
    assert (result.exit_code, result.stderr) == (
        2,
        f"{server.url}: there is no server at this address: Connection refused\n    Start one there, for example with one of these:\n"
        "      vllm serve Qwen/Qwen2.5-VL-7B-Instruct --port 9 --limit-mm-per-prompt '{\"image\": 4}'\n"
        "      llama-server -hf ggml-org/Qwen2.5-VL-7B-Instruct-GGUF --port 9 -c 16384\n"
        "      OLLAMA_HOST=127.0.0.1:9 ollama serve   (and once: ollama pull qwen2.5vl)\n",
    )
    assert not (tmp_path / "a.jsonl").exists()
    server.url = "http://nowhere.invalid/v1"
    result = ltx(server, folder, "-o", tmp_path / "a.jsonl")
    assert "there is no server at this address: " in result.stderr
    assert result.stderr.endswith("    Check that the address is right, and that it can be reached from here.\n")


def test_a_model_that_the_server_does_not_list_is_told_with_those_that_it_does_once_it_is_refused(server: Server, tmp_path: Path) -> None:
    folder = clips(tmp_path, 2)
    server.models = ["qwen2.5vl:7b", "gemma3:latest"]
    server.reply = lambda number: (400, {"error": {"message": "which model?"}})
    assert ltx(server, folder, "-o", tmp_path / "a.jsonl", model="qwen").stderr == (
        f"{server.url}: the server answers 400: which model?\n"
        '    The server does not list the model "qwen". Name one that it has with --model: qwen2.5vl:7b, gemma3:latest.\n'
    )
    assert not (tmp_path / "a.jsonl").exists()
    server.reply = lambda number: said("a square")
    assert ltx(server, folder, "-o", tmp_path / "b.jsonl", model="gemma3").exit_code == 0
    assert ltx(server, folder, "-o", tmp_path / "c.jsonl", model="whatever").exit_code == 0  # as of a server that has one model


def test_a_model_that_refuses_a_parameter_is_asked_without_it_and_with_its_newer_name(server: Server, tmp_path: Path) -> None:
    server.refuses = {
        "max_tokens": "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
        "temperature": "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) value is supported.",
    }
    result = ltx(server, clips(tmp_path, 3), "-o", tmp_path / "a.jsonl", "--max-tokens", "77")
    assert (result.exit_code, len(rows(tmp_path / "a.jsonl"))) == (0, 3)
    asked = [{name: sent[name] for name in ("max_tokens", "max_completion_tokens", "temperature") if name in sent} for sent in server.sent]
    assert asked == [
        {"max_tokens": 77, "temperature": 0.0},
        {"max_completion_tokens": 77, "temperature": 0.0},
        *([{"max_completion_tokens": 77}] * 3),
    ]


def test_a_value_that_is_too_large_is_no_refusal_of_its_parameter(server: Server, tmp_path: Path) -> None:
    server.refuses = {"max_tokens": "max_tokens must be at most 512, got 1024"}
    result = ltx(server, clips(tmp_path, 1), "-o", tmp_path / "a.jsonl")
    assert (result.exit_code, len(server.sent)) == (2, 1)
    assert result.stderr == "0.mp4: the server answers 400: max_tokens must be at most 512, got 1024\n"


def test_an_output_that_is_the_dataset_or_something_else_is_refused(server: Server, tmp_path: Path) -> None:
    clips(tmp_path, 1)
    data = dataset_file(tmp_path / "set.jsonl", [{"video": "clips/0.mp4"}])
    other = dataset_file(tmp_path / "other.jsonl", [{"video": "clips/9.mp4", "caption": "c"}])
    assert ltx(server, data, "-o", data).stderr == (
        f"{data}: the output would overwrite the dataset, without the rows that fail\n    Name another file.\n"
    )
    for cell in ("clips/9.mp4", ["clips/0.mp4"]):
        dataset_file(other, [{"video": cell, "caption": "c"}])
        assert ltx(server, data, "-o", other).stderr == f"{other}: already exists, and lists other clips\n    Name another file.\n"
    assert server.sent == []


def test_without_its_package_it_says_how_to_install_it(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "openai", None)
    result = ltx(server, clips(tmp_path, 1), "-o", tmp_path / "a.jsonl")
    assert result.stderr == 'captioning needs the package openai, which is not installed\n    Run `pip install "ltx[tools]"`.\n'


def texts(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in sorted(folder.rglob("*.[tT][xX][tT]"))}


def test_captions_of_a_folder_go_into_text_files_beside_its_media(server: Server, tmp_path: Path) -> None:
    folder = clips(tmp_path, 2)
    clip_file(folder / "beach/b.mp4", seed=3)
    sound_file(folder / "waves.wav")
    (folder / "0.TXT").write_text("mine\n")
    (folder / "1.txt").write_text(" \n")
    result = ltx(server, folder)
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"3 made, 1 reused in {folder}\n", "")
    assert texts(folder) == {"0.TXT": "mine\n", "1.txt": "caption 1\n", "beach/b.txt": "caption 2\n", "waves.txt": "caption 3\n"}
    assert [part["type"] for part in server.parts(2)] == ["text", "input_audio"]
    assert ltx(server, folder).stdout == f"0 made, 4 reused in {folder}\n"
    assert ltx(server, folder, "--overwrite").stdout == f"4 made, 0 reused in {folder}\n"
    assert texts(folder)["0.TXT"] == "caption 4\n"
    assert sorted(path.name for path in folder.iterdir()) == ["0.TXT", "0.mp4", "1.mp4", "1.txt", "beach", "waves.txt", "waves.wav"]


def test_what_fails_in_a_folder_loses_only_itself_and_is_asked_for_again(server: Server, tmp_path: Path) -> None:
    folder = clips(tmp_path)
    (folder / "0.txt").write_bytes("wind".encode("utf-16"))
    (folder / "way.mp4").symlink_to(tmp_path)
    server.reply = lambda number: (400, {"error": {"message": "too large"}}) if number == 1 else said("a square")
    result = ltx(server, folder)
    assert (result.exit_code, result.stdout) == (2, f"1 made, 0 reused, 3 failed in {folder}\n")
    assert "0.txt: is not UTF-8 text (byte 0)" in result.stderr
    assert "1.mp4: the server answers 400: too large" in result.stderr
    assert f"way.mp4: is a link that points outside the folder, to {tmp_path}" in result.stderr
    assert (folder / "2.txt").read_text() == "a square\n"


def test_a_clip_and_a_picture_of_one_name_get_one_caption_that_of_the_clip(server: Server, tmp_path: Path) -> None:
    folder = clips(tmp_path, 1)
    clip_file(folder / "0.jpg", frames=1, sound=False)
    assert ltx(server, folder).stdout == f"1 made, 0 reused in {folder}\n"
    assert len(server.parts()) == 1 + 8


def test_a_dataset_file_needs_another_to_write_to(server: Server, tmp_path: Path) -> None:
    path = dataset_file(tmp_path / "set.jsonl", [{"video": "a.mp4"}])
    assert ltx(server, path).stderr == (
        "--output: there is no file to write the captions to\n    Name a file; only the captions of a folder can be written to text files beside the media.\n"
    )


def test_a_dataset_file_of_a_folder_has_its_clips_and_says_that_the_sounds_are_not_in_it(server: Server, tmp_path: Path) -> None:
    folder = clips(tmp_path, 2)
    sound_file(folder / "waves.wav")
    (folder / "0.txt").write_text("mine\n")
    output = tmp_path / "set.jsonl"
    note = "1 sound has no row in the output, since its rows are clips and pictures"
    assert ltx(server, folder, "-o", output).stdout == f"1 made, 1 reused in {output}\n{note}\n"
    assert rows(output) == [{"video": "clips/0.mp4", "caption": "mine"}, {"video": "clips/1.mp4", "caption": "caption 1"}]
    (tmp_path / "clips/0.mp4").unlink()
    (tmp_path / "clips/1.mp4").unlink()
    assert ltx(server, folder, "-o", tmp_path / "sounds.jsonl").stdout == f"1 made, 0 reused in {tmp_path}/sounds.jsonl\n"
    assert rows(tmp_path / "sounds.jsonl") == [{"audio": "clips/waves.wav", "caption": "caption 2"}]


def test_clips_that_the_user_excludes_get_no_caption_and_leave_the_output(server: Server, tmp_path: Path) -> None:
    folder, output = clips(tmp_path, 2), tmp_path / "set.jsonl"
    assert ltx(server, folder, "-o", output).exit_code == 0
    (folder / ".exclude").write_text("0.mp4\n")
    note = f"{folder}: 1 sample excluded by {folder}/.exclude"
    assert ltx(server, folder, "-o", output).stdout == f"0 made, 1 reused in {output}\n{note}\n"
    assert rows(output) == [{"video": "clips/1.mp4", "caption": "caption 2"}]
    assert note in ltx(server, folder).stdout
    assert texts(folder) == {"1.txt": "caption 3\n"}


def test_neither_a_password_in_the_address_nor_a_key_is_told(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, word = "my key, which is 4711", "open/sesame@4712"
    monkeypatch.setenv("OTHER", key)
    folder, address = clips(tmp_path, 1), server.url.removeprefix("http://")
    server.url = f"http://me:{word.replace('/', '%2F')}@{address}"
    server.reply = lambda number: (401, {"error": {"message": f"{key} of me:{word.replace('/', '%2F')} is wrong"}})
    refused = ltx(server, folder, "--key-variable", "OTHER")
    assert refused.stderr.splitlines()[0] == f"http://***@{address}: the server answers 401: *** of me:*** is wrong"
    server.url = f"http://me:{word}@127.0.0.1:9/v1"
    nobody = ltx(server, folder, "--retries", "0")
    server.url = f"me:{word}@host"
    none = ltx(server, folder)
    assert [found.exit_code for found in (refused, nobody, none)] == [2, 2, 2]
    assert not [
        found.output for found in (refused, nobody, none) if "sesame" in found.output or "4712" in found.output or key in found.output
    ]


def test_a_list_of_captions_is_kept(server: Server, tmp_path: Path) -> None:
    clips(tmp_path, 2)
    data = dataset_file(
        tmp_path / "set.jsonl", [{"video": "clips/0.mp4", "caption": ["one", "two"]}, {"video": "clips/1.mp4", "caption": ""}]
    )
    for made in ("1 made, 1 reused", "0 made, 2 reused"):
        assert ltx(server, data, "-o", tmp_path / "out.jsonl").stdout == f"{made} in {tmp_path}/out.jsonl\n"
        assert [row["caption"] for row in rows(tmp_path / "out.jsonl")] == [["one", "two"], "caption 1"]
