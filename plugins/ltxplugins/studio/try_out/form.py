"""What the form of the screen says, and the arguments of `ltx sample` that it stands for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attrs

from ltxcore.api import ConfigError, LtxError, Problem
from ltxplugins.studio.try_out.conditions import Row
from ltxplugins.studio.try_out.found import Found
from ltxplugins.studio.workspace import Workspace

LONGEST = 20_000
"""The maximum number of characters of a prompt."""
MOST_STRENGTHS = 20
"""The maximum number of samples of a sweep."""
DEFAULT_SEED = 42
"""The seed of `ltx sample`, if none is given."""


@attrs.frozen
class Setting:
    """A field of the form that is an option of `ltx sample`.

    Attributes:
        name: the name of the field; the option has hyphens in place of underscores.
        label: the label that the user reads.
        kind: "whole", "number", "text", "path", or the choices, separated by "|".
        usual: the value that applies if the field is empty.
    """

    name: str
    label: str
    kind: str
    usual: str = ""

    @property
    def option(self) -> str:
        return f"--{self.name.replace('_', '-')}"

    @property
    def choices(self) -> list[str]:
        return self.kind.split("|") if "|" in self.kind else []


BASIC = (
    Setting("seed", "Seed", "whole", "42"),
    Setting("inference_steps", "Steps", "whole", "30"),
    Setting("video_cfg_scale", "Guidance (video)", "number", "3"),
    Setting("audio_cfg_scale", "Guidance (audio)", "number", "7"),
)
"""The settings that are always shown."""
MORE = (
    Setting("frame_rate", "Frames per second", "number", "24"),
    Setting("sigmas", "Noise levels", "text", "from the steps"),
    Setting("video_stg_scale", "STG (video)", "number", "1"),
    Setting("audio_stg_scale", "STG (audio)", "number", "1"),
    Setting("video_modality_guidance_scale", "Modality guidance (video)", "number", "3"),
    Setting("audio_modality_guidance_scale", "Modality guidance (audio)", "number", "3"),
    Setting("guidance_rescale", "Guidance rescale", "number", "0.7"),
    Setting("image_crf", "Compression of images (CRF)", "whole", "as the model was trained"),
    Setting("precision", "Precision", "bf16|no", "bf16 on a GPU"),
    Setting("quantization", "Quantization", "text", "none"),
    Setting("offload_blocks", "Blocks in CPU memory", "whole", "0"),
    Setting("attention", "Attention", "auto|sdpa|flash|flash3|sage|flex", "auto"),
)
"""The settings behind "More"."""
PATHS = (
    Setting("text_encoder_path", "Text encoder", "path", "in the model"),
    Setting("connectors_path", "Connectors", "path", "in the model"),
    Setting("video_vae_path", "Video VAE", "path", "in the model"),
    Setting("audio_vae_path", "Audio VAE", "path", "in the model"),
)
"""The files that a model may lack."""
FLAGS = {
    "memory": {"8bit": "--load-text-encoder-in-8bit", "offload": "--offload-text-encoder"},
    "tiling": {"on": "--vae-tiling"},
    "only": {"video": "--no-generate-audio", "audio": "--no-generate-video"},
}
"""The fields whose choices are options without a value."""
SIZE = ("width", "height", "frames")
TEXTS = ("prompt", "negative_prompt", "model", "preset", "strengths", *SIZE, *FLAGS, *(each.name for each in (*BASIC, *MORE, *PATHS)))
"""The fields that the form has once."""


@attrs.frozen
class Form:
    """The content of the form.

    Attributes:
        texts: the fields that occur once, as the user filled them in; empty fields may be missing.
        loras: the LoRAs with their strengths, as the user wrote them.
        conditions: the conditions.
        plugins: the Python files of the run that the settings come from.
    """

    texts: Mapping[str, str] = attrs.field(factory=dict)
    loras: tuple[tuple[str, str], ...] = ()
    conditions: tuple[Row, ...] = ()
    plugins: tuple[str, ...] = ()

    @classmethod
    def read(cls, fields: Mapping[str, Sequence[str]]) -> Form:
        """Read the fields that a browser sent, or that a job kept."""
        texts = {name: fields[name][0].strip() for name in TEXTS if fields.get(name)}
        loras = tuple(zip(fields.get("lora", ()), fields.get("strength", ()), strict=False))
        return cls(texts, loras, Row.read_all(fields), tuple(fields.get("plugin", ())))

    def fields(self) -> dict[str, list[str]]:
        """Return the fields from which `read` makes the same form."""
        found = {name: [value] for name, value in self.texts.items() if value}
        if self.loras:
            found |= {"lora": [name for name, _ in self.loras], "strength": [strength for _, strength in self.loras]}
        return {**found, **Row.fields_of(self.conditions), **({"plugin": list(self.plugins)} if self.plugins else {})}

    def __getitem__(self, name: str) -> str:
        return self.texts.get(name, "")

    def changed(self, **texts: str) -> Form:
        """Return the form with other values of fields that occur once."""
        return attrs.evolve(self, texts={**self.texts, **texts})

    @property
    def seed(self) -> int:
        return int(self["seed"] or DEFAULT_SEED)

    def arguments(self, workspace: Workspace, found: Found, output: str) -> list[str]:
        """Return the arguments of `ltx`.

        Args:
            workspace: the opened folder.
            found: the files in the folder.
            output: the folder to write to, relative to the opened folder.

        Raises:
            LtxError: values that no sample can have; the error lists all of them. What only the model can refuse is left to `ltx sample`.
        """
        problems = [*self._faults(), *self._unknown(workspace, found)]
        if problems:
            raise ConfigError.of(problems)
        words = ["sample", "--output", output, "--model", self["model"]]
        for name, strength in self.loras:
            words += ["--lora", name if float(strength or 1) == 1 else f"{name}:{float(strength)!r}"]
        for plugin in self.plugins:
            words += ["--plugin", plugin]
        for row in self.conditions:
            words += ["--condition", row.text(workspace)]
        words += [word for setting in (*PATHS, *BASIC, *MORE) if self[setting.name] for word in (setting.option, self[setting.name])]
        words += [FLAGS[name][self[name]] for name in FLAGS if self[name]]
        words += ["--preset", self["preset"]] if self["preset"] else []
        words += ["--video-dims", "x".join(self[name] for name in SIZE)] if self["width"] else []
        words += ["--negative-prompt", self["negative_prompt"]] if self["negative_prompt"] else []
        return [*words, "--", self["prompt"]]

    def sweep(self) -> list[float]:
        """Return the strengths to generate with, one after the other.

        Raises:
            ConfigError: the strengths are not numbers, or there is no LoRA.
        """
        try:
            found = [float(part) for part in self["strengths"].replace(";", ",").split(",") if part.strip()]
        except ValueError:
            found = []
        remedy = "Write numbers separated by commas, such as 0, 0.5, 1."
        if not found or not all(map(math.isfinite, found)) or len(found) > MOST_STRENGTHS:
            raise ConfigError(f"cannot read the strengths of the sweep; it takes 1 to {MOST_STRENGTHS} numbers", remedy=remedy)
        if not self.loras:
            raise ConfigError("a sweep needs a LoRA, whose strength it changes", remedy="Add a LoRA first.")
        return list(dict.fromkeys(found))

    def with_strength(self, strength: float) -> Form:
        """Return the form with another strength of the first LoRA."""
        return attrs.evolve(self, loras=((self.loras[0][0], f"{strength:g}"), *self.loras[1:]))

    # ---- what is wrong

    def _faults(self) -> Iterator[Problem]:
        prompt = self["prompt"]
        if not prompt:
            yield Problem("there is nothing to generate", "Prompt", "Write what you want to see and hear.")
        elif len(prompt) > LONGEST or "\0" in prompt:
            yield Problem(f"has more than {LONGEST:,} characters, or one that no command can take", "Prompt", "Write a shorter text.")
        elif Path(prompt).suffix.lower() in (".toml", ".jsonl"):
            yield Problem("looks like the name of a file", "Prompt", "Write what you want to see and hear, or end it with a full stop.")
        if not self["model"]:
            yield Problem("there is no model to generate with", "Model", 'Choose one from the list, or write "tiny".')
        for setting in (*BASIC, *MORE, *(Setting(name, name.capitalize(), "whole") for name in SIZE)):
            yield from _fault_of(setting, self[setting.name])
        if len({bool(self[name]) for name in SIZE}) > 1:
            yield Problem("width, height and frames belong together", "Size", "Set all three of them, or none.")
        for name, strength in self.loras:
            yield from _fault_of(Setting("", f"Strength of {name}", "number"), strength)
        for name, choices in {**FLAGS, "preset": {"distilled": ""}}.items():
            if self[name] and self[name] not in choices:
                yield Problem(f'"{self[name]}" is not one of {", ".join(choices)}', name)

    def _unknown(self, workspace: Workspace, found: Found) -> Iterator[Problem]:
        """Find files that are neither in the opened folder nor used by one of its runs."""
        places = [("Model", self["model"]), *((each.label, self[each.name]) for each in PATHS), *(("LoRA", name) for name, _ in self.loras)]
        for label, name in places:
            if name and name not in found.files:
                yield from workspace_faults(workspace, label, name)
        for name in self.plugins:
            if name not in found.files:
                yield Problem("no run of the opened folder uses this plugin", name, "Remove it from the settings.")
        for row in self.conditions:
            yield from row.faults(workspace)


def workspace_faults(workspace: Workspace, label: str, name: str) -> Iterator[Problem]:
    """Yield why a file cannot be used: it lies outside the opened folder, or there is none."""
    try:
        path = workspace.path(name)
    except LtxError as error:
        yield from (attrs.evolve(problem, where=label) for problem in error.problems)
        return
    if not path.exists():
        yield Problem(f"there is no file or folder {name} in the opened folder", label, "Choose another, or check the path.")


def _fault_of(setting: Setting, text: str) -> Iterator[Problem]:
    if not text:
        return
    if setting.choices:
        if text not in setting.choices:
            yield Problem(f'"{text}" is not one of {", ".join(setting.choices)}', setting.label)
        return
    try:
        number = int(text) if setting.kind == "whole" else float(text) if setting.kind == "number" else 0
    except ValueError:
        yield Problem(f'"{text}" is not a {"whole " * (setting.kind == "whole")}number', setting.label)
        return
    if not math.isfinite(number):
        yield Problem(f'"{text}" is not a finite number', setting.label)
