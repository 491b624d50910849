"""Every command that reads a file of the user's, with something in the place of one of the files that it reads. Nothing is trained or drawn, and no sample is encoded:

`run` ends where it has checked everything, `sample` where it has planned what to draw, and `preprocess` where it would make a folder that cannot be made.
"""

from __future__ import annotations

import os
import random
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import attrs
from click.testing import CliRunner
from starlette.testclient import TestClient

from fuzz.mutations import Spoiled
from fuzz.watching import BARE, fault
from fuzz.worlds import films, models
from ltxcore.cli.main import main
from ltxcore.cli.sample import _planned, _studio
from ltxcore.codecs.source import Codecs
from ltxcore.config.load import read_run
from ltxcore.config.prompts import load_samples
from ltxcore.engines.launcher import read_hosts
from ltxcore.runs.checks import check_run
from ltxplugins.studio.app import make_app
from ltxplugins.studio.safety import Admission
from ltxplugins.studio.workspace import Workspace

CLIPS = "plain/clips/*.mp4"
SET = "plain/.precomputed/{latents,conditions}/**/[01m]*"
QUIET = "--no-progress"
TOKEN = "a-token-of-the-tests"
EDITED = ("--regex", "--replace", r"(\w+)", r"\1 \1", "--prefix", "é, ", "--write")


@attrs.frozen
class Scene:
    """A call, and the files it reads that are spoiled, one at a time, as patterns of names.

    Attributes:
        files: below the world's folder.
        call: arguments of `ltx`, or what is done in place of it.
        world: where it is.
    """

    files: tuple[str, ...]
    call: tuple[str, ...] | Callable[[], object]
    world: Callable[[Path], None] = films


def scene(files: str, *arguments: str, world: Callable[[Path], None] = films) -> Scene:
    return Scene(tuple(files.split()), arguments, world)


def checked(path: str) -> Callable[[], object]:
    return lambda: check_run(read_run(Path(path)))


def pages(*addresses: str) -> Callable[[], object]:
    """Ask the studio of the present folder for pages, each of which says in words what is wrong."""

    def call() -> object:
        app = make_app(Workspace(Path()), Admission(TOKEN, 1))
        asking = TestClient(app, "http://127.0.0.1", cookies={"ltx_studio_1": TOKEN})
        return "\n".join(_page(asking, address) for address in addresses)

    return call


def _page(asking: TestClient, address: str) -> str:
    answer = asking.get(f"/{address}")
    if answer.status_code not in (200, 422):
        raise ValueError(f"{address} is answered with {answer.status_code}: {answer.text[:300]}")
    return str(answer.text)


def to_draw(what: str, *loras: str, model: str | None = "tiny") -> Callable[[], object]:
    def call() -> object:
        loaded = load_samples(what)
        studio = _studio(loaded, model, loras, Codecs("", device="cpu"), None)
        return _planned(loaded, studio), studio.marking

    return call


def codecs(model: str, text: str | None = None) -> Callable[[], object]:
    """What encodes, as far as it is looked at before anything is encoded."""
    found = Codecs(model, text_encoder=None if text is None else Path(text))
    return lambda: (found.video(), found.audio(), found.text())


