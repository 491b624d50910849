"""Publishing: what is uploaded, what the card says, and that a failed upload loses nothing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import tomli
from click.testing import CliRunner, Result
from safetensors.torch import load_file

from helpers.made_run import HOSTILE, made_run, media, metrics, weights
from helpers.training_runs import sound_set, tables, write_run
from ltxcore import __version__
from ltxcore.cli.main import main
from ltxcore.errors import CheckpointError, ConfigError
from ltxcore.runs.checkpoint import save
from ltxplugins.tools.publish.files import upload_of
from ltxplugins.tools.report.write import write_report
from plugins.tools.publish.hub import TOKEN, Hub, hub

# What huggingface_hub itself does with the client that it uses.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload raw bytes:DeprecationWarning")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("publish") / "my_run"
    lines = [*metrics(), *media(folder, ("a red disc", "a | [blue](x) <b>disc</b>"))]
    return made_run(folder, lines=lines)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub on this machine, which huggingface_hub takes for the real one."""
    with hub() as found:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", found.address)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield found


def ltx(*arguments: object) -> Result:
    return CliRunner().invoke(main, list(map(str, arguments)))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# ---------------------------------------------------------------- what is uploaded


def test_weights_card_notice_run_file_and_the_last_samples_are_uploaded_and_nothing_of_the_data(run: Path) -> None:
    upload = upload_of(run)
    assert upload.repository == "me/made"
    assert sorted(upload.files) == [
        "NOTICE.md",
        "README.md",
        "lora.safetensors",
        "run.toml",
        "samples/step_000200_1.mp4",
        "samples/step_000200_1s.wav",
        "samples/step_000200_2.mp4",
        "samples/step_000200_2s.wav",
    ]


def test_no_path_of_this_machine_is_published(run: Path, tmp_path: Path) -> None:
    upload_of(run).write(tmp_path / "out")
    for name, content in contents(tmp_path / "out").items():
        for secret in (b"/home/", b"/models/somebody", b"somebody", str(run.parent).encode()):
            assert secret not in content, name
    published = tomli.loads((tmp_path / "out" / "run.toml").read_text())
    assert published["data"]["dataset"] == "train.jsonl"
    assert published["model"]["model_path"] == "ltx-2.3-22b-dev.safetensors"
    assert published["optimization"] == tomli.loads((run / "run.toml").read_text())["optimization"]


def test_a_prompt_that_looks_like_a_path_is_left_as_it_is(tmp_path: Path) -> None:
    folder = made_run(tmp_path / "run", validation={"negative_prompt": "/slow motion/ and noise"})
    assert tomli.loads(upload_of(folder).files["run.toml"].decode())["validation"]["negative_prompt"] == "/slow motion/ and noise"


