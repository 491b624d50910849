"""What docs/plugins and docs/conditions say is so: code runs, run files load, pages are made from the code, links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs
import click
import pytest
import tomli
import torch
from click.testing import CliRunner

import pages
from helpers.plugin_states import audio, state
from helpers.training_runs import sound_set
from ltxcore.api import Grid, Inputs
from ltxcore.api.columns import Cell, Target
from ltxcore.cli.added import command_of
from ltxcore.cli.main import main
from ltxcore.config.load import load_run
from ltxcore.encoded.manifest import read_source
from ltxcore.errors import LtxError
from ltxcore.flow.draws import CountedDraws
from ltxcore.registry import Registry, load
from ltxcore.testing import (
    check_adapter,
    check_column,
    check_condition,
    check_exporter,
    check_imports_lightly,
    check_objective,
    check_optimizer,
    check_quantizer,
    check_schedule,
    check_source,
    check_strategy,
)

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [
        ROOT / "docs" / "how-to" / "objectives.md",
        *(ROOT / "docs" / "plugins").glob("*.md"),
        *(ROOT / "docs" / "conditions").glob("*.md"),
        pages.HOOKS_PAGE,
    ]
)
EXAMPLES = {name: ROOT / "examples" / name for name in ("ltx-checkerboard", "ltx-depth")}
READMES = [folder / "README.md" for folder in EXAMPLES.values()]
REST = '[model]\nmodel_path = "tiny"\n\n[data]\npreprocessed_data_root = "."\n\n'


@attrs.frozen
class Block:
    """A block of code in a page."""

    page: Path
    language: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.page.parent.name}/{self.page.name}:{self.line}"


def blocks(language: str) -> list[Block]:
    return [block for page in [*PAGES, *READMES] for block in _blocks(page) if block.language == language]


def _blocks(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for found in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield Block(page, found[1], text[: found.start()].count("\n") + 1, found[2])


PLUGINS = [block for block in blocks("python") if "@hookimpl" in block.text]


@pytest.fixture(scope="module")
def plugin_files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Every plugin of the pages as a file, the names of the tutorial's as it says."""
    folder = tmp_path_factory.mktemp("plugins")
    files = []
    for index, block in enumerate(PLUGINS):
        path = folder / ("bookends.py" if "class Bookends" in block.text else f"plugin{index}.py")
        path.write_text(block.text)
        files.append(path)
    return files


@pytest.fixture(scope="module")
def registry(plugin_files: list[Path]) -> Registry:
    return load(local=plugin_files, disabled=())


# ---------------------------------------------------------------- made pages


def test_the_page_of_hooks_is_as_the_code_makes_it() -> None:
    assert pages.HOOKS_PAGE.read_text() == pages.hooks_page(), "run: python docs/made/pages.py"


@pytest.mark.parametrize("path", list(pages.condition_pages()), ids=lambda path: path.stem)
def test_every_built_in_condition_has_a_page_with_its_keys(path: Path) -> None:
    assert path.read_text() == pages.with_keys(path.read_text(), path.stem), "run: python docs/made/pages.py"
    assert f"[`{path.stem}`]({path.name})" in path.with_name("README.md").read_text()


def test_the_page_on_upgrading_lists_what_is_read_otherwise_now() -> None:
    page = pages.UPGRADING.read_text()
    assert page == pages.with_corrections(page), "run: python docs/made/pages.py"


# ---------------------------------------------------------------- plugins


