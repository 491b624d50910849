"""The connectors that some checkpoints have: small transformers between stored text features and the blocks.

Connectors are frozen and do not count as parameters of the backbone. They put learned registers in the place of padding, so that the result
has no padding.

Source: docs/explanation/arithmetic.md#text-connectors
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from ltxcore.errors import CheckpointError, DataError, Problem, listed
from ltxcore.headers import BF16, Slot, Slots, read_folder, read_json, tensors_fingerprint
from ltxcore.models.checkpoint_files import CONNECTORS, Checkpoint, connectors_prefix
from ltxcore.models.transformer_settings import Config
from ltxcore.protocols import MODALITIES, Text
from ltxcore.safetensors_files import Tensors, dtype_of, open_tensors, read_header

PREFIXES = {"video": "video_embeddings_connector.", "audio": "audio_embeddings_connector."}
"""The prefix of a connector's names in a checkpoint; it follows the transformer's prefix."""

_FOLDER_PREFIXES = {"video": "video_connector.", "audio": "audio_connector."}
"""The prefix of a connector's names in a diffusers folder."""

_PADDING = -10_000.0
_MATRIX = 4096
"""A matrix of zeros with at least this many values means that the file was not downloaded completely, since training cannot produce it.
"""
_ONLY: Mapping[str, tuple[Any, ...]] = {
    "connector_ff_bias": (True,),
    "connector_norm_output": (True,),
    "connector_positional_embedding_type": ("rope",),
    "rope_type": ("interleaved", "split"),
}
_BLOCKS = ("transformer_blocks", "transformer_1d_blocks")
_NORMS = {"norm_q": "q_norm", "norm_k": "k_norm"}


@attrs.frozen(eq=False)
class Connectors:
    """The connectors that turn text features into the context of each modality.

    They compute on the features' device, in their own dtype and without gradients.

    Attributes:
        modules: diffusers' connectors, by modality.
        shared: whether both modalities read the same features (as in LTX-2), so that either modality's features suffice.
        are_away: whether the modules are in host memory whenever they do not compute, because only few texts, such as the prompts of
            samples, have to pass through them.
    """

    modules: Mapping[str, Any]
    shared: bool = False
    are_away: bool = False

    def __call__(self, text: Text, modalities: Collection[str] = MODALITIES) -> Text:
        """Turn features `[B, L, E]` into the context `[B, L, E]` of `modalities` and a mask of ones. The features must be padded on the
        left to a multiple of the number of registers.

        Raises:
            DataError: the features have the wrong width or length, or a modality has none, because they were made for another model.
        """
        context = {name: self._one(name, text) for name in self.modules if name in modalities}
        return Text(context, torch.ones_like(text.mask), is_connected=True, is_whole=True)

    @torch.no_grad()
    def _one(self, name: str, text: Text) -> Tensor:
        module = self.modules[name]
        features = text.features.get(name)
        if features is None and self.shared:
            features = next(iter(text.features.values()), None)
        count, width = module.learnable_registers.shape
        if features is None or features.shape[-1] != width:
            found = "there are none" if features is None else f"these features have {features.shape[-1]}"
            raise DataError(
                f"the text features of this model must have {width} values per token for {name}, but {found}",
                remedy="The text features were made for another model: run `ltx preprocess` again with this model.",
            )
        if features.shape[1] % count:
            raise DataError(
                f"text features are padded to {features.shape[1]} positions, which is not a multiple of {count}, the number of registers of this model",
                remedy="The text features were made for another model: run `ltx preprocess` again with this model.",
            )
        weight = next(module.parameters())
        if weight.device != features.device:
            module.to(features.device)
        padding = ((1.0 - text.mask.to(features.device, torch.float32)) * _PADDING).to(weight.dtype)[:, None, None, :]
        context: Tensor = module(features.to(weight.dtype), padding)[0]
        if self.are_away:
            module.to("cpu")
        return context


