"""A run with secrets wherever they can be given, in a home of a user with a name: no file and no message has a secret, and what leaves has no home either."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from safetensors import safe_open

from helpers.training_runs import STOPPER, sound_set, tables, write_run
from ltxcore.cli.main import main

SECRETS = {
    "HF_TOKEN": "hf_ofTheHub0123456789abcdef",
    "WANDB_API_KEY": "0123456789abcdef0123456789abcdef01234567",
    "OPENAI_API_KEY": "of-the-captions-4711",
    "MY_PASSWORD": "of-my-own-server-4712",
}
"""By environment variable."""

KEY, WORD, IN_QUERY = "of-the-tracker-4713", "of-the-address-4714", "of-the-query-4715"

SPY = '''
"""A tracker of somebody's own, which keeps what it is told, as one that uploads would."""
import json
import attrs
from ltxcore.api import ConfigError, hookimpl

@attrs.define
class Spy:
    api_key: str
    url: str
    folder: str = ""
    fails: bool = False

    def start(self, output_dir, run, total_steps, first_step):
        if self.fails:
            raise ConfigError(f"{self.url} does not take {self.api_key}: api_key={self.api_key}")
        (output_dir / "spied.json").write_text(json.dumps(run))
        (output_dir / "knows").write_text(str([len(self.api_key), len(self.url)]))

    def log(self, step, metrics):
        pass

    def sample(self, step, name, path):
        pass

    def finish(self):
        pass

@hookimpl
def ltx_trackers():
    return {"spy": Spy}
'''

URL = f"https://alice:{WORD}@tracker.example/api?token={IN_QUERY}"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The home of a user, who works in it and has all secrets in her environment."""
    home = tmp_path / "home" / "alice"
    (home / "work").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("https_proxy", f"http://alice:{WORD}@proxy.example:8080")
    monkeypatch.setenv("HF_ENDPOINT", f"http://alice:{WORD}@127.0.0.1:9")  # where nobody answers
    monkeypatch.chdir(home / "work")
    return home


def run_file(home: Path, **changed: Any) -> Path:
    sound_set(home / "set", 8)
    (home / "spy.py").write_text(SPY)
    (home / "stopper.py").write_text(STOPPER)
    keys: dict[str, Any] = {
        "plugins": ["~/spy.py", str(home / "stopper.py")],
        "trackers": {"spy": {"api_key": KEY, "url": URL, "folder": str(home / "mine")}, "stopper": {"at": 1}},
        "optimization": {"steps": 2, "batch_size": 2},
        "hub": {"hub_model_id": "alice/made"},
        "preprocessing": {"lora_trigger": "a word"},
        "validation": {"samples": [{"prompt": "a tone in the home"}], "inference_steps": 2, "video_dims": [32, 32, 9]},
        **changed,
    }
    return write_run(home / "work", tables(home / "set", home / "work" / "out", **keys))


def ltx(*arguments: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(main, [*map(str, arguments)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    assert done.output
    return done.exit_code, done.output


def found_in(text: bytes | str) -> set[str]:
    content = text if isinstance(text, bytes) else text.encode()
    return {secret for secret in {*SECRETS.values(), KEY, WORD, IN_QUERY} if secret.encode() in content}


def files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


@pytest.mark.slow
def test_no_file_and_no_message_has_a_secret_and_what_leaves_has_no_home(home: Path) -> None:
    path = run_file(home)
    outputs = [ltx("check", path), ltx("run", path)]
    assert [code for code, _ in outputs] == [0, 130], outputs
    out = home / "work" / "out"
    # The run file of the output folder has none to go on with, and says so; with the first file, or with both said again, it goes on.
    code, refused = ltx("run", out / "run.toml")
    assert code == 2
    for key in ("api_key", "url"):
        assert f"trackers.spy.{key}: *** was written here in place of a password or key" in refused
    anew = ["--set", f"trackers.spy.api_key={KEY}", "--set", f"trackers.spy.url={URL}"]
    outputs += [
        (code, refused),
        ltx("run", path, "--set", "trackers.spy.api_key=another-4713", "--set", "lora.rank=3"),
        ltx("run", path, "--set", f"trackers.spy.api_kei={KEY}", "--set", f"seed={URL}"),
        ltx("run", path, "--set", f"model.model_path={URL}"),
        ltx("run", out / "run.toml", *anew),
        ltx("publish", out, "--dry-run", "shown"),
        ltx("publish", out),
        ltx("report", out, "-o", "page.html"),
        ltx("plugins", "list"),
        ltx("run", path, "--set", "output_dir=failed", "--set", "trackers.spy.fails=true"),
        ltx("sample", "a tone", "--model", URL, "-o", "a.wav"),
    ]
    assert [code for code, _ in outputs[2:]] == [2, 2, 2, 2, 0, 0, 2, 0, 0, 2, 2], outputs
    changed = {line.split(" =")[0].strip(" +-") for line in outputs[3][1].splitlines() if line.strip()[:1] in ("+", "-")}
    assert "rank" in changed
    assert not changed & {"api_key", "url"}  # which secrets a run has makes no other run of it
    assert [found_in(said) for _, said in outputs] == [set()] * len(outputs)
    given = {path, home / "spy.py"}
    assert {str(file): found_in(file.read_bytes()) for file in files(home) if file not in given and found_in(file.read_bytes())} == {}
    # The tracker itself was given what the user said.
    assert (out / "knows").read_text() == str([len(KEY), len(URL)])

    leaves = [
        out / "report.html",
        home / "work" / "page.html",
        out / "spied.json",
        out / "lora.safetensors",
        *files(home / "work" / "shown"),
    ]
    assert len(leaves) > 8
    for file in leaves:
        assert not [told for told in ("alice/work", str(home.parent)) if told.encode() in file.read_bytes()], file
    spied = json.loads((out / "spied.json").read_text())
    assert spied["trackers"]["spy"] == {
        "api_key": "***",
        "url": "https://***@tracker.example/api?token=***",
        "folder": "~/mine",
        "fails": False,
    }
    assert (spied["output_dir"], spied["data"]["preprocessed_data_root"]) == ("~/work/out", "~/set")
    assert "ltx sample" in (page := (out / "report.html").read_text())
    assert "~/work/out/lora.safetensors" in page
    with safe_open(out / "lora.safetensors", "pt") as lora:
        assert str(home.parent) not in str(lora.metadata())
