"""Check, from manifests, that samples were encoded for the model of a run.

The manifests tell which text features a model can read, so no file of features is opened. The module also finds the weights that a run
starts from besides its model, and checks from headers whether they fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ltxcore.alike import alike
from ltxcore.codecs.load_codecs import audio_codec, text_encoder, video_codec
from ltxcore.config.load import LoadedRun
from ltxcore.config.loras import strengths
from ltxcore.connector_marks import connectors_in
from ltxcore.errors import CheckpointError, ConfigError, DataError, Problem, collecting, listed
from ltxcore.headers import INDEX, is_index, read_file
from ltxcore.models import UNTRAINED
from ltxcore.models.adapter_types import Adapter, adapter_types
from ltxcore.models.backbone import ModelInfo
from ltxcore.models.base import Base, base_of
from ltxcore.models.blueprint import Description
from ltxcore.models.checkpoint_files import open_checkpoint
from ltxcore.models.connector_loras import check_of_connectors
from ltxcore.models.connectors import connectors_fingerprint
from ltxcore.models.frozen_loras import refuse_other_types
from ltxcore.models.groups import check_groups, settings_of
from ltxcore.models.lora_file import sketch_lora
from ltxcore.models.lora_load import check_start
from ltxcore.models.lora_stack import found_under
from ltxcore.models.parameter_names import is_needed
from ltxcore.models.targets import resolve_targets
from ltxcore.models.tiny_model import TINY
from ltxcore.models.transformer_settings import Config, diffusers_arguments
from ltxcore.protocols import Entry, Manifest, Source
from ltxcore.runs.checkpoint import STATE
from ltxcore.runs.column_params import other_params
from ltxcore.runs.run_folder import AVERAGED

if TYPE_CHECKING:
    from ltxcore.config.run_file import ModelTable
    from ltxcore.runs.run_plan import Outline


def misfits(found: Outline, manifest: Manifest) -> Iterator[Problem]:
    """Yield problems for sources that were encoded for another model, or with other parameters of their column. A source is skipped if its
    encoder, or the encoder that the model needs, is not known.
    """
    for role, source in found.strategy.sources().items():
        yield from _widths(found, source, manifest.entries[role])
        yield from other_params(found, source, manifest.entries[role])
        folder = found.root / source.folder
        used = {entry.encoder for entry, _ in alike(manifest.entries[role]) if entry.encoder}
        refused: set[str] = set()
        if source.kind == "text":
            for encoder in sorted(used):
                try:
                    check_text_features(found.info, encoder, f"{folder}")
                    check_connectors(found.info, found.config.model, encoder, f"{folder}")
                except DataError as error:
                    refused.add(encoder)
                    yield from error.problems
            if any(map(connectors_in, used)):
                for lora in _changing_connectors(found.loaded):
                    what = f"before it was stored, the text in {folder} passed through the text connectors without the changes of {lora}"
                    yield Problem(what, source.where or "data", "Encode the samples again, without preprocessing.connector_outputs.")
        taken = encoder_of(source, found)
        others = sorted(encoder for encoder in used - refused if taken and _family(encoder) != _family(taken))
        if others:
            yield Problem(
                f"the samples in {folder} were encoded by {listed(others)}, but the base model {found.info.name} needs samples encoded by {taken}",
                source.where or "data",
                "Encode the samples again with this model, into another data.preprocessed_data_root.",
            )


def _family(fingerprint: str) -> str:
    """Return an encoder's fingerprint without its options, because tiles or a different precision change only the last digits of latents."""
    return fingerprint.partition("+")[0]


def text_encoder_of(found: Outline, manifest: Manifest) -> str:
    """Return the fingerprint of the text encoder that the run's captions were encoded with or, if the captions do not record it,
    of the text encoder of the run's model.
    """
    texts = {role: source for role, source in found.strategy.sources().items() if source.kind == "text"}
    used = next((entry.encoder for role in texts for entry, _ in alike(manifest.entries[role]) if entry.encoder), "")
    return _family(used or next((encoder_of(source, found) for source in texts.values()), ""))


def encoder_of(source: Source, found: Outline) -> str:
    """Return the fingerprint of the encoder that the run's model needs for a source; "" if the encoder is not known."""
    model = found.config.model
    try:
        if source.kind == "text":
            parts: dict[str, Any] = {"text_encoder_path": model.text_encoder_path, "connectors_path": model.connectors_path}
            return found.info.text_fingerprint or text_encoder(model.model_path, **parts).fingerprint
        if source.kind == "latents" and source.modality == "video":
            return video_codec(model.model_path, video_vae_path=model.video_vae_path).fingerprint
        if source.kind == "latents":
            return audio_codec(model.model_path, audio_vae_path=model.audio_vae_path).fingerprint
    except ConfigError:  # no encoder is named in this run, which only reads encoded samples
        pass
    return ""


