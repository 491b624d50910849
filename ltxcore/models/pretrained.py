"""Models of transformers in folders that users name, for tools that look at clips."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs

from ltxcore.devices import device_named
from ltxcore.errors import ConfigError, is_out_of_memory, listed, reason_of


@attrs.frozen(eq=False)
class Pretrained:
    """A model of transformers in a folder, as `save_pretrained` writes it or as it is downloaded. Nothing is ever downloaded, and no code
    in the folder is run.

    Attributes:
        folder: the folder.
        config: the model's configuration, as transformers reads it.
        architecture: the name of the model's class in transformers.
    """

    folder: Path
    config: Any
    architecture: str

    @classmethod
    def find(cls, folder: Path, endings: tuple[str, ...]) -> Pretrained:
        """Find the model in a folder; only its config.json is read.

        Args:
            folder: the folder.
            endings: the endings that the name of the model's class may have, such as `ForDepthEstimation`.

        Raises:
            ConfigError: the folder contains no model, or one of another kind.
        """
        import transformers

        if not folder.is_dir():
            raise ConfigError(f"there is no folder {folder}", remedy="Name the folder of the model; ltx downloads none.")
        if not (folder / "config.json").is_file():
            remedy = "Name the folder that contains config.json, the weights and the settings of the processor."
            raise ConfigError(f"{folder} contains no model: it has no config.json", remedy=remedy)
        try:
            config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except Exception as error:
            remedy = "Name a model that the installed transformers supports without code from the folder."
            raise ConfigError(f"the config.json in {folder} cannot be used: {reason_of(error)}", remedy=remedy) from error
        names = [str(name) for name in config.architectures or ()]
        fitting = [name for name in names if name.endswith(endings) and hasattr(transformers, name)]
        if not fitting:
            there = f"is of the class {', '.join(names)}" if names else "does not say what class it is of"
            wanted = " or ".join(f"...{ending}" for ending in endings)
            raise ConfigError(
                f"the model in {folder} {there}; the class must be {wanted} of the installed transformers",
                remedy="Name a model of this kind.",
            )
        return cls(folder, config, fitting[0])

    def load(self, processor: str, dtype: str = "float32") -> tuple[Any, Any, str]:
        """Load the model and its processor.

        Args:
            processor: the class in transformers that loads the processor, such as "AutoImageProcessor".
            dtype: the dtype of the weights; "auto" for that of the file.

        Returns:
            The model, the processor, and the device that the model is on: this process's GPU or, if there is none, the CPU.

        Raises:
            ConfigError: the weights are incomplete or cannot be read, or there is no processor.
        """
        import transformers

        where, device = str(self.folder), device_named(None)
        shows_bars = transformers.utils.logging.is_progress_bar_enabled()
        transformers.utils.logging.disable_progress_bar()
        try:
            model, report = getattr(transformers, self.architecture).from_pretrained(
                self.folder, config=self.config, dtype=dtype, local_files_only=True, output_loading_info=True
            )
            prepare = getattr(transformers, processor).from_pretrained(self.folder, local_files_only=True, trust_remote_code=False)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            remedy = "Copy the folder again, with the weights and the settings of the processor."
            raise ConfigError(f"the model cannot be loaded: {reason_of(error)}", where=where, remedy=remedy) from error
        finally:
            if shows_bars:
                transformers.utils.logging.enable_progress_bar()
        lacking = sorted({str(name) for kind in ("missing_keys", "mismatched_keys") for name in report[kind]})
        if lacking:  # transformers fills them with random numbers
            remedy = "Copy the folder again, or name one with all weights."
            raise ConfigError(f"the weights lack tensors of the model: {listed(lacking)}", where=where, remedy=remedy)
        return model.eval().to(device), prepare, device