SCENES: Mapping[str, Sequence[Scene]] = {
    "check": [
        *(scene(f"plain/two.{ending}", "check", f"plain/two.{ending}") for ending in ("jsonl", "json", "csv", "tsv")),
        scene(CLIPS, "check", "plain/two.jsonl"),
        scene("mixed/*", "check", "mixed"),
        scene("run.toml folder/transformer_full/*", "check", "run.toml", world=models),
    ],
    "run": [
        Scene(("small.toml", "small.safetensors", *SET.split()), checked("small.toml")),
        Scene((SET,), checked("small.toml")),
        Scene(("zero.toml", "ds.json"), checked("zero.toml")),
        Scene(("ds.json",), checked("zero.toml")),
        Scene(("own.toml", "own.py"), checked("own.toml")),
    ],
    "plan": [
        scene("small.toml small.safetensors", "plan", "small.toml", "--gpus", "1", "--gpu-memory", "80"),
        scene(SET, "plan", "small.toml", "--gpus", "1", "--gpu-memory", "80"),
        scene("ds.json", "plan", "zero.toml", "--gpus", "2", "--gpu-memory", "80"),
    ],
    "inspect": [scene("small.toml small.safetensors", "inspect", "small.toml"), scene(SET, "inspect", "small.toml")],
    "preprocess": [
        scene(f"plain/two.jsonl {CLIPS}", "preprocess", "plain/two.jsonl", "--model-path", "tiny", "--output-dir", "hosts/x", QUIET),
        scene(
            "mixed/*", "preprocess", "mixed", "--model-path", "tiny", "--output-dir", "hosts/x", "--resolution-buckets", "64x64x9", QUIET
        ),
        Scene(("unified/*.safetensors", "unified/gemma-3/*"), codecs("unified/ltx-2.3-22b-dev.safetensors", "unified/gemma-3"), models),
        Scene(("folder/*/*",), codecs("folder"), models),
    ],
    "new": [
        scene("mixed/*", "new", "i2v", "--data", "mixed", "-o", "made.toml", "--force", "--model", "tiny"),
        scene(f"plain/two.jsonl {CLIPS}", "new", "v2v_ic", "--data", "plain/two.jsonl", "-o", "made.toml", "--force"),
    ],
    "split": [
        scene("plain/clips/0.mp4", "split", "plain/clips/0.mp4", "-o", "scenes", "--min-seconds", "99", QUIET),
        scene("mixed/*", "split", "mixed", "-o", "scenes", "--min-seconds", "99", QUIET),
    ],
    "caption": [
        scene(
            f"plain/two.jsonl plain/two.csv {CLIPS}",
            "caption",
            "plain/two.jsonl",
            "-o",
            "plain/two.csv",
            "--overwrite",
            "--base-url",
            "http://127.0.0.1:9/v1",
            "--model",
            "m",
            "--retries",
            "0",
            QUIET,
        ),
        scene(
            "mixed/*",
            "caption",
            "mixed",
            "--base-url",
            "http://127.0.0.1:9/v1",
            "--model",
            "m",
            "--retries",
            "0",
            "--overwrite",
            "--sound",
            QUIET,
        ),
    ],
    "captions": [
        *(scene(f"plain/two.{ending}", "captions", f"plain/two.{ending}", *EDITED) for ending in ("jsonl", "json", "csv", "tsv")),
        scene("mixed/*", "captions", "mixed", *EDITED),
        scene("mixed/*", "captions", "mixed", "--search", "a"),
    ],
    "reference": [
        scene(f"plain/two.jsonl {CLIPS}", "reference", "plain/two.jsonl", "-o", "plain/made.jsonl", QUIET),
        scene("own.py", "reference", "plain/two.jsonl", "-o", "plain/made.jsonl", "--plugin", "own.py", "--filter", "turned", QUIET),
    ],
    "mask": [
        scene(f"plain/two.jsonl {CLIPS}", "mask", "plain/two.jsonl", "-o", "plain/made.jsonl", "--filter", "color,color=red", QUIET),
    ],
    "decode": [scene("one/*/**/*", "decode", "one", "-o", "decoded", QUIET)],
    "shard": [scene(SET, "shard", "plain/.precomputed")],
    "doctor": [
        scene("plain/two.jsonl plain/two.csv", "doctor", "plain/two.jsonl", QUIET),
        scene(CLIPS, "doctor", "plain/two.jsonl", "--deep", QUIET),
        scene("mixed/*", "doctor", "mixed", QUIET),
        scene(SET, "doctor", "plain/.precomputed", "--deep", QUIET),
        scene(f"small.toml {SET}", "doctor", "small.toml", QUIET),
    ],
    "report": [scene("out/finished/*.[hs]* out/finished/samples/*", "report", "out/finished", "-o", "page.html")],
    "sample": [
        Scene(("prompts.toml", CLIPS, "plain/references/0.wav"), to_draw("prompts.toml")),
        Scene(("prompts.jsonl", "mixed/b.png"), to_draw("prompts.jsonl")),
        Scene(("weights/finished.safetensors",), to_draw("a disc", "weights/finished.safetensors", "weights/trigger.safetensors:0.5")),
        Scene(("small.safetensors", "small.toml"), to_draw("small.toml", model=None)),
    ],
    "export": [
        scene("weights/*", "export", f"weights/{name}.safetensors", "--for", program, "-o", "exported.safetensors")
        for name, program in (("finished", "comfyui"), ("dora", "diffusers"), ("single", "ltx-pipelines"))
    ],
    "publish": [scene("out/finished/*.[hs]* out/finished/samples/*", "publish", "out/finished", "--to", "me/model", "--dry-run", "upload")],
    "model": [
        scene("weights/finished.safetensors", "model", "weights/finished.safetensors"),
        scene("small.safetensors", "model", "small.safetensors", "--json"),
        scene("unified/*.safetensors", "model", "unified/ltx-2.3-22b-dev.safetensors", world=models),
        scene("folder/*/*", "model", "folder", world=models),
    ],
    "lora": [
        scene("weights/*", "lora", "average", "weights/finished.safetensors", "weights/finished.safetensors", "-o", "average.safetensors")
    ],
    "plugins": [scene("own.py", "plugins", "show", "stripes", "--plugin", "own.py")],
    "schema": [scene("own.py", "schema", "--plugin", "own.py")],
    "convert": [
        *(scene("yaml/*.yaml", "convert", f"yaml/{name}_lora.yaml", *more) for name, more in (("i2v", ()), ("v2v_ic", ("-o", "new.toml")))),
        scene("ai-toolkit/*", "convert", "ai-toolkit/job.yaml"),
        scene("musubi/*", "convert", "musubi/train.sh"),
        scene("diffusion-pipe/*", "convert", "diffusion-pipe/main.toml"),
    ],
    "studio": [
        Scene(
            ("small.toml", "own.toml"),
            pages("run-file", "run-file/edit?name=small.toml", "run-file/edit?name=own.toml", "runs", "try", "export"),
        ),
        Scene(("mixed/*", "plain/two.jsonl"), pages("data", "data?data=mixed", "data?data=plain/two.jsonl")),
        Scene(
            ("out/finished/*.[hjt]*", "out/finished/lora.safetensors"),
            pages("runs", "runs/show?run=out/finished", "compare?run=out/finished", "try?lora=out/finished/lora.safetensors", "export"),
        ),
    ],
    "launch": [Scene(("hosts",), lambda: read_hosts(Path("hosts"), 0, None))],
    "bookkeeping": [
        scene("out/finished/{run.toml,run.json,metrics.jsonl}", "report", "out/finished", "-o", "page.html"),
        scene("out/finished/{run.toml,run.json,metrics.jsonl}", "publish", "out/finished", "--to", "me/model", "--dry-run", "upload"),
        Scene(("out/single/*", "out/single/checkpoints/*/*.json"), checked("single.toml")),
    ],
}
"""By command. `launch` ends where it has read what machines there are; "bookkeeping" is what runs keep for themselves."""