def _widths(found: Outline, source: Source, entries: Mapping[str, Entry]) -> Iterator[Problem]:
    """Find tokens whose width differs from what the model needs. In a set that does not name its encoder, the width is the only sign of a
    different encoder.
    """
    taken = _taken(source, found.config.model.model_path)
    other: dict[tuple[str, int], list[str]] = {}
    for entry, names in alike(entries):
        for modality, width in _stored(source, entry):
            if modality in found.modalities and width != taken.get(modality, width):
                other.setdefault((modality, width), []).extend(names)
    for (modality, width), samples in other.items():
        what = f"text features for {modality}" if source.kind == "text" else f"{modality} latents"
        yield Problem(
            f"the {what} in {found.root / source.folder} have {width} values per token, but the base model {found.info.name} takes {taken[modality]}: "
            f"{listed(sorted(samples))}",
            source.where or "data",
            "The samples were made for another model: encode them again with this model.",
        )


def _taken(source: Source, model_path: str) -> dict[str, int]:
    """Return the token width that the model takes, for each modality."""
    if source.kind == "text":
        return text_widths(model_path)
    return {source.modality: token_width(model_path, source.modality)} if source.kind in ("latents", "pictures") else {}


def _stored(source: Source, entry: Entry) -> list[tuple[str, int]]:
    """Return the modalities of a stored sample, each with the number of values in a token, as far as these are known."""
    if source.kind == "text":
        return list(zip(entry.modality.split("+"), entry.widths, strict=False))
    if source.kind in ("mask", "values"):
        return []
    if source.kind == "pictures":
        return [(source.modality, entry.shape[1])]
    return [(source.modality, entry.shape[0] * (entry.shape[2] if source.modality == "audio" else 1))]


_LTX = "ltx-"
_TINY = "tiny"


def check_text_features(info: ModelInfo, encoder: str, where: str) -> None:
    """Refuse stored text features that were made for another generation of models.

    Args:
        info: the facts about the base model.
        encoder: the fingerprint of the text encoder that made the features (`Entry.encoder`), which begins with the generation,
            such as "ltx-2.3/", for the encoder of a released model; "" if it is not known.
        where: the folder of the features.

    Raises:
        DataError: the text features were made for another generation.
    """
    made_for = encoder.partition("/")[0].removeprefix(_LTX) if encoder.startswith(_LTX) else _TINY if encoder.startswith(_TINY) else ""
    if made_for and made_for != info.generation:
        raise DataError(
            f"these text features were made for {_spoken(made_for)}, but the model {info.name} is {_spoken(info.generation)}",
            where=where,
            remedy="Run `ltx preprocess` again with this model, into another folder or in place of these text features.",
        )


def check_connectors(info: ModelInfo, model: ModelTable, encoder: str, where: str) -> None:
    """Refuse stored text that went through the connectors of another model.

    Args:
        info: the facts about the base model.
        model: the table `[model]`.
        encoder: the fingerprint of the encoder that made the text (`Entry.encoder`).
        where: the folder of the text.

    Raises:
        DataError: the text needs connectors and the model has none, or the text went through other connectors than the model's.
        CheckpointError: the model's connectors cannot be read.
    """
    used = connectors_in(encoder)
    if not used and encoder.startswith(_LTX) and not info.has_connectors:
        raise DataError(
            f"this text has yet to pass through text connectors, which the file of the model {info.name} does not hold",
            where=where,
            remedy="Set connectors_path under [model] to the file that holds them.",
        )
    if used and (not info.has_connectors or used != connectors_fingerprint(open_checkpoint(model.model_path, model.connectors_path))):
        raise DataError(
            f"before it was stored, this text went through connectors that the model {info.name} does not have",
            where=where,
            remedy="Run `ltx preprocess` again with this model, into another folder or in place of this text.",
        )


def text_widths(model_path: str) -> dict[str, int]:
    """Return the width of the stored text features that a model takes, for each modality. This is the width before the connectors, which
    leave it unchanged.

    Source: docs/explanation/model-files.md#folders
    """
    arguments = _arguments(model_path)
    if arguments["use_prompt_embeddings"]:
        return {"video": arguments["caption_channels"], "audio": arguments["caption_channels"]}
    return {"video": arguments["cross_attention_dim"], "audio": arguments["audio_cross_attention_dim"]}


def token_width(model_path: str, modality: str) -> int:
    """Return the width of the latent tokens that a model takes."""
    return int(_arguments(model_path)["in_channels" if modality == "video" else "audio_in_channels"])


def _arguments(model_path: str) -> dict[str, Any]:
    official: Config = TINY if model_path == UNTRAINED else open_checkpoint(model_path).transformer
    return diffusers_arguments(official, model_path)


