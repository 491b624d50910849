# ruff: noqa: RUF009 (`key` makes an attrs field, not a shared default)
"""The table `[acceleration]` of the run file: precision and memory."""

from __future__ import annotations

from typing import Any, Literal

import attrs

from ltxcore.config.tables import filled, key

Precision = Literal["no", "bf16"]

AttentionName = Literal["auto", "sdpa", "flash", "flash3", "sage", "flex"]

HALF_PRECISION = {
    "fp16": (
        "fp16 is not available: many gradients are smaller than its smallest number, so it would need loss scaling",
        'Use "bf16", which has as many bits as fp16 but the range of float32, so it needs no scaling; or "no" for float32.',
    )
}
"""The values of `mixed_precision_mode` that other trainers accept but this key refuses, with the reason and the remedy."""

QUANTO = {
    name: (f'"{name}" is not available: no package can train on weights stored in so few bits', 'Use "nf4".')
    for name in ("int4-quanto", "int2-quanto")
}
"""The values of `quantization` that other trainers accept but this key refuses, with the reason and the remedy."""


@attrs.frozen(kw_only=True)
class AccelerationTable:
    """`[acceleration]`: precision and memory."""

    mixed_precision_mode: Precision = key("bf16", help='arithmetic of the model; "no" is float32', refused=HALF_PRECISION)
    quantization: str | None = key(
        None, help="a registered quantizer, which quantizes the frozen weights of a LoRA run to save memory", refused=QUANTO
    )
    quantization_params: dict[str, Any] | None = key(None, help="parameters of the quantizer")
    offload_blocks: int = key(
        0,
        help="block swap: how many blocks keep their frozen weights in CPU memory until they are needed; in full fine-tuning, blocks of the copy of the base",
        unit="blocks",
        at_least=0,
    )
    offload_activations: bool = key(
        False,
        help="activation offload: with gradient checkpointing, keep what the backward pass needs in CPU memory until then: less GPU memory, a little more time",
    )
    activation_budget_gb: float | None = key(
        None,
        help="selective checkpointing: with gradient checkpointing, the GPU memory for outputs of attention and matrix products that are not computed again",
        unit="GiB",
        above=0,
        at_most=10**6,
    )
    chunked_feed_forward: int = key(
        1,
        help="in how many chunks of tokens feed-forward is computed, forward and backward: less memory for long clips, a little more time",
        unit="chunks",
        at_least=1,
        at_most=1000,
    )
    attention: AttentionName = key(
        "auto",
        help="program that computes attention: torch's own, with a kernel that torch chooses (auto, sdpa) or its flash attention; or flash3, sage (only to generate) or flex",
    )
    compile: bool = key(
        False, help="compile the blocks with torch.compile: steps are faster, but compiling takes several minutes at the start"
    )
    load_text_encoder_in_8bit: bool = key(False, help="load the text encoder with 8-bit weights")
    offload_text_encoder: bool = key(
        False, help="CPU offload: keep the text encoder's weights in CPU memory, and copy them to the GPU layer by layer"
    )
    stochastic_rounding: bool = key(False, help="train all weights in bfloat16 with stochastic rounding of each update; for one GPU")
    step_in_backward: bool = key(False, help="update each weight during the backward pass, and free its gradient at once; for one GPU")
    vae_tiling: bool = key(False, help="encode and decode validation samples in tiles: less memory")
    offload_optimizer_during_validation: bool = key(
        False, help="move the optimizer state to CPU memory while samples are generated and the validation loss is measured"
    )
    quantizer: Any = filled()
