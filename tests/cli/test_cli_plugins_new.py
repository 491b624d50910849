"""`ltx plugins new`: a package that passes its own tests from the start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from ltxcore.cli.main import main
from ltxcore.registry import HOOKS, load


def new(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(main, ["plugins", "new", *arguments])
    return done.exit_code, done.stdout, done.stderr


def test_plugins_new_makes_a_package_and_says_how_to_go_on(tmp_path: Path) -> None:
    folder = tmp_path / "ltx-thin-stripes"
    assert new("thin_stripes", "--into", str(tmp_path)) == (
        0,
        f'Made {folder}: the condition "thin_stripes", which gives every other latent frame.\n\n'
        f"  cd {folder}\n"
        '  python -m pip install -e ".[dev]"\n'
        "  pytest\n"
        "  ltx plugins show thin_stripes\n\n"
        "Change apply() in src/ltx_thin_stripes/__init__.py to give what you want.\n",
        "",
    )
    made = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert made == {
        "pyproject.toml",
        "README.md",
        "src/ltx_thin_stripes/__init__.py",
        "src/ltx_thin_stripes/py.typed",
        "tests/test_thin_stripes.py",
    }


@pytest.fixture(params=list(HOOKS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def package(tmp_path: Path, kind: str) -> Path:
    assert new("thin_stripes", "--kind", kind, "--into", str(tmp_path))[0] == 0
    return tmp_path / "ltx-thin-stripes"


def test_what_it_makes_passes_its_own_tests(package: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    paths = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    done = subprocess.run(
        command,
        cwd=package,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(["src", *paths])},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout


def test_what_it_makes_is_a_plugin(package: Path, kind: str) -> None:
    registry = load(local=[package / "src" / "ltx_thin_stripes" / "__init__.py"])
    assert registry.broken == ()
    value = registry.get(kind, "thin_stripes").value
    assert (value.callback if kind == "command" else value).__name__ == ("thin_stripes" if kind == "command" else "ThinStripes")


def test_what_it_makes_is_tidy(package: Path) -> None:
    ruff = Path(sys.executable).with_name("ruff")
    for command in (["check", "--select", "E,F,I,UP,B,PT,RUF"], ["format", "--check", "--diff"]):
        line = [ruff, *command, "--isolated", "--no-cache", "--line-length", "120", "--target-version", "py311"]
        done = subprocess.run(line, cwd=package, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["Stripes", "9lives", "a-b", "a__b", "_a", "a_", "", "über", "a b", "../a"])
def test_a_name_that_cannot_be_installed_is_refused(name: str, tmp_path: Path) -> None:
    assert new("--into", str(tmp_path), "--", name) == (
        2,
        "",
        f'"{name}" is not a valid name for a plugin\n    Use small letters, digits and single underscores, such as every_other.\n',
    )
    assert not list(tmp_path.iterdir())


def test_a_name_that_is_taken_is_refused(tmp_path: Path) -> None:
    assert new("mask", "--into", str(tmp_path)) == (
        2,
        "",
        'the condition "mask" already exists; it comes from ltx 0.1.0 (mask)\n    Choose another name.\n',
    )


def test_a_name_of_another_kind_is_free(tmp_path: Path) -> None:
    assert new("mask", "--kind", "optimizer", "--into", str(tmp_path))[0] == 0


@pytest.mark.parametrize("kind", ["condition"], indirect=True)
def test_nothing_is_overwritten(package: Path) -> None:
    before = (package / "README.md").read_text()
    assert new("thin_stripes", "--into", str(package.parent)) == (
        2,
        "",
        f"{package} already exists\n    Choose another name, or another folder with --into.\n",
    )
    assert (package / "README.md").read_text() == before