def ltx(arguments: Sequence[str]) -> str:
    """What a command says; raises what it raises, and where it ends as no command may."""
    done = CliRunner().invoke(main, list(arguments))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    if done.exit_code not in (0, 1, 2) or "Traceback" in done.output:
        raise ValueError(f"ends with {done.exit_code}: {done.output[-300:]}")
    if done.exit_code == 2 and BARE.fullmatch(done.stderr.strip()):
        raise ValueError(f"says nothing: {done.stderr!r}")
    return "in order" if done.exit_code == 0 else done.output


def matching(folder: Path, pattern: str) -> list[Path]:
    """The files of a pattern; `{a,b}` stands for either."""
    if (choice := re.search(r"\{(.*?)\}", pattern)) is not None:
        return [path for one in choice[1].split(",") for path in matching(folder, pattern.replace(choice[0], one))]
    return sorted(path for path in folder.glob(pattern) if path.is_file())


@attrs.define
class World:
    """A folder as it is to be, and how it is made so again."""

    folder: Path
    pristine: Path
    known: dict[str, tuple[int, int]] = attrs.field(factory=dict)

    @classmethod
    def made(cls, folder: Path, make: Callable[[Path], None]) -> World:
        make(folder)
        pristine = folder.with_name(f"{folder.name}.pristine")
        shutil.copytree(folder, pristine)
        world = cls(folder, pristine)
        world.known = world._seen()
        return world

    def _seen(self) -> dict[str, tuple[int, int]]:
        found, left = {}, [""]
        while left:
            above = left.pop()
            with os.scandir(self.folder / above) as entries:
                for entry in entries:
                    name = f"{above}/{entry.name}" if above else entry.name
                    if entry.is_dir(follow_symlinks=False):
                        left.append(name)
                    else:
                        status = entry.stat(follow_symlinks=False)
                        found[name] = (status.st_size, status.st_mtime_ns)
        return found

    def mend(self) -> None:
        """Take away what is new, and bring back what is changed or gone."""
        now = self._seen()
        for name in now.keys() - self.known.keys():
            (self.folder / name).unlink()
        for name, status in self.known.items():
            if now.get(name) != status:
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(self.pristine / name, self.folder / name)
                os.utime(self.folder / name, ns=(status[1], status[1]))
        for parent, folders, names in os.walk(self.folder, topdown=False):
            if not folders and not names and not (self.pristine / os.path.relpath(parent, self.folder)).exists():
                Path(parent).rmdir()


@attrs.define
class Trials:
    """The scenes of a command."""

    scenes: Sequence[Scene]
    worlds: dict[Callable[[Path], None], World]

    def trial(self, seed: str) -> tuple[str, str]:
        """What is said of one file that is not as it should be, and what is wrong with that."""
        rng = random.Random(seed)
        chosen = rng.choice(self.scenes)
        world = self.worlds[chosen.world]
        paths = [path for pattern in chosen.files for path in matching(world.folder, pattern)]
        spoiled = Spoiled.of(rng.choice(paths))
        before = Path.cwd()
        os.chdir(world.folder)
        try:
            kind = spoiled.put(rng)
            said, wrong = fault(lambda: self._call(chosen), world.folder.parent)
            return said, f"{wrong} [{kind} {spoiled.path.relative_to(world.folder)}]" if wrong else ""
        finally:
            os.chdir(before)
            spoiled.restore()
            world.mend()

    @staticmethod
    def _call(chosen: Scene) -> str:
        if isinstance(chosen.call, tuple):
            return ltx(chosen.call)
        chosen.call()
        return "in order"


_worlds: dict[Callable[[Path], None], World] = {}


def trials(name: str) -> Callable[[Path], Trials]:
    """The trials of a command, in a folder that all commands share."""

    def made(folder: Path) -> Trials:
        for each in SCENES[name]:
            if each.world not in _worlds:
                _worlds[each.world] = World.made(folder.parent / each.world.__name__, each.world)
        return Trials(SCENES[name], _worlds)

    return made


COMMANDS: Mapping[str, Callable[[Path], Trials]] = {name: trials(name) for name in SCENES}
