"""Generate samples outside a run: load a model and LoRAs from their files, and write each sample to a file.

Until the last sample is written, a hidden file beside the samples records the progress of the command. The same command
therefore continues where it was killed, and is not refused because of its own files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor

from ltxcore.codecs.source import Codecs
from ltxcore.condition_metadata import FACTORS, REFERENCES, trained_factors
from ltxcore.config.acceleration import AttentionName
from ltxcore.config.loras import Strength
from ltxcore.devices import is_gpu
from ltxcore.engines.single import AUTOCAST
from ltxcore.errors import ConfigError, Problem
from ltxcore.files import read_regular, write_whole
from ltxcore.memory import telling
from ltxcore.models.adapter_types import adapter_types
from ltxcore.models.attention import use_kernel
from ltxcore.models.backbone import LTXBackbone
from ltxcore.models.load_base import describe, load_backbone
from ltxcore.models.lora_stack import load_loras
from ltxcore.models.offload import place
from ltxcore.protocols import Codec, ModelInput
from ltxcore.quantizers import QuantizerType
from ltxcore.registry import Registry
from ltxcore.sample.empty_tokens import modalities_of
from ltxcore.sample.encode_inputs import Encoded, encode
from ltxcore.sample.marker import Marking, marking_of
from ltxcore.sample.media_needs import Planned, plan_generations
from ltxcore.sample.outputs import decoders, shown, write
from ltxcore.sample.request import Request
from ltxcore.sample.sampler import Sampler
from ltxcore.sample.values import params_of_loras

Step = Callable[[int, int, int], None]
"""A function that is called after each step with the number of the sample (from 0), the number of steps done and the
total number of steps.
"""


@attrs.frozen
class Studio:
    """A model, with the LoRAs and the settings for generating samples.

    Attributes:
        model: the device, and the paths of the model, its codecs and its text encoder.
        loras: the LoRAs to apply, with their strengths.
        precision: the precision of weights and arithmetic, "bf16" or "no" (float32).
        quantizer: the quantizer of the matrices in the model's blocks; None for no quantization.
        offload_blocks: the number of blocks whose matrices stay in host memory and are copied to the device only to
            compute.
        mark_first_frame: whether the first latent frame is marked, for a model that takes the marker; None to do as in
            the training of the LoRAs and the model.
        attention: the program that computes attention.
        registry: the plugins whose types of adapters are known; by default, the installed ones.
    """

    model: Codecs
    loras: Sequence[Strength] = ()
    precision: str = "no"
    quantizer: QuantizerType | None = None
    offload_blocks: int = 0
    mark_first_frame: bool | None = None
    attention: AttentionName = "auto"
    registry: Registry | None = None

    @property
    def marking(self) -> Marking:
        """Whether the first latent frame is marked, with notes that explain why not.

        Raises:
            LtxError: the LoRAs were trained differently, and the user has not chosen.
        """
        return marking_of(self.loras, describe(self.model.path), self.mark_first_frame)

    def plan(self, requests: Sequence[Request]) -> list[Planned]:
        """Check the media of some samples by their headers, and plan the samples.

        Raises:
            LtxError: something is wrong with some of the samples; the error lists everything that is wrong with them.
        """
        return plan_generations(requests, modalities_of(describe(self.model.path)), factors_of(self.loras), params_of_loras(self.loras))

    def generate(self, planned: Sequence[Planned], paths: Sequence[Path], step: Step | None = None) -> Iterator[Path]:
        """Generate samples, and write each as soon as it is finished.

        Args:
            planned: the samples.
            paths: the path of each sample's file, without its extension.
            step: called after each step.

        Yields:
            The files, with their extensions.

        Raises:
            LtxError: a file cannot be read, encoded or written, weights cannot be loaded, or memory runs out.
        """
        marks = self.marking.marks
        with self._telling("encoding prompts and media", self._to_encode()):
            encoded = encode(planned, self.model)
        modalities = frozenset(name for each in planned for name in each.canvas.request.modalities)
        with self._telling("loading the model", self._to_draw()):
            sampler = self._sampler(modalities, marks)
        with decoders(self.model, {name for each in planned for name in each.canvas.request.generated}) as codecs:
            for index, (each, path) in enumerate(zip(encoded, paths, strict=True)):
                yield self._one(index, each, path, sampler, codecs, step)

    def _one(self, index: int, encoded: Encoded, path: Path, sampler: Sampler, codecs: Mapping[str, Codec], step: Step | None) -> Path:
        report = None if step is None else lambda done, total: step(index, done, total)
        request = encoded.canvas.request
        size = f" at {request.size}" if "video" in request.modalities else ""
        sample, smaller = f'"{request.prompt}"{size}', "fewer or smaller frames: --video-dims"
        with torch.no_grad():
            with self._telling(f"generating {sample}", [*self._to_draw(), smaller]):
                latents = sampler.generate(encoded, report=report)
            with self._telling(f"decoding {sample}", [*self._to_decode(), smaller]):
                return write(shown(encoded, latents, codecs), path)

    # ---- where memory runs out

    def _telling(self, doing: str, least: Sequence[str]) -> AbstractContextManager[None]:
        remedy = (
            f"Each of these needs less memory: {'; '.join(least)}." if least else "It already uses the settings that need the least memory."
        )
        return telling(doing, self.model.device, lambda: remedy)

    def _to_encode(self) -> list[str]:
        text = self.model.text_in_8bit or self.model.text_offload
        in_8bit = ["--load-text-encoder-in-8bit"] if is_gpu(self.model.device) and not text else []
        return [*in_8bit, *([] if text else ["--offload-text-encoder"]), *([] if self.model.tiling else ["--vae-tiling"])]

    def _to_draw(self) -> list[str]:
        layers = describe(self.model.path).num_layers
        blocks = (self.offload_blocks + layers + 1) // 2
        return [
            *(["--precision bf16"] if self.precision == "no" else []),
            *([] if self.quantizer else ["--quantization int8"]),
            *([f"--offload-blocks {blocks}"] if self.offload_blocks < layers else []),
        ]

    def _to_decode(self) -> list[str]:
        return [*([] if self.model.tiling else ["--vae-tiling"]), *self._to_draw()]

    def _sampler(self, modalities: frozenset[str], marks: bool) -> Sampler:
        device, mixed = torch.device(self.model.device), AUTOCAST[self.precision]
        backbone = load_backbone(
            self.model.path,
            modalities,
            dtype=mixed or torch.float32,
            quantizer=self.quantizer,
            device=device,
            offloaded=self.offload_blocks,
            connectors_path=self.model.connectors,
        )
        use_kernel(backbone, self.attention, device, mixed or torch.float32, training=False, where="--attention")
        place(backbone, device, self.offload_blocks)
        load_loras(backbone, self.loras, adapter_types(self.registry))
        return Sampler(backbone.eval(), _forward(backbone, device, mixed), device, marks)


def _forward(backbone: LTXBackbone, device: torch.device, mixed: torch.dtype | None) -> Callable[..., Mapping[str, Tensor]]:
    def forward(inputs: Mapping[str, ModelInput], **options: Any) -> Mapping[str, Tensor]:
        with torch.autocast(device.type, dtype=mixed, enabled=mixed is not None):
            return backbone(inputs.get("video"), inputs.get("audio"), **options)

    return forward


def factors_of(loras: Sequence[Strength]) -> dict[str, str] | None:
    """Return the reference factors in the metadata of LoRAs; None if no LoRA names a factor, and none was trained by
    ltx.

    A LoRA trained by ltx names a factor only if the factor is not 1.

    Raises:
        ConfigError: two LoRAs give different factors, or the references of a LoRA cannot be read.
    """
    said = [lora.metadata for lora in loras]
    own = [{name: metadata[name] for name in (*FACTORS.values(), REFERENCES) if name in metadata} for metadata in said]
    remedy = "References cannot have two sizes at once: use only one of these LoRAs."
    found: dict[str, str] = {}
    problems: list[Problem] = []
    for lora, factors in zip(loras, own, strict=True):
        problems += _unreadable(lora)
        for name, factor in factors.items():
            if name != REFERENCES and found.setdefault(name, factor) != factor:
                what = f"was trained with {name} = {factor}, but another LoRA was trained with {found[name]}"
                problems.append(Problem(what, str(lora.path), remedy))
    several = next((factors for factors in own if REFERENCES in factors), None)
    if several is not None and not problems:
        kinds = trained_factors(several)
        problems += [
            Problem("was trained with references of other sizes than another LoRA", str(lora.path), remedy)
            for lora, factors in zip(loras, own, strict=True)
            if factors and any(kind not in kinds for kind in trained_factors(factors))
        ]
        found = several
    if problems:
        raise ConfigError.of(problems)
    return found if any(own) or any("timestep_rule" in metadata for metadata in said) else None


def _unreadable(lora: Strength) -> Iterator[Problem]:
    try:
        trained_factors(lora.metadata)
    except ValueError:
        yield Problem("the factors of references in the metadata of this LoRA cannot be read", str(lora.path), "Train the LoRA again.")


@attrs.define
class Drawing:
    """The samples that a command generates, with a record of those that are already finished.

    Attributes:
        record: the hidden file with the record.
        paths: the paths of all samples, without extensions.
        there: the files of the finished samples, by sample number.
    """

    record: Path
    paths: Sequence[Path]
    there: dict[int, Path]

    @classmethod
    def of(cls, folder: Path, asked: bytes, count: int, names: Callable[[], Sequence[Path]]) -> Drawing:
        """Read the record that the same command left, or make a new one.

        Args:
            folder: the folder for the samples.
            asked: bytes that identify the command, with all of its options.
            count: the number of samples.
            names: a function that returns the paths for a new command, or raises an error to refuse the command.
        """
        record = folder / f".drawing-{hashlib.sha256(asked).hexdigest()[:16]}.json"
        try:
            stems, files = json.loads(read_regular(record))
            paths, there = [folder / stem for stem in stems], {int(number): folder / name for number, name in files.items()}
        except (OSError, ValueError, TypeError, AttributeError, RecursionError):  # the record is missing or damaged
            paths, there = [], {}
        if len(paths) != count:
            return cls(record, names(), {})
        return cls(record, paths, {number: path for number, path in there.items() if path.is_file()})

    def left(self) -> list[int]:
        """Return the numbers of the samples that are not finished yet."""
        return [number for number in range(len(self.paths)) if number not in self.there]

    def begin(self) -> None:
        """Write the record of the samples to generate. A single sample needs no record: its file shows whether it is
        finished.

        Raises:
            OSError: the record cannot be written.
        """
        if len(self.paths) > 1:
            files = {number: path.name for number, path in self.there.items()}
            write_whole(self.record, json.dumps([[path.name for path in self.paths], files]).encode())

    def add(self, number: int, path: Path) -> None:
        """Record that a sample is finished."""
        self.there[number] = path
        self.begin()

    def end(self) -> None:
        """Remove the record, since all samples are finished."""
        self.record.unlink(missing_ok=True)