def _spoken(generation: str) -> str:
    return "the tiny model" if generation == _TINY else f"LTX-{generation}"


def start_problems(
    loaded: LoadedRun, base: Base, modalities: frozenset[str], streams: frozenset[str], here: bool, divided: bool
) -> list[Problem]:
    """Find what is wrong with a run's LoRA targets and with the weights that it starts from, without reading any tensor.

    Args:
        loaded: the run file.
        base: the run's model.
        modalities: the modalities of the run.
        streams: the modalities that the model is loaded with.
        here: whether the weights to start from are on this machine; if not, they are not checked.
        divided: whether processes divide the weights among them.
    """
    model, lora, table, problems = loaded.config.model, loaded.config.lora, loaded.config.optimization, list[Problem]()
    with collecting(problems):
        if model.training_mode == "full":
            with collecting(problems):
                shapes = base.described(streams).blueprint.shapes
                check_groups(table.groups, [name for name in shapes if is_needed(name, modalities)], "optimization.groups", base.num_layers)
            with collecting(problems, loaded.where("model.load_checkpoint")):
                if here and model.load_checkpoint is not None:
                    start = base_of(str(newest(model.load_checkpoint)), model.connectors_path)
                    start.check_tensors()
                    start.check_connectors(streams)
            with collecting(problems, loaded.where("model.loras")):
                if here and model.loras:
                    problems += _loras_problems(loaded, base, base.described(streams), beside=True)
            return problems
        backbone = base.described(streams)
        targets = resolve_targets(backbone, lora.target_modules, modalities=modalities)
        trained = (*targets.adapted, *targets.unreachable)
        for groups, where in ((lora.groups, "lora.groups"), (table.groups, "optimization.groups")):
            with collecting(problems):
                check_groups(groups, trained, where, base.num_layers)
        with collecting(problems, loaded.where("model.loras")):
            if here and model.loras:
                problems += _loras_problems(loaded, base, backbone, beside=divided)
        with collecting(problems, loaded.where("model.load_checkpoint")):
            if here and model.load_checkpoint is not None:
                settings = settings_of(trained, lora.settings, lora.groups)
                check_start(backbone, newest(model.load_checkpoint), settings, Adapter(lora.type, lora.adapter))
    return problems


def _loras_problems(loaded: LoadedRun, base: Base, backbone: Description, *, beside: bool) -> list[Problem]:
    """Find what is wrong with the LoRAs that a run trains on top of, as far as their headers show this; `beside` says whether their changes
    are added beside weights that are trained or divided.

    Raises:
        CheckpointError: the LoRAs do not fit the model.
    """
    loras = strengths(loaded.config.model.loras)
    found = found_under(backbone, loras, adapter_types(loaded.registry), sketch=True)
    if beside:
        refuse_other_types(found, listed(str(lora.path) for lora in loras))
    if not found.connectors:
        return []
    changing = listed(_changing_connectors(loaded))
    check_of_connectors(found, base.connector_shapes(backbone.modalities), changing)
    if not loaded.config.preprocessing.connector_outputs:
        return []
    what = f"stores text that has passed through the text connectors without the changes that {changing} makes to them"
    return [Problem(what, loaded.where("preprocessing.connector_outputs"), "Remove the key.")]


def captions_are_connected(found: Outline, manifest: Manifest) -> bool:
    """Return whether all captions of a set passed through the model's text connectors before they were stored."""
    roles = [role for role, source in found.strategy.sources().items() if source.kind == "text"]
    return all(entry.connectors for role in roles for entry, _ in alike(manifest.entries[role]))


def _changing_connectors(loaded: LoadedRun) -> list[str]:
    """Return the LoRAs that a run trains on top of and that change the text connectors."""
    types, loras = adapter_types(loaded.registry), strengths(loaded.config.model.loras)
    return [str(lora.path) for lora in loras if sketch_lora(lora.path, str(lora.path), types, connectors=True).connectors]


def newest(path: Path) -> Path:
    """Return a weights file or index unchanged; for a folder, return its most recently written weights file or index. Averaged
    weights, which a run writes beside the others, are returned only if there are no others.

    Raises:
        CheckpointError: the folder holds no weights.
    """
    if not path.is_dir():
        return path
    found = [*path.rglob("*.safetensors"), *path.rglob(f"*.safetensors{INDEX}")]
    parts = {part for file in found if is_index(file) for part in read_file(file).files}
    chosen = (file for file in found if file.name != STATE and file not in parts)
    weights = sorted(chosen, key=lambda file: (f"{AVERAGED}.safetensors" not in file.name, file.stat().st_mtime))
    if not weights:
        raise CheckpointError("the folder holds no weights", where=str(path), remedy="Name a .safetensors file.")
    return weights[-1]
