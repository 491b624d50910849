"""Which files of a folder belong to a model, for folders of separate files as repackagers publish them and ComfyUI users have them.

A file is recognized by the names of its tensors, whatever it is called. Folders in the layout of diffusers do not count as such folders.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from ltxcore.errors import CheckpointError, ConfigError, listed
from ltxcore.files import is_folder
from ltxcore.headers import INDEX, read_file

MODEL = "model_path"

PARTS = {
    MODEL: "transformer",
    "connectors_path": "text connectors",
    "text_encoder_path": "text encoder",
    "video_vae_path": "video VAE",
    "audio_vae_path": "audio VAE",
}
"""The keys of `[model]` that name files, each with the part that its file holds."""

_ENDINGS = (f"safetensors{INDEX}", "safetensors", "gguf")
"""The endings of files; those of indexes come first, since an index stands for all the parts that it lists."""

_ADAPTED = (".lora_", ".lora.", ".lokr_", ".hada_", ".diff_b")


def part_of(names: Collection[str]) -> str:
    """Return the key of `[model]` that a file with tensors of these names is for; "" if it is for none."""
    if any(ending in name for name in names for ending in _ADAPTED) or any(name.endswith(".diff") for name in names):
        return ""
    if any("transformer_blocks." in name for name in names):
        return MODEL
    if any("embeddings_connector." in name or name.startswith("text_embedding_projection.") for name in names) and not _reads_text(names):
        return "connectors_path"
    if _reads_text(names):
        return "text_encoder_path"
    if any(name.startswith("audio_vae.") for name in names):
        return "audio_vae_path"
    bare = {name.removeprefix("vae.") for name in names}
    if any(name.startswith("encoder.") for name in bare) and any(name.startswith("per_channel_statistics.") for name in bare):
        return "video_vae_path"
    return ""


def _reads_text(names: Collection[str]) -> bool:
    return any(name.endswith("embed_tokens.weight") for name in names)


def files_in(folder: Path, *, strict: bool = False) -> dict[str, list[Path]]:
    """Return the files for each key of `[model]` in a folder and its sub-folders; nothing for a folder in the layout of diffusers. A
    sub-folder with a tokenizer is a text encoder.

    Args:
        folder: the folder.
        strict: whether a file that cannot be read is an error; if not, it is left out.

    Raises:
        CheckpointError: a file cannot be read, and `strict` is true.
    """
    if (folder / "config.json").is_file() or any((folder / name).is_dir() for name in ("transformer", "transformer_full")):
        return {}
    found: dict[str, list[Path]] = {}
    indexed: set[Path] = set()
    for path in (each for ending in _ENDINGS for depth in ("", "*/") for each in sorted(folder.glob(f"{depth}*.{ending}"))):
        if (path.parent / "tokenizer.json").is_file() or path in indexed:
            continue
        try:
            header = read_file(path)
        except CheckpointError:
            if strict:
                raise
            continue
        indexed.update(header.files)
        key = part_of(header.slots)
        if key:
            found.setdefault(key, []).append(path)
    for path in sorted(folder.glob("*/tokenizer.json")):
        found.setdefault("text_encoder_path", []).append(path.parent)
    return found


def beside(model_path: str, key: str) -> Path | None:
    """Return the file for a key of `[model]` in the folder at `model_path`; None if the folder has none or several, or if the path is no
    folder.
    """
    folder = Path(model_path)
    if not model_path or not is_folder(folder):
        return None
    found = files_in(folder).get(key, [])
    return found[0] if len(found) == 1 else None


def transformer_in(path: Path) -> Path:
    """Return the file of the transformer if a path is a folder of separate files; otherwise the path itself.

    Raises:
        ConfigError: the folder has several transformers, so that it is not clear which is meant.
        CheckpointError: a file in the folder is damaged or cut short.
    """
    files = files_in(path, strict=True).get(MODEL, []) if is_folder(path) else []
    if len(files) > 1:
        raise ConfigError(
            f"this folder holds {len(files)} files with a {PARTS[MODEL]}: {listed(each.name for each in files)}",
            where=str(path),
            remedy="Name one of them as model_path, and set the other keys of [model] to the files beside it.",
        )
    return files[0] if files else path