def test_every_plugin_in_the_pages_is_accepted(registry: Registry) -> None:
    assert registry.broken == ()
    ours = {
        (kind, name) for kind, names in registry.names.items() for name, named in names.items() if named.origin.distribution == "local file"
    }
    assert ours == {
        ("condition", "bookends"),
        ("condition", "gently"),
        ("condition", "last_frame"),
        ("condition", "voice"),
        ("condition", "paced"),
        ("objective", "direction"),
        ("sigma_sampler", "middle"),
        ("adapter", "rows"),
        ("optimizer", "nesterov"),
        ("optimizer", "signum"),
        ("schedule", "exponential"),
        ("source", "scenario"),
        ("source", "shots"),
        ("column", "speed"),
        ("column", "depth"),
        ("column", "box"),
        ("column", "loudness"),
        ("quantizer", "int4"),
        ("exporter", "peft"),
        ("reference_filter", "grey"),
        ("tracker", "table"),
        ("strategy", "foley"),
        ("command", "hello"),
    }


def test_the_page_lists_every_command_that_takes_python_files_and_what_they_may_add() -> None:
    text = (ROOT / "docs" / "plugins" / "README.md").read_text()
    listed = dict(re.findall(r"^\| `ltx ([a-z ]+)` \| (.+) \|$", text, re.MULTILINE))
    assert listed == dict(taking_plugins(main, ""))


def taking_plugins(command: click.Command, name: str) -> Iterator[tuple[str, str]]:
    """The commands that have the option --plugin, and what its help says that a file may add."""
    if isinstance(command, click.Group):
        with click.Context(command) as context:
            for each in command.list_commands(context):
                yield from taking_plugins(command.get_command(context, each), f"{name} {each}".strip())
    for option in command.params:
        if isinstance(option, click.Option) and "--plugin" in option.opts:
            yield name, str(option.help).removeprefix("A Python file with your own ").removesuffix("; may be repeated.")


@pytest.mark.parametrize("name", ["bookends", "gently", "paced", "voice"])
def test_every_condition_in_the_pages_keeps_to_the_protocol(registry: Registry, name: str) -> None:
    check_condition(registry.get("condition", name).value)


@pytest.mark.parametrize("start", [0, 1])
def test_the_strategy_in_the_pages_keeps_to_the_protocol(registry: Registry, start: int) -> None:
    check_strategy(registry.get("strategy", "foley").value, start=start)


def test_the_objective_in_the_pages_keeps_to_the_protocol(registry: Registry) -> None:
    check_objective(registry.get("objective", "direction").value)


def test_the_adapter_in_the_pages_keeps_to_the_protocol(registry: Registry) -> None:
    check_adapter(registry.get("adapter", "rows").value)


def test_the_optimizer_in_the_pages_keeps_to_the_protocol(registry: Registry) -> None:
    for name in ("nesterov", "signum"):
        check_optimizer(registry.get("optimizer", name).value)


def test_the_schedule_in_the_pages_keeps_to_the_protocol(registry: Registry) -> None:
    check_schedule(registry.get("schedule", "exponential").value)


def test_the_quantizer_in_the_pages_keeps_to_the_protocol(registry: Registry) -> None:
    check_quantizer(registry.get("quantizer", "int4").value)


def test_the_exporter_in_the_pages_keeps_to_the_protocol(registry: Registry) -> None:
    check_exporter(registry.get("exporter", "peft").value, adapter="default")


def test_the_sources_in_the_pages_keep_to_the_protocol(registry: Registry, tmp_path: Path) -> None:
    path = tmp_path / "clips.scenario"
    path.write_text("a.mp4 - a red car\nb.mp4 - a blue car\n")
    check_source(registry.get("source", "scenario").value, path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "shots.txt").write_text("\na.mp4\ta red car\nb.mp4\ta blue car\n")
    shots = registry.get("source", "shots").value
    check_source(shots, tmp_path / "folder")
    found = shots().read(tmp_path / "folder")
    assert (found.folder, [found.at(row).rpartition(":")[2] for row in found.rows]) == (tmp_path / "folder", ["2", "3"])


