"""The metadata that the settings of a run add to the weights that it saves."""

from __future__ import annotations

from ltxcore.config.run_file import RunFile
from ltxcore.runs.group_settings import group_metadata
from ltxcore.sample.values import told_params


def saved_metadata(config: RunFile) -> dict[str, str]:
    """Return the trigger word, the groups of a LoRA, and the parameters of columns; settings that are not set are left out."""
    trigger = config.preprocessing.lora_trigger
    return {**({"trigger": trigger} if trigger else {}), **group_metadata(config), **told_params(config.preprocessing.encoders)}