def connector_arguments(official: Config, modality: str, where: str) -> dict[str, Any]:
    """Return all arguments of diffusers' connector for a transformer's configuration in official names, including those with defaults.

    Raises:
        CheckpointError: settings are not supported; the error names all of them.
    """
    problems = [
        Problem(f"the connectors' setting {key} = {official[key]} is not known", where)
        for key, can in _ONLY.items()
        if key in official and official[key] not in can
    ]
    if problems:
        raise CheckpointError.of(problems)

    def told(key: str, default: Any) -> Any:
        common = official.get(f"connector_{key}", default)
        return official.get(f"audio_connector_{key}", common) if modality == "audio" else common

    return {
        "num_attention_heads": told("num_attention_heads", 30),
        "attention_head_dim": told("attention_head_dim", 128),
        "num_layers": told("num_layers", 2),
        "num_learnable_registers": told("num_learnable_registers", 128),
        "rope_base_seq_len": told("positional_embedding_max_pos", [4096])[0],
        "rope_theta": official.get("positional_embedding_theta", 10000.0),
        "rope_double_precision": official.get("frequencies_precision", "float32") == "float64",
        "eps": official.get("norm_eps", 1e-6),
        "causal_temporal_positioning": False,
        "rope_type": official.get("rope_type", "interleaved"),
        "gated_attention": told("apply_gated_attention", False),
    }


def build_connector(arguments: Mapping[str, Any]) -> Any:
    """Build a frozen connector on the meta device."""
    from diffusers.pipelines.ltx2.connectors import LTX2ConnectorTransformer1d

    with torch.device("meta"):
        return LTX2ConnectorTransformer1d(**arguments).eval().requires_grad_(False)


def to_original(name: str) -> str:
    """Return the name that a connector's parameter has in a checkpoint, without prefix."""
    segments = [_NORMS.get(segment, segment) for segment in name.split(".")]
    if segments[0] == _BLOCKS[0]:
        segments[0] = _BLOCKS[1]
    return ".".join(segments)


def connectors_of(checkpoint: Checkpoint, modalities: Collection[str], dtype: torch.dtype) -> Connectors:
    """Load the connectors of a checkpoint that has them, for the modalities of a run, with all weights in `dtype`.

    Raises:
        CheckpointError: settings are unknown, or tensors are missing, unexpected, of another shape, or not finite.
    """
    return _found(checkpoint, modalities).filled(dtype)


def check_connectors(checkpoint: Checkpoint, modalities: Collection[str]) -> None:
    """Check the names, shapes and dtypes of a checkpoint's connectors for these modalities, as when loading, but without reading any
    tensor. A checkpoint without connectors passes.

    Raises:
        CheckpointError: settings are unknown, or tensors are missing, unexpected, of another shape, or stored in an unsupported format.
    """
    if checkpoint.has_connectors:
        _found(checkpoint, modalities).check()


