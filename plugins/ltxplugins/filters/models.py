"""Make references and masks with models of transformers, from folders that the user names: depth and segmentation."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from ltxcore.api import ConfigError
from ltxplugins.filters.masks import Finding, Region

if TYPE_CHECKING:
    from torch import Tensor

    from ltxcore.api.models import Pretrained

BATCH = 4
"""The number of frames that pass through a model at once."""


@attrs.define(eq=False)
class _Loaded:
    """A model with its image processor, on the device on which it computes."""

    model: Any
    processor: Any
    device: str
    lock: Any = attrs.field(factory=threading.Lock)

    def outputs(self, frames: Sequence[Tensor]) -> tuple[Any, list[tuple[int, int]]]:
        """Return the model's outputs for frames, and the size at which the model saw each of them. One thread at a time computes."""
        import torch

        inputs = self.processor(images=[frame.numpy() for frame in frames], return_tensors="pt")
        size = tuple(int(side) for side in inputs["pixel_values"].shape[-2:])
        with self.lock, torch.inference_mode():
            return self.model(**inputs.to(self.device)), [(size[0], size[1])] * len(frames)


@attrs.frozen(eq=False, slots=False, kw_only=True)
class _OfModel:
    """A base class for filters with a model: the user names the model's folder, and the model computes on the GPU if there is one."""

    endings: ClassVar[tuple[str, ...]]
    """The endings of the names of the models that fit."""

    path: Path = attrs.field(metadata={"help": "folder of the model, as transformers saves it", "reads": "folder"})

    def problems(self) -> list[Finding]:
        try:
            self._find()
        except ConfigError as error:
            return [(("path",), problem.what, problem.remedy) for problem in error.problems]
        return []

    def _find(self) -> Pretrained:
        from ltxcore.api.models import Pretrained

        return Pretrained.find(self.path, self.endings)

    @cached_property
    def loaded(self) -> _Loaded:
        """The model, which is loaded when it is first used.

        Raises:
            ConfigError: the weights are incomplete, or cannot be read.
        """
        return _Loaded(*self._find().load("AutoImageProcessor"))

    def outputs(self, frames: Iterator[Tensor]) -> Iterator[tuple[list[Tensor], Any, list[tuple[int, int]]]]:
        """Yield batches of frames, the model's outputs for them, and the size at which the model saw each frame."""
        while batch := list(islice(frames, BATCH)):
            with _LOADING:
                loaded = self.loaded
            yield batch, *loaded.outputs(batch)


_LOADING = threading.Lock()


@attrs.frozen(eq=False, slots=False, kw_only=True)
class Depth(_OfModel):
    """How near everything is, from black (far) to white (near), by a model for depth estimation."""

    endings = ("ForDepthEstimation",)

    metric: bool = attrs.field(
        default=False,
        metadata={"help": "whether the model returns distances (GLPN, Depth Pro), and not nearness (DPT, Depth Anything)"},
    )

    def __call__(self, frames: Iterator[Tensor]) -> Iterator[Tensor]:
        """Yield the depth of each frame, after the whole clip has been seen.

        Source: docs/explanation/arithmetic.md#depth-references
        """
        import torch

        found: list[Tensor] = []
        size: Any = None
        for batch, outputs, sizes in self.outputs(frames):
            size = batch[0].shape[:2]
            found += self._depths(outputs, sizes)
        depths = torch.stack(found)
        low, high = depths.amin(), depths.amax()
        for depth in depths:
            grey = (depth - low) / (high - low).clamp_min(1e-12)
            grey = torch.nn.functional.interpolate((1 - grey if self.metric else grey)[None, None], size, mode="bilinear", antialias=True)
            yield (255 * grey[0, 0]).round().clamp(0, 255).to(torch.uint8)[..., None].expand(-1, -1, 3)

    def _depths(self, outputs: Any, sizes: list[tuple[int, int]]) -> list[Tensor]:
        """Return the depth of each frame, at the size that the model saw, because the depths of the whole clip are in memory at once."""
        made = self.loaded.processor.post_process_depth_estimation(outputs, target_sizes=sizes)
        return [each["predicted_depth"].squeeze().float().cpu() for each in made]


@attrs.frozen(eq=False, slots=False, kw_only=True)
class _Segmenting(_OfModel):
    """A base class for filters with a model for segmentation."""

    endings = ("ForSemanticSegmentation", "ForUniversalSegmentation")

    def classes(self, frames: Iterator[Tensor]) -> Iterator[Tensor]:
        """Yield, for each frame, the class index of each pixel, `[H, W]`."""
        import torch

        for batch, outputs, sizes in self.outputs(frames):
            for frame, small in zip(
                batch, self.loaded.processor.post_process_semantic_segmentation(outputs, target_sizes=sizes), strict=True
            ):
                shown = torch.nn.functional.interpolate(small[None, None].float(), frame.shape[:2], mode="nearest-exact")
                yield shown[0, 0].long().cpu()


@attrs.frozen(eq=False, slots=False, kw_only=True)
class Segmentation(_Segmenting):
    """The class of everything in the picture, with one color for each class, by a model for segmentation."""

    def __call__(self, frames: Iterator[Tensor]) -> Iterator[Tensor]:
        """Yield the colors of the classes.

        Source: docs/explanation/arithmetic.md#colors-of-classes
        """
        import torch

        colors = torch.tensor([class_color(number) for number in range(256)], dtype=torch.uint8)
        for classes in self.classes(frames):
            yield colors[classes % 256]


def class_color(number: int) -> tuple[int, int, int]:
    """Return the red, green and blue of a class.

    Source: docs/explanation/arithmetic.md#colors-of-classes
    """
    red, green, blue = (sum((number >> 3 * bit + channel & 1) << 7 - bit for bit in range(3)) for channel in range(3))
    return red, green, blue


@attrs.frozen(eq=False, slots=False, kw_only=True)
class Label(Region, _Segmenting):
    """The parts of the picture that a model for segmentation finds to be of some classes, such as all people."""

    label: str = attrs.field(metadata={"help": 'names of classes that the model knows, separated by ";"'})

    def problems(self) -> list[Finding]:
        from ltxcore.api.config import suggestion

        found = super().problems()
        if not any(path == ("path",) for path, _, _ in found):
            known = list(map(str, self._find().config.id2label.values()))
            found += [
                (("label",), f'the model has no class "{name}"', suggestion(name, known)) for name in self._names() if name not in known
            ]
        return found if self._names() else [*found, (("label",), "names no class", "Name one that the model has.")]

    def _names(self) -> list[str]:
        return [name.strip() for name in self.label.split(";") if name.strip()]

    def __call__(self, frames: Iterator[Tensor]) -> Iterator[Tensor]:
        import torch

        wanted = torch.tensor([int(number) for number, name in self._find().config.id2label.items() if str(name) in self._names()])
        for classes in self.classes(frames):
            yield self.mask(torch.isin(classes, wanted))