def test_the_columns_in_the_pages_keep_to_the_protocol(registry: Registry) -> None:
    check_column(registry.get("column", "speed").value, lambda target: [0.5] * target.num_frames, unit=2.0)
    loudness = registry.get("column", "loudness").value
    check_column(loudness, lambda target: [0.5] * target.num_frames, rate=25.0)
    six, by_clip = Target("audio", Grid(6, scale=(4, 1, 1)), 25.0), [0.0, 1.0, 2.0]  # six steps of 1/25 s, three numbers of 1/12 s
    assert loudness(rate=12.0).encode(Cell(six, by_clip)).tolist() == [0, 0, 0, 1, 1, 2]
    check_column(registry.get("column", "box").value, lambda target: [0, 0, 1, 0.5])
    check_column(registry.get("column", "depth").value)


def test_every_plugin_in_the_pages_imports_nothing_heavy(plugin_files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(plugin_files[0].parent))
    for path in plugin_files:
        check_imports_lightly(path.stem)


def test_the_sampler_in_the_pages_draws_sigmas(registry: Registry) -> None:
    sigma = registry.get("sigma_sampler", "middle").value().sample(CountedDraws(1, 0, ("a", "b"), "0"), "audio", 100)
    assert sigma.shape == (2,)
    assert bool(((sigma > 0) & (sigma < 1)).all())


def test_the_filter_in_the_pages_takes_the_colour_out(registry: Registry) -> None:
    frame = torch.tensor([[[10, 20, 30], [40, 50, 60]]], dtype=torch.uint8)
    (grey,) = registry.get("reference_filter", "grey").value(iter([frame]))
    assert grey.tolist() == [[[20, 20, 20], [50, 50, 50]]]


def test_the_tracker_in_the_pages_writes_its_table(registry: Registry, tmp_path: Path) -> None:
    tracker = registry.get("tracker", "table").value()
    tracker.start(tmp_path, {}, 2, 0)
    tracker.log(1, {"loss": 0.5})
    tracker.finish()
    assert (tmp_path / "loss.csv").read_text() == "step,loss\n1,0.5\n"


def test_the_command_in_the_pages_greets(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "hello.py").write_text(next(block.text for block in PLUGINS if "LazyCommand" in block.text))
    monkeypatch.syspath_prepend(tmp_path)
    assert CliRunner().invoke(command_of(registry.get("command", "hello")), ["world"]).output == "Hello, world.\n"


def test_the_voice_ends_where_the_target_begins(registry: Registry) -> None:
    after = registry.get("condition", "voice").value().apply(state(audio(5)), Inputs({"voice": audio(9)}))
    seconds = after.positions[0, 0, 5:]
    assert float(seconds.max()) == 0.0
    torch.testing.assert_close(seconds[1:, 0], seconds[:-1, 1])


def test_the_test_in_the_tutorial_passes(plugin_files: list[Path], tmp_path: Path) -> None:
    test = next(block for block in blocks("python") if "def test_bookends" in block.text)
    bookends = next(path for path in plugin_files if path.stem == "bookends")
    (tmp_path / "bookends.py").write_text(bookends.read_text())
    (tmp_path / "test_bookends.py").write_text(test.text)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_bookends.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_masks_that_a_program_writes_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sound_set(tmp_path / "encoded", 3)
    program = next(block for block in blocks("python") if "save_file" in block.text)
    monkeypatch.chdir(tmp_path)
    exec(compile(program.text, str(program), "exec"), {})
    entries = read_source(tmp_path / "encoded", "quiet_masks")
    assert {name: entry.shape for name, entry in entries.items()} == {f"sound{number:02d}": (8,) for number in range(3)}


# ---------------------------------------------------------------- run files