def test_the_folder_is_written_whole_and_never_over_another(run: Path, tmp_path: Path) -> None:
    done = ltx("publish", run, "--dry-run", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[0] == "This would be uploaded to me/made:"
    assert sorted(done.stdout.replace(f"  {tmp_path}/out/", "").splitlines()[1:]) == sorted(contents(tmp_path / "out"))
    again = ltx("publish", run, "--dry-run", tmp_path / "out")
    assert (again.exit_code, again.stderr) == (2, f"--dry-run: {tmp_path / 'out'} already exists\n    Name a new folder.\n")


def test_licence_texts_beside_the_base_model_are_passed_on(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    for name in ("model.safetensors", "LICENSE.txt", "NOTICE"):
        (base / name).write_text(name)
    folder = made_run(tmp_path / "run", model={"model_path": str(base / "model.safetensors")})
    files = upload_of(folder).files
    assert (files["LICENSE.txt"], files["NOTICE"]) == (base / "LICENSE.txt", base / "NOTICE")


# ---------------------------------------------------------------- the card


def card(folder: Path) -> tuple[dict, str]:
    """What the Hub reads of a card, and what people read."""
    from huggingface_hub import ModelCard

    content = ModelCard(upload_of(folder).files["README.md"].decode())
    return content.data.to_dict(), content.text


def test_the_hub_can_read_the_card(run: Path) -> None:
    data, _ = card(run)
    assert data == {
        "license": "other",
        "license_name": "ltx-2-community-license-agreement",
        "license_link": "https://github.com/Lightricks/LTX-2/blob/main/LICENSE-2",
        "base_model": "Lightricks/LTX-2.3",
        "base_model_relation": "adapter",
        "pipeline_tag": "text-to-video",
        "tags": ["ltx-2", "lora", "video", "audio"],
        "instance_prompt": "ltxworld",
        "widget": [
            {"text": "ltxworld a red disc", "output": {"url": "samples/step_000200_1.mp4"}},
            {"text": "ltxworld a | [blue](x) <b>disc</b>", "output": {"url": "samples/step_000200_2.mp4"}},
        ],
    }


def test_the_card_has_the_samples_the_run_file_how_to_use_it_and_whether_it_learned(run: Path) -> None:
    _, text = card(run)
    address = "https://huggingface.co/me/made/resolve/main/samples/step_000200_1"
    assert f'| a red disc | <video controls loop src="{address}.mp4"></video> |' in text
    assert f'| a red disc, sound | <audio controls src="{address}s.wav"></audio> |' in text
    assert "a \\| \\[blue\\](x) &lt;b&gt;disc&lt;/b&gt; |" in text
    assert "Begin every prompt with `ltxworld`." in text
    assert "--lora lora.safetensors --condition type=first_frame,image_or_video=FRAME.png" in text
    assert "ltx export lora.safetensors --for comfyui -o my_run.comfyui.safetensors" in text
    assert (
        "Did it learn? Yes. On 12 held-out clips, which it never trained on, the loss fell by 50% on video, and fell by 50% on audio."
        in text
    )
    assert '```toml\nseed = 42\noutput_dir = "my_run"' in text


@pytest.mark.parametrize(
    ("generation", "licence"),
    [
        ("tiny", "Apache License 2.0: https://www.apache.org/licenses/LICENSE-2.0"),
        ("2.0", "LTX-2 Community License Agreement: https://github.com/Lightricks/LTX-2/blob/main/LICENSE-2"),
        ("2.3", "LTX-2 Community License Agreement: https://github.com/Lightricks/LTX-2/blob/main/LICENSE-2"),
        ("2.5", "LTX-2.x Community License Agreement: https://github.com/Lightricks/LTX-2/blob/main/LICENSE-2_x"),
        ("9", "the licence of the base model; see where it was published"),
    ],
)
def test_the_notice_says_which_licence_it_is_under(generation: str, licence: str, tmp_path: Path) -> None:
    folder = made_run(tmp_path / "run", lines=[])
    weights(folder / "lora.safetensors", generation=generation)
    notice = upload_of(folder).files["NOTICE.md"].decode()
    assert notice.splitlines()[-1] == licence
    assert notice.startswith("This is a LoRA trained on the base model ltx-2.3-22b-dev.safetensors")
    assert card(folder)[1].rstrip().endswith(notice)


def test_the_card_and_the_report_name_the_lists_of_a_choice(tmp_path: Path) -> None:
    choice = {"one_of": [[{"type": "prefix", "temporal_boundary": 2}, {"type": "mask"}], []], "together": False}
    strategy = {"name": "flexible", "audio": {"is_generated": True, "conditions": [{"type": "suffix"}], "choices": [choice]}}
    folder = made_run(tmp_path / "run", training_strategy=strategy)
    assert "- audio: generated, with suffix, prefix and mask or no condition\n" in card(folder)[1]
    assert "one of: prefix (temporal_boundary = 2) and mask / no condition" in write_report(folder).read_text()


def test_the_card_names_what_a_lora_was_trained_on_top_of(tmp_path: Path) -> None:
    text = card(made_run(tmp_path / "run", model={"loras": ["/home/me/style.safetensors:0.5"]}))[1]
    assert "It was trained on top of `style.safetensors:0.5`: load these too.\n" in text
    assert "/home/me" not in text


def test_names_do_not_break_out_of_the_card(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    made_run(folder, lines=[*metrics(), *media(folder, (HOSTILE,))], preprocessing={"lora_trigger": HOSTILE})
    data, text = card(folder)
    assert data["instance_prompt"] == HOSTILE
    before, _, code = text.partition("## Use")
    assert "<script>" not in before
    assert "<script>" not in re.sub(r"(?ms)^(`{3,})\w*\n.*?^\1$", "", code)


@pytest.mark.parametrize("trigger", ["a ``` b", "```", "x\n```\n<b>", "````\n<b>"])
def test_no_trigger_ends_the_block_of_code_that_it_is_in(trigger: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    made_run(folder, preprocessing={"lora_trigger": trigger})
    _, text = card(folder)
    assert "<b>" not in re.sub(r"(?ms)^(`{3,})\w*\n.*?^\1$", "", text)


def test_an_average_and_the_best_weights_are_files_of_their_own_and_the_card_says_which_is_which(tmp_path: Path) -> None:
    folder = made_run(tmp_path / "run", lines=[*metrics(), *media(tmp_path / "run")])
    assert "## Files of weights" not in card(folder)[1]
    weights(folder / "lora_ema.safetensors", ema_decay="0.99")
    save(folder / "best", 150, {"lora_ema.safetensors": partial(weights, ema_decay="0.99", step="150", validation_loss="0.512345")}, None)
    files = upload_of(folder).files
    names = {name for name in files if name.endswith(".safetensors")}
    assert names == {"lora.safetensors", "lora_ema.safetensors", "best/step_000150/lora_ema.safetensors"}
    assert all(files[name] == folder / name for name in names)
    average = "average of the weights over steps (EMA, decay 0.99)"
    assert card(folder)[1].partition("## Files of weights")[2].partition("\n\n##")[0].splitlines()[2:] == [
        "| file | weights |",
        "|---|---|",
        "| `lora.safetensors` | trained weights after the last step, 200 |",
        f"| `lora_ema.safetensors` | {average} after the last step, 200, which generated the samples |",
        f"| `best/step_000150/lora_ema.safetensors` | {average} with the lowest validation loss, 0.512345, after step 150 |",
    ]


def test_the_best_weights_of_a_whole_model_come_with_their_parts_under_names_of_their_own(tmp_path: Path) -> None:
    folder = made_run(tmp_path / "run", model={"training_mode": "full"})
    (folder / "lora.safetensors").unlink()
    weights(folder / "model.safetensors")

    def in_parts(path: Path) -> Path:
        of_part = dict.fromkeys(load_file(weights(path.with_name("part-1.safetensors"))), "part-1.safetensors")
        index = path.with_name(f"{path.name}.index.json")
        index.write_text(json.dumps({"metadata": {"total_size": 256}, "weight_map": of_part}))
        return index

    save(folder / "best", 100, {"model.safetensors": in_parts}, None)
    names = [name for name in upload_of(folder).files if "safetensors" in name]
    assert names == [
        "model.safetensors",
        "best/step_000100/model.safetensors.index.json",
        "best/step_000100/part-1.safetensors",
    ]


# ---------------------------------------------------------------- the upload


def test_a_run_arrives_at_the_hub_as_it_is(run: Path, server: Hub) -> None:
    done = ltx("publish", run, "--private")
    assert (done.exit_code, done.stdout) == (0, f"{server.address}/me/made\n"), done.output
    files = upload_of(run).files
    assert server.files == {f"me/made/{name}": found if isinstance(found, bytes) else found.read_bytes() for name, found in files.items()}
    assert "private" in json.dumps(server.repositories["me/made"])
    assert server.cards == [files["README.md"].decode()]


def test_a_run_that_is_to_be_published_is_refused_where_nothing_publishes_and_published_at_its_end_where_something_does(
    server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed = {"hub": {"push_to_hub": True, "hub_model_id": "me/tones"}, "validation": {"skip_initial_validation": True}}
    run_file = write_run(tmp_path, tables(sound_set(tmp_path / "data"), tmp_path / "out", **pushed))
    with monkeypatch.context() as patch:
        patch.setenv("LTX_DISABLE_PLUGINS", "publish")
        refused = ltx("run", run_file)
    assert refused.exit_code == 2
    assert (
        f'hub.push_to_hub: the command "publish" comes from ltx {__version__} (publish), a plugin that LTX_DISABLE_PLUGINS switches off'
        in refused.stderr
    )
    done = ltx("run", run_file, "--set", "optimization.steps=1")
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (0, f"Uploaded to {server.address}/me/tones"), done.output
    assert server.files["me/tones/lora.safetensors"] == (tmp_path / "out" / "lora.safetensors").read_bytes()


def test_hf_endpoint_names_another_hub(run: Path) -> None:
    known = {"HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    with hub() as found:
        command = [sys.executable, "-m", "ltxcore", "publish", str(run), "--to", "you/it"]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env={**os.environ, **known, "HF_ENDPOINT": found.address}
        )
        assert (done.returncode, done.stdout) == (0, f"{found.address}/you/it\n"), done.stderr
        assert "you/it/lora.safetensors" in found.files


@pytest.mark.parametrize("failure", ["refused", "unreachable", "no such token"])
def test_a_failed_upload_leaves_the_run_as_it_was_and_says_how_to_try_again(
    failure: str, run: Path, server: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(run)
    server.refuses = 503 if failure == "refused" else 0
    if failure == "unreachable":
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    if failure == "no such token":
        monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    done = ltx("publish", run)
    assert done.exit_code == 2
    assert "me/made: could not be uploaded: " in done.stderr
    assert done.stderr.endswith(f"\n    The run in {run} is complete. Try again with: ltx publish {run}\n")
    assert contents(run) == before
    assert server.files == {}


def test_a_run_that_has_not_finished_is_not_published(tmp_path: Path) -> None:
    folder = made_run(tmp_path / "run", status="stopped")
    with pytest.raises(CheckpointError) as error:
        upload_of(folder)
    assert str(error.value) == f"{folder}: this run has no weights yet\n    Finish the run first: ltx run run.toml"


def test_a_run_that_names_no_repository_needs_one_named(tmp_path: Path) -> None:
    folder = made_run(tmp_path / "run", hub={"hub_model_id": ""})
    with pytest.raises(ConfigError) as error:
        upload_of(folder)
    assert str(error.value) == f'{folder}: there is no repository to upload to\n    Name a repository with --to "name/model".'
    assert upload_of(folder, "you/other").repository == "you/other"


def test_what_is_no_run_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        upload_of(tmp_path)
    expected = "this is not the output folder of a run\n    Name the output_dir of a run that `ltx run` started."
    assert str(error.value) == f"{tmp_path}: {expected}"
