"""The wheel alone, in an environment that does not see the checkout, is all that a first run needs."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
FEW = [
    *("--set", "optimization.steps=4"),
    *("--set", "optimization.batch_size=4"),
    *("--set", "data.held_out=4"),
    *("--set", "validation.inference_steps=2"),
]


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a fresh environment with the wheel, and with the packages that it needs as they are here, but without the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    packages = next(path for path in map(Path, sys.path) if path.name == "site-packages")
    site = folder / "venv" / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    site.joinpath("beside.pth").write_text(
        f"{packages}\n"
    )  # a folder of a .pth file is searched, and its own .pth files, such as that of the checkout, are not
    (wheel,) = folder.glob("*.whl")
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        folder / "venv",
        "install",
        "--quiet",
        "--no-index",
        "--no-deps",
        "--ignore-installed",
        wheel,
    ]
    subprocess.run(install, check=True, capture_output=True)
    return folder / "venv" / "bin"


def run(*command: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    )


def test_two_commands_train_in_an_empty_folder(scripts: Path, tmp_path: Path) -> None:
    seen = run(
        scripts / "python",
        "-c",
        "import ltxcore, ltxplugins, sys; print(ltxcore.__file__, ltxplugins.__file__, *sys.path, sep='\\n')",
        folder=tmp_path,
    )
    core, plugins, *searched = seen.stdout.splitlines()
    assert all(Path(file).is_relative_to(scripts.parent) for file in (core, plugins))
    assert not [path for path in searched if path and Path(path) in (ROOT, ROOT / "plugins")]
    written = run(scripts / "ltx", "new", "audio_inpainting", "--demo", ".", folder=tmp_path)
    assert (written.returncode, written.stderr) == (0, "")
    assert written.stdout == "Wrote 120 clips to media.\nWrote audio_inpainting.toml.\nStart it: ltx run audio_inpainting.toml\n"
    done = run(scripts / "ltx", "run", "audio_inpainting.toml", *FEW, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    output = tmp_path / "outputs" / "audio_inpainting"
    assert {path.name for path in output.iterdir()} >= {"lora.safetensors", "report.html", "run.toml", "samples"}
    assert sum("loss" in json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()) == 4


def test_a_hint_names_nothing_that_is_not_there(scripts: Path, tmp_path: Path) -> None:
    done = run(scripts / "ltx", "run", "examples/audio_inpainting.toml", folder=tmp_path)
    assert (done.returncode, done.stderr) == (
        2,
        "examples/audio_inpainting.toml: there is no such file\n    Name a run file; `ltx new` writes one.\n",
    )