def connector_shapes(checkpoint: Checkpoint, modalities: Collection[str]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the matrices of a checkpoint's connectors for these modalities, by the paths of their linear modules, such as
    `video_connector.transformer_blocks.0.attn1.to_q`.

    Raises:
        CheckpointError: settings are unknown.
    """
    return linear_shapes(_found(checkpoint, modalities).modules) if checkpoint.has_connectors else {}


def connector_numbers(checkpoint: Checkpoint, modalities: Collection[str]) -> int:
    """Return the number of parameters in a checkpoint's connectors for these modalities; 0 for a checkpoint without connectors.

    Raises:
        CheckpointError: settings are unknown.
    """
    return numbers_in(_found(checkpoint, modalities).modules.values()) if checkpoint.has_connectors else 0


def numbers_in(modules: Iterable[nn.Module]) -> int:
    """Return the number of parameters in connectors."""
    return sum(tensor.numel() for module in modules for tensor in module.state_dict().values())


def linear_shapes(modules: Mapping[str, nn.Module]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the matrices of connectors (by modality), by the paths of their linear modules."""
    return {
        f"{_FOLDER_PREFIXES[modality]}{name}": (linear.out_features, linear.in_features)
        for modality, module in modules.items()
        for name, linear in module.named_modules()
        if isinstance(linear, nn.Linear)
    }


@contextlib.contextmanager
def connector_weights(checkpoint: Checkpoint) -> Iterator[Callable[[str], Tensor]]:
    """Yield a function that reads one parameter of a checkpoint's connectors in float32, by a name such as
    `video_connector.transformer_blocks.0.attn1.to_q.weight`. It raises a KeyError if there is no such parameter. Nothing is opened before
    the first parameter is read.
    """
    with contextlib.ExitStack() as stack:

        @functools.cache
        def opened() -> tuple[Mapping[str, str], Tensors]:
            found = _found(checkpoint, MODALITIES)
            names = {f"{_FOLDER_PREFIXES[modality]}{own}": name for modality, each in found.stored.items() for own, name in each.items()}
            return names, stack.enter_context(open_tensors(found.header))

        def read(name: str) -> Tensor:
            if not checkpoint.has_connectors:
                raise KeyError(name)
            names, file = opened()
            return file.get_tensor(names[name]).float()

        yield read


def _found(checkpoint: Checkpoint, modalities: Collection[str]) -> _Unfilled:
    if checkpoint.is_folder:
        return _in_folder(checkpoint.header.where.parent / CONNECTORS, modalities)
    header, prefix = _place(checkpoint)
    return _in_file(header, prefix, checkpoint.transformer, modalities)


def _place(checkpoint: Checkpoint) -> tuple[Slots, str]:
    """Return the file that holds a checkpoint's connectors, and the prefix of their names in it."""
    return (checkpoint.header, checkpoint.prefix) if checkpoint.apart is None else (checkpoint.apart, connectors_prefix(checkpoint.apart))


def connectors_fingerprint(checkpoint: Checkpoint) -> str:
    """Return a fingerprint of the weights of all connectors in a checkpoint; "" if it has none.

    Raises:
        CheckpointError: the weights cannot be read.
    """
    if not checkpoint.has_connectors:
        return ""
    header, before = (read_folder(checkpoint.header.where.parent / CONNECTORS), "") if checkpoint.is_folder else _place(checkpoint)
    prefixes = _FOLDER_PREFIXES if checkpoint.is_folder else {name: before + prefix for name, prefix in PREFIXES.items()}
    slots = {
        f"{modality}.{to_original(name.removeprefix(prefix))}": slot
        for modality, prefix in prefixes.items()
        for name, slot in header.slots.items()
        if name.startswith(prefix)
    }
    return tensors_fingerprint(slots)


def _in_file(header: Slots, prefix: str, official: Config, modalities: Collection[str]) -> _Unfilled:
    where = str(header.where)
    modules = {name: build_connector(connector_arguments(official, name, where)) for name in MODALITIES if name in modalities}
    shared = not official.get("caption_proj_before_connector", False)
    return _Unfilled(modules, header, {name: prefix + PREFIXES[name] for name in modules}, to_original, shared)


def _in_folder(folder: Path, modalities: Collection[str]) -> _Unfilled:
    told = read_json(folder / "config.json")
    modules = {name: build_connector(_folder_arguments(told, name, str(folder))) for name in MODALITIES if name in modalities}
    shared = not told.get("per_modality_projections", False)
    return _Unfilled(modules, read_header(folder), {name: _FOLDER_PREFIXES[name] for name in modules}, lambda own: own, shared)


def _folder_arguments(told: Mapping[str, Any], modality: str, where: str) -> dict[str, Any]:
    own = {
        key: f"{modality}_connector_{key}" for key in ("num_attention_heads", "attention_head_dim", "num_layers", "num_learnable_registers")
    }
    common = ("rope_theta", "rope_double_precision", "causal_temporal_positioning", "rope_type")
    names = {
        **own,
        **{key: key for key in common},
        "rope_base_seq_len": "connector_rope_base_seq_len",
        "gated_attention": f"{modality}_gated_attn",
    }
    missing = sorted(name for name in names.values() if name not in told)
    if missing:
        raise CheckpointError(f"config.json lacks {listed(missing)}", where=where, remedy="Download the complete folder again.")
    return {key: told[name] for key, name in names.items()}


@attrs.frozen(eq=False)
class _Unfilled:
    """The connectors of a file or folder before their weights are read.

    Attributes:
        modules: the connectors by modality, on the meta device.
        header: the header of the file or folder.
        prefixes: the prefix of each modality's names in the file or folder.
        stored_as: a function that returns the name of a parameter in the file or folder, without prefix.
        shared: whether both modalities read the same features.
    """

    modules: Mapping[str, Any]
    header: Slots
    prefixes: Mapping[str, str]
    stored_as: Callable[[str], str]
    shared: bool

    @property
    def stored(self) -> dict[str, dict[str, str]]:
        """The names in the file, by modality and by the parameter's name in the module."""
        return {
            name: {own: self.prefixes[name] + self.stored_as(own) for own in module.state_dict()} for name, module in self.modules.items()
        }

    def check(self) -> None:
        """Compare the connectors with the header.

        Raises:
            CheckpointError: tensors are missing, unexpected, of another shape, or stored in an unsupported format.
        """
        stored, problems = self.stored, list[Problem]()
        for name, module in self.modules.items():
            expected = {stored[name][own]: tuple(tensor.shape) for own, tensor in module.state_dict().items()}
            found = {key: slot for key, slot in self.header.slots.items() if key.startswith(self.prefixes[name])}
            problems += _differences(f"{name} connector", expected, found, str(self.header.where))
        if problems:
            raise CheckpointError.of(problems)

    def filled(self, dtype: torch.dtype) -> Connectors:
        """Fill the connectors with their weights, or with none if any of them is wrong; all weights get the dtype `dtype`.

        Raises:
            CheckpointError: as in `check`, or weights have values that training cannot produce.
        """
        self.check()
        stored = self.stored
        with open_tensors(self.header) as file:
            states = {name: {own: file.get_tensor(key, dtype).to(dtype) for own, key in names.items()} for name, names in stored.items()}
        tensors = {stored[name][own]: tensor for name, state in states.items() for own, tensor in state.items()}
        _check_values(tensors, str(self.header.where))
        for name, module in self.modules.items():
            module.load_state_dict(states[name], strict=True, assign=True)
        return Connectors(self.modules, self.shared)


def _differences(part: str, expected: Mapping[str, tuple[int, ...]], found: Mapping[str, Slot], where: str) -> list[Problem]:
    missing, foreign = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    both = sorted(expected.keys() & found.keys())
    wrong = [
        f"{name} is {list(found[name].shape)}, but should be {list(expected[name])}" for name in both if expected[name] != found[name].shape
    ]
    packed = [f"{name} ({dtype_of(found[name])})" for name in both if not dtype_of(found[name]).is_floating_point]
    told = ((missing, f"the {part} lacks"), (foreign, f"not part of the {part}:"), (wrong, f"of the wrong shape in the {part}:"))
    problems = [Problem(f"{said} {listed(names)}", where) for names, said in told if names]
    return problems + ([Problem(f"packed in the {part}, which is not supported: {listed(packed)}", where, BF16)] if packed else [])


def _check_values(tensors: Mapping[str, Tensor], where: str) -> None:
    """Refuse values that training cannot produce: NaN, infinity, or an all-zero matrix."""
    broken = [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
    if broken:
        raise CheckpointError(
            f"the connectors have NaN or infinite values in {listed(broken)}", where=where, remedy="Download or copy the file again."
        )
    hollow = [name for name, tensor in tensors.items() if tensor.ndim == 2 and tensor.numel() >= _MATRIX and not bool(tensor.any())]
    if hollow:
        raise CheckpointError(
            f"the connectors contain only zeros in {listed(hollow)}: the file was not downloaded completely",
            where=where,
            remedy="Download it again.",
        )
