"""The shape of the code: who may import whom, what may be heavy, how long a file or a function gets."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORE = sorted((ROOT / "ltxcore").rglob("*.py"))
OF_TORCH = "_torch"
"""What the name of a plugin's module ends in that has subclasses of torch's classes: it is imported when what it has is built, and not by the plugin."""
PLUGINS = sorted((ROOT / "plugins" / "ltxplugins").rglob("*.py"))
HEAVY = ("torch", "diffusers", "transformers", "peft", "deepspeed", "av", "numpy")
LIGHT = (
    "errors",
    "files",
    "members",
    "state",
    "protocols",
    "hookspecs",
    "modalities",
    "flow",
    "conditions",
    "strategy",
    "registry",
    "api",
    "config",
    "cli",
    "__main__",
)


def module(path: Path) -> str:
    relative = path.relative_to(ROOT if path.is_relative_to(ROOT / "ltxcore") else ROOT / "plugins")
    return ".".join(relative.with_suffix("").parts).removesuffix(".__init__")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_imports_keep_to_the_layers() -> None:
    lint = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert lint.returncode == 0, lint.stdout + lint.stderr


def test_everything_up_to_the_config_the_program_and_every_plugin_import_without_torch() -> None:
    light = [module(path) for path in CORE if path.relative_to(ROOT / "ltxcore").with_suffix("").parts[0] in LIGHT]
    code = f"""
import importlib, sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {HEAVY!r}:
            raise ImportError(f"{{name}} is imported at import time")
sys.meta_path.insert(0, Block())
for name in {[*light, *(module(path) for path in PLUGINS if not path.stem.endswith(OF_TORCH))]!r}:
    importlib.import_module(name)
from ltxcore.registry import load
broken = [f"{{b.origin}}: {{b.reason}}" for b in load().broken]
assert not broken, broken
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr


@pytest.mark.parametrize("path", PLUGINS, ids=name)
def test_a_built_in_plugin_imports_the_api_and_nothing_else_of_the_core(path: Path) -> None:
    imported = {node.module for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom) and node.module}
    imported |= {alias.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Import) for alias in node.names}
    assert {found for found in imported if found.startswith("ltxcore") and not f"{found}.".startswith("ltxcore.api.")} == set()


@pytest.mark.parametrize("path", [*CORE, *PLUGINS], ids=name)
def test_a_file_has_at_most_300_lines_of_code_and_a_function_50(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert len(code_lines(tree)) <= 300
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert len(code_lines(node)) <= 50, f"{node.name}, line {node.lineno}"


def code_lines(tree: ast.AST) -> set[int]:
    """Lines of statements, without docstrings, comments and blank lines."""
    lines: set[int] = set()
    for node in ast.walk(tree):
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        if isinstance(node, ast.stmt) and not docstring:
            simple = not hasattr(node, "body")
            lines |= set(range(node.lineno, (node.end_lineno if simple else node.lineno) + 1))
    return lines


def test_the_visible_root_is_closed() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    roots = {path.partition("/")[0] for path in tracked}
    visible = {root for root in roots if not root.startswith(".")}
    assert visible == {"pyproject.toml", "README.md", "ltxcore", "plugins", "examples", "tests", "docs"}


def test_the_name_of_a_test_says_what_it_is_about() -> None:
    """A list of failures has names alone, and "it" in one of them is anything."""
    tests = [path for path in (ROOT / "tests").rglob("test_*.py") if "made_by_0_1_0" not in path.parts]
    found = [
        f"{name(path)}: {each}" for path in tests for each in re.findall(r"^def (test_(?:it|they|so|both)_\w+)", path.read_text(), re.M)
    ]
    assert found == []
