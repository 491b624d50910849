"""How a dataset is encoded, as it follows from the options and the model.

If a model's connectors follow the text encoder, the stored text features are what the transformer's blocks attend to.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import attrs
import torch
from torch import Tensor

from ltxcore.codecs.source import Codecs
from ltxcore.config.image_crf import image_crf
from ltxcore.config.parts import is_whole
from ltxcore.config.preprocessing import PreprocessingTable
from ltxcore.connector_marks import with_connectors
from ltxcore.dataset.raw import RawFiles
from ltxcore.dataset.rows import Dataset
from ltxcore.encode.candidates import CANDIDATES
from ltxcore.encode.products import Tools
from ltxcore.encode.rules import Place, rendering_from_options, rules_from_options
from ltxcore.encode.sample_sizes import Rules
from ltxcore.encode.work import TEXT
from ltxcore.encoded.micro_batch import padded
from ltxcore.errors import ConfigError, Problem, collecting
from ltxcore.models.checkpoint_files import Checkpoint, open_checkpoint
from ltxcore.models.connectors import Connectors, connectors_fingerprint, connectors_of
from ltxcore.models.load_base import describe
from ltxcore.protocols import MODALITIES, Codec, Text, TextEncoder


@attrs.frozen(eq=False)
class Encoding:
    """A dataset, and everything that is used to encode it. No weights are read.

    Attributes:
        data: the dataset.
        root: the folder where the samples are, or will be.
        options: the options of preprocessing.
        codecs: the VAEs and text encoder that encode the dataset; if None, the grid is the one that all models of the family share.
        text: the text encoder; None if it is not known, or no caption is encoded.
        rules: the rules that samples are planned by.
        tools: the codecs, and the known facts about the files.
        where: a function that returns the place of a key of the run file, for messages.
        is_ruled: whether the rules follow from the options; false if the options are wrong.
    """

    data: Dataset
    root: Path
    options: PreprocessingTable
    codecs: Codecs | None
    text: TextEncoder | None
    rules: Rules
    tools: Tools
    where: Place
    is_ruled: bool = True


def encoding_of(
    data: Dataset,
    root: Path,
    options: PreprocessingTable,
    codecs: Codecs | None,
    where: Place,
    *,
    text: TextEncoder | None = None,
    rank: int = 0,
    threads: int = 1,
    writes: bool = False,
    recalls: bool = True,
) -> Encoding:
    """Work out how a dataset is encoded.

    Args:
        data: the dataset.
        root: the folder where its samples are, or will be.
        options: the options of preprocessing.
        codecs: the VAEs and text encoder that encode the dataset; None if not known.
        where: a function that returns the place of a key of the run file, for messages.
        text: the text encoder, if it is needed.
        rank: the number of this process among the encoding processes.
        threads: the number of threads of each decoder.
        writes: whether newly found facts about files are stored.
        recalls: whether previously stored facts are used.

    Raises:
        ConfigError: a codec is not available, or options do not fit it or contradict each other.
    """
    # Without a model, the tiny one provides the size of a latent cell, since all models of the family have the same grid.
    grid = codecs or Codecs("tiny", device="cpu")
    grid = attrs.evolve(grid, tiling=grid.tiling or options.vae_tiling)
    video, audio = _video(data, grid), _audio(data, grid)
    rules = rules_from_options(data, options, video, audio, where)
    raw = RawFiles(root, data.folder.absolute(), rank, writes=writes, recalls=recalls, resamples=rules.resamples)
    tools = Tools(
        data.columns,
        raw,
        video,
        audio,
        threads,
        rendering_from_options(options, where),
        options.keyframe_candidates or CANDIDATES,
        _crf(data, options, grid),
    )
    return Encoding(data, root, options, codecs, text, rules, tools, where)


def _crf(data: Dataset, options: PreprocessingTable, codecs: Codecs) -> int:
    """Return how strongly keyframes are compressed; 0 if there are none."""
    if not any(column.kind == "pictures" and column.folder in data.folders for column in data.columns.all):
        return 0
    return image_crf(options.image_crf, describe(codecs.path).generation)


def encoding_as_far(
    data: Dataset, root: Path, options: PreprocessingTable, codecs: Codecs | None, where: Place, problems: list[Problem]
) -> Encoding:
    """Work out how a dataset is encoded, including its text encoder, as far as possible, and collect the problems.

    Args:
        data: the dataset.
        root: the folder where its samples are, or will be.
        options: the options of preprocessing.
        codecs: the VAEs and text encoder that encode the dataset; None if not known. Some of them may be unknown (`config.parts`).
        where: a function that returns the place of a key of the run file, for messages.
        problems: the list that problems are added to.
    """
    text, lacking = None, list[Problem]()
    if codecs is not None:
        with collecting(lacking):
            text = text_encoder_of(codecs, options, where) if TEXT in data.folders else None
        for codec in (_video, _audio):
            with collecting(lacking):
                codec(data, codecs)
    known = None if lacking or not is_whole(codecs) else codecs
    problems += lacking
    with collecting(problems):
        return encoding_of(data, root, options, known, where, text=text)
    return attrs.evolve(encoding_of(data, root, PreprocessingTable(), known, where, text=text), options=options, is_ruled=False)


def text_encoder_of(codecs: Codecs, options: PreprocessingTable, where: Place) -> TextEncoder:
    """Return the encoder of captions, which is the text encoder, followed by the model's connectors if the options ask for them.

    Raises:
        ConfigError: the text encoder or the connectors are not available.
    """
    encoder = codecs.text()
    if not options.connector_outputs:
        return encoder
    try:
        return connected(encoder, codecs)
    except ConfigError as error:
        raise error.at(where("preprocessing.connector_outputs")) from None


def _video(data: Dataset, codecs: Codecs) -> Codec | None:
    return codecs.video() if any("video" in sample.media for sample in data.samples) else None


def _audio(data: Dataset, codecs: Codecs) -> Codec | None:
    return codecs.audio() if data.folders & data.columns.folders_of("audio") else None


@attrs.define(eq=False)
class ConnectedTextEncoder:
    """A text encoder followed by a model's connectors.

    Captions become text features `[L, E]` for each modality. Registers take the place of padding, so that all positions count.

    Each caption goes through the connectors by itself, in bfloat16, as it would in a run in bf16. The connectors' weights are read when the
    first caption is encoded.

    Attributes:
        length: L, the number of positions.
        fingerprint: the fingerprint of the text encoder and of the connectors.
    """

    length: int
    fingerprint: str
    _encoder: TextEncoder
    _checkpoint: Checkpoint
    _device: str
    _connectors: Connectors | None = attrs.field(default=None, init=False)

    def encode(self, captions: Sequence[str]) -> list[dict[str, Tensor]]:
        """Encode captions to text features for each modality, `[L, E]` bfloat16, on the CPU.

        Raises:
            CheckpointError: the weights cannot be read.
        """
        if self._connectors is None:
            self._connectors = connectors_of(self._checkpoint, MODALITIES, torch.bfloat16)
        return [self._context(self._connectors, padded(features, self.length)) for features in self._encoder.encode(captions)]

    def _context(self, connectors: Connectors, text: Text) -> dict[str, Tensor]:
        moved = {name: features.to(self._device) for name, features in text.features.items()}
        found = connectors(Text(moved, text.mask.to(self._device)))
        return {name: context[0].cpu() for name, context in found.features.items()}


def connected(encoder: TextEncoder, model: Codecs) -> ConnectedTextEncoder:
    """Return a text encoder that is followed by a model's connectors.

    Raises:
        ConfigError: the model has no connectors.
        CheckpointError: the model's file cannot be read.
    """
    info = describe(model.path, model.connectors)
    if not info.has_connectors:
        raise no_connectors(info.name)
    checkpoint = open_checkpoint(model.path, model.connectors)
    identity = with_connectors(encoder.fingerprint, connectors_fingerprint(checkpoint))
    return ConnectedTextEncoder(encoder.length, identity, encoder, checkpoint, model.device)


def no_connectors(name: str) -> ConfigError:
    """Make the error for a model that has no connectors for text."""
    return ConfigError(
        f"the model {name} has no text connectors, so there are no connector outputs to store",
        remedy="Leave connector_outputs out: the model's blocks use the text features directly.",
    )