@pytest.mark.parametrize(
    "block",
    [
        b
        for b in blocks("toml")
        if any(
            each in b.text for each in ("[training_strategy", "[trackers", "[flow_m", "optimizer_type", "scheduler_type", "[[objectives")
        )
    ],
    ids=str,
)
def test_every_run_file_in_the_pages_loads(block: Block, plugin_files: list[Path], tmp_path: Path) -> None:
    text = block.text.replace('dataset = "people/"', 'dataset = "."')  # that of an objective
    text = re.sub(r'^(dataset|preprocessed_data_root) = (?!"\.").*$', r'preprocessed_data_root = "."', text, count=1, flags=re.MULTILINE)
    text = re.sub(r'^preprocessed_data_root = "encoded"\n', "", text, flags=re.MULTILINE)
    whole = text if "[model]" in text else REST + text
    if "name = " not in whole.partition("[training_strategy]")[2][:40]:
        whole += '\n[training_strategy]\nname = "flexible"\n'
    if "[training_strategy." not in whole and "foley" not in whole:
        whole += '\n[training_strategy.audio]\nis_generated = true\nlatents_dir = "audio_latents"\n'
    plugins = [*plugin_files, *(folder / "src" / name.replace("-", "_") / "__init__.py" for name, folder in EXAMPLES.items())]
    whole = f"plugins = {[str(path) for path in plugins]}\n" + re.sub(r"^plugins = .*\n", "", whole, flags=re.MULTILINE)
    (tmp_path / "slow.json").touch()
    path = tmp_path / "run.toml"
    path.write_text(whole)
    try:
        load_run(path)
    except LtxError as error:
        pytest.fail(f"{block}\n{error}\n\n{whole}")


@pytest.mark.parametrize("block", blocks("toml"), ids=str)
def test_every_toml_in_the_pages_is_toml(block: Block) -> None:
    assert tomli.loads(block.text)


@pytest.mark.slow
def test_the_tutorial_trains(tmp_path: Path) -> None:
    bookends = next(block for block in PLUGINS if "class Bookends" in block.text)
    run = next(block for block in blocks("toml") if "bookends.py" in block.text and "[model]" in block.text)
    text = run.text.replace("/path/to/ltx/", f"{ROOT}/").replace("steps = 100", "steps = 2")
    (tmp_path / "bookends.py").write_text(bookends.text)
    (tmp_path / "bookends.toml").write_text(text)
    for command in ("check", "run"):
        done = subprocess.run(
            [sys.executable, "-m", "ltxcore", command, "bookends.toml"], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "outputs" / "bookends" / "lora.safetensors").exists()


# ---------------------------------------------------------------- words


EVERY = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])


def links(page: Path) -> Iterator[tuple[str, Path, str]]:
    """What a page links in this repository: the link, the file or folder it names, and the heading in it."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not target.startswith("https://"):
            path, _, anchor = target.partition("#")
            yield target, (page.parent / path).resolve() if path else page, anchor


@pytest.mark.parametrize("page", EVERY, ids=lambda page: f"{page.parent.name}/{page.name}")
def test_every_link_leads_somewhere(page: Path) -> None:
    for target, linked, anchor in links(page):
        assert linked.exists(), target
        if anchor:
            assert anchor in pages.headings(linked), target


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page.suffix == ".md" and page not in reached:
            reached.add(page)
            waiting.extend(linked / "README.md" if linked.is_dir() else linked for _, linked, _ in links(page) if linked.exists())
    assert {str(page.relative_to(ROOT)) for page in EVERY if page not in reached} == set()


def test_the_messages_in_the_page_of_the_kit_are_the_kits() -> None:
    tables = [block for block in (ROOT / "docs" / "plugins" / "testing.md").read_text().split("\n\n") if block.startswith("| it must")]
    sources = "".join(
        path.read_text() for path in [*(ROOT / "ltxcore" / "testing").glob("*.py"), *(ROOT / "tests").glob("test_testing*.py")]
    )
    quoted = [
        text.removesuffix("...").strip()
        for table in tables
        for row in table.splitlines()[2:]
        for text in re.findall(r"`([^`]+)`", row.split("|")[2])
    ]
    assert len(quoted) > 12
    for text in quoted:
        assert text in sources, text


def test_the_tutorial_says_what_ltx_plugins_new_makes() -> None:
    assert 'bookends = "ltx_bookends"' in (ROOT / "docs" / "plugins" / "README.md").read_text()
