# ruff: noqa: RUF009 (`key` makes an attrs field, not a shared default)
"""The tables for publishing a run, on the Hugging Face hub and with Weights & Biases."""

from __future__ import annotations

import attrs

from ltxcore.config.tables import Finding, key


@attrs.frozen(kw_only=True)
class HubTable:
    """`[hub]`: publishing the result on the Hugging Face hub."""

    push_to_hub: bool = key(False, help="upload the result at the end")
    hub_model_id: str | None = key(None, help='repository to upload to: "name/model"')

    def problems(self) -> list[Finding]:
        if self.push_to_hub and not self.hub_model_id:
            return [(("hub_model_id",), "must be set, because push_to_hub is true", 'Write where to publish: hub_model_id = "name/model".')]
        return []


@attrs.frozen(kw_only=True)
class WandbTable:
    """`[wandb]`: Weights & Biases."""

    enabled: bool = key(False, help="send metrics to Weights & Biases")
    project: str = key("ltx", help="project in Weights & Biases")
    entity: str | None = key(None, help="user or team in Weights & Biases")
    tags: list[str] = key(factory=list, help="labels of the run in Weights & Biases")
    log_validation_videos: bool = key(True, help="send validation samples too")
