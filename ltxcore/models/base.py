"""Base models without their weights, known only from the configuration in a checkpoint's header or from a released model's name."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import attrs

from ltxcore.errors import ConfigError, suggestion
from ltxcore.models import UNTRAINED
from ltxcore.models.backbone import LTXBackbone, ModelInfo
from ltxcore.models.blueprint import Description, blueprint_of_config
from ltxcore.models.build import build
from ltxcore.models.checkpoint_files import Checkpoint, check_tensors, open_checkpoint
from ltxcore.models.connectors import (
    build_connector,
    check_connectors,
    connector_arguments,
    connector_numbers,
    connector_shapes,
    numbers_in,
)
from ltxcore.models.load_base import describe
from ltxcore.models.released import RELEASED
from ltxcore.models.tiny_model import TINY
from ltxcore.models.transformer_settings import Config, diffusers_arguments, generation_of, takes_marker

LAYERS = 48
"""The number of blocks of a model if its configuration does not give it."""


@attrs.frozen(eq=False)
class Base:
    """A base model without its weights.

    Attributes:
        info: the facts that the model's header gives.
        transformer: the transformer's configuration, in official names.
        checkpoint: the model's file or folder; None if there is none, or it is on another machine.
    """

    info: ModelInfo
    transformer: Config
    checkpoint: Checkpoint | None = None

    @property
    def num_layers(self) -> int:
        """The number of blocks of the transformer."""
        return int(self.transformer.get("num_layers", LAYERS))

    def sketch(self, modalities: frozenset[str], num_layers: int | None = None) -> LTXBackbone:
        """Build the backbone on the meta device, with names and shapes but no values. `num_layers` limits the number of blocks, if it is
        given.
        """
        layers = self.num_layers if num_layers is None else num_layers
        return build({**self.transformer, "num_layers": layers}, attrs.evolve(self.info, num_layers=layers), modalities)

    def described(self, modalities: frozenset[str]) -> Description:
        """Describe the backbone with the streams of these modalities, without building it.

        Raises:
            CheckpointError: the configuration has settings that are not supported.
        """
        return Description(self.info, modalities, blueprint_of_config(self.transformer, self.info.name))

    def check_tensors(self) -> None:
        """Check the names, shapes and dtypes of the checkpoint's tensors against the configuration, as when loading, but without reading
        any tensor.

        Raises:
            CheckpointError: tensors are missing, unexpected, of another shape, or stored in an unsupported format; the error names all of
                them.
        """
        if self.checkpoint is not None:
            check_tensors(self.checkpoint, self.shapes)

    def check_connectors(self, modalities: Collection[str]) -> None:
        """Check the text connectors of these modalities in the same way, if the model has connectors.

        Raises:
            CheckpointError: as in `check_tensors`.
        """
        if self.checkpoint is not None:
            check_connectors(self.checkpoint, modalities)

    def connector_shapes(self, modalities: Collection[str]) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the matrices of the text connectors of these modalities, as `connectors.connector_shapes` does; nothing for
        a model without connectors.

        Raises:
            CheckpointError: settings are unknown.
        """
        return {} if self.checkpoint is None else connector_shapes(self.checkpoint, modalities)

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The names and shapes of the transformer's parameters."""
        return blueprint_of_config(self.transformer, self.info.name).shapes

    @property
    def context_widths(self) -> dict[str, int]:
        """The width of the text tokens that the blocks attend to, for each modality.

        Source: docs/explanation/model-files.md#folders
        """
        given = self._arguments
        if given["use_prompt_embeddings"]:
            return {"video": given["caption_channels"], "audio": given["caption_channels"]}
        return {"video": given["cross_attention_dim"], "audio": given["audio_cross_attention_dim"]}

    @property
    def token_widths(self) -> dict[str, int]:
        """The width of a token of the latents, for each modality."""
        return {"video": self._arguments["in_channels"], "audio": self._arguments["audio_in_channels"]}

    @property
    def heads(self) -> dict[str, int]:
        """The number of heads of the attention in each stream. Attention between the streams has as many as the audio stream."""
        return {"video": self._arguments["num_attention_heads"], "audio": self._arguments["audio_num_attention_heads"]}

    def connector_numbers(self, modalities: Collection[str]) -> int:
        """Return the number of parameters in the text connectors of these modalities; 0 for a model without connectors.

        Raises:
            CheckpointError: settings are unknown.
        """
        if self.checkpoint is not None:  # the connectors of a folder have a configuration of their own
            return connector_numbers(self.checkpoint, modalities)
        if not self.info.has_connectors:
            return 0
        return numbers_in(build_connector(connector_arguments(self.transformer, name, self.info.name)) for name in sorted(modalities))

    @functools.cached_property
    def _arguments(self) -> dict[str, Any]:
        return diffusers_arguments(self.transformer, self.info.name)


def base_of(model_path: str, connectors_path: Path | None = None) -> Base:
    """Return the base model that a `model_path` names, with the connectors of a separate file if one is named; only headers are read.

    Raises:
        ConfigError: the path is neither a file nor a folder.
        CheckpointError: the file or folder is not a checkpoint of this model.
    """
    if model_path == UNTRAINED:
        return Base(describe(model_path), TINY)
    checkpoint = open_checkpoint(model_path, connectors_path)
    return Base(describe(model_path, connectors_path), checkpoint.transformer, checkpoint)


def released(name: str) -> Base:
    """Return a released model by its name.

    Raises:
        ConfigError: no released model has that name.
    """
    if name not in RELEASED:
        raise ConfigError(f'no released model is called "{name}"', where="--model", remedy=suggestion(name, RELEASED))
    config = RELEASED[name]
    info = ModelInfo(name, generation_of(config), name, int(config["num_layers"]), has_connectors=True, takes_marker=takes_marker(config))
    return Base(info, config)
