"""The modes for which `ltx new` can write a run file. A mode tells whether video and audio are generated, which conditions apply
to them, and which keys only this mode sets.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

import attrs

By = Literal["", "start", "end", "steps", "region"]
"""The quantity that the value of a condition depends on: none; the latent frames at the beginning or the end of a clip; the
latent steps of a sound; or the size of a picture.
"""


@attrs.frozen
class Key:
    """A line of a run file.

    Attributes:
        name: the name of the key.
        value: the value for the real models, as TOML.
        tiny: the value for the tiny model, as TOML; "" if it is the same value.
        note: the comment on the key, for every model.
        why: the comment on the value for the real models.
    """

    name: str
    value: str
    tiny: str = ""
    note: str = ""
    why: str = ""


@attrs.frozen
class Given:
    """A condition of a mode, as it appears in the list of conditions.

    Attributes:
        text: the condition, with {} in place of a value that depends on the clips.
        value: the value for the real models, as TOML.
        tiny: the value for the clips of the demo, as TOML; "" if it is the same value.
        by: the quantity that the value depends on.
    """

    text: str
    value: str = ""
    tiny: str = ""
    by: By = ""


@attrs.frozen
class Part:
    """A modality in a mode, with its conditions; it is either generated or frozen."""

    is_generated: bool
    conditions: tuple[Given, ...] = ()


@attrs.frozen
class Mode:
    """A mode of training.

    Attributes:
        name: the name of the mode, and of its run file.
        about: a sentence that says what the mode does.
        parts: the modalities.
        steps: the number of optimizer steps on the tiny model.
        purpose: the default purpose of the training, a name in `ltxcore.new.purposes.PURPOSES`.
        targets: the modules that the LoRA adapts, as TOML; "" if all weights are trained.
        columns: the columns of the dataset besides the clip or sound and its caption.
        held_out: the number of demo clips that are held out.
        keys: the keys, by table, that the mode sets in addition to the common keys, or instead of them.
        processes: the number of processes in the command that starts the mode on a real model.
    """

    name: str
    about: str
    parts: Mapping[str, Part]
    steps: int = 300
    purpose: str = "style"
    targets: str = ""
    columns: tuple[str, ...] = ()
    held_out: int = 32
    keys: Mapping[str, tuple[Key, ...]] = attrs.field(factory=dict)
    processes: int = 1

    @property
    def is_full(self) -> bool:
        """Whether all weights are trained."""
        return not self.targets

    @property
    def has_conditions(self) -> bool:
        """Whether something besides text always determines the result."""
        always = [each for part in self.parts.values() for each in part.conditions if "probability" not in each.text]
        return bool(always) or not all(part.is_generated for part in self.parts.values())

    @property
    def takes_silent_clips(self) -> bool:
        """Whether the mode, which has audio, can also learn from clips without it: it generates both modalities, so a silent clip trains the
        video.
        """
        return self.parts.keys() == {"video", "audio"} and all(part.is_generated for part in self.parts.values())


def _modules(stream: str) -> str:
    """Return the modules in the blocks of one stream, as TOML."""
    rows = [[f"{stream}{attention}.{part}" for part in ("to_k", "to_q", "to_v", "to_out.0")] for attention in ("attn1", "attn2")]
    rows.append([f"{stream}ff.net.0.proj", f"{stream}ff.net.2"])
    lines = ["  " + ", ".join(f'"{name}"' for name in row) + ",\n" for row in rows]
    return f"[\n{''.join(lines)}]"


ATTENTION = '["to_k", "to_q", "to_v", "to_out.0"]'
OF_PICTURES, OF_SOUND = _modules(""), _modules("audio_")

GENERATED, FROZEN = Part(True), Part(False)
BOTH = {"video": GENERATED, "audio": GENERATED}


def _video(*conditions: Given) -> dict[str, Part]:
    """Return the parts of a mode that generates video and audio, with conditions on the video."""
    return {"video": Part(True, conditions), "audio": GENERATED}


def _sound(*conditions: Given) -> dict[str, Part]:
    """Return the part of a mode that generates audio, without video."""
    return {"audio": Part(True, conditions)}


REFERENCE = Given('{ type = "reference", latents_dir = "reference_latents" }')
SOUND_REFERENCE = Given('{ type = "reference", latents_dir = "reference_audio_latents" }')
CHECKPOINTING = Key("enable_gradient_checkpointing", "true")

LITTLE_MEMORY = {
    "lora": (Key("rank", "16", tiny="8", note="half the usual rank"),),
    "optimization": (
        Key("batch_size", "1", tiny="8", note="two micro-batches make one step"),
        Key("gradient_accumulation_steps", "2"),
        Key("optimizer_type", '"adamw8bit"', tiny='"adamw"'),
        CHECKPOINTING,
    ),
    "acceleration": (Key("quantization", '"nf4"', tiny='"int8"', why='needs bitsandbytes, which comes with "ltx[low-memory]"'),),
}
ON_ONE = {"optimization": (Key("batch_size", "1", tiny="16", why="on each of 8 GPUs: `ltx new full_finetune_zero3`"),)}
DIVIDED = {
    "optimization": (
        Key("batch_size", "1", tiny="4", note="per process"),
        CHECKPOINTING,
    ),
    "acceleration": (Key("mixed_precision_mode", '"bf16"', note="with float32 master weights"),),
    "engine": (
        Key("name", '"zero"'),
        Key("stage", "3", note="shards weights, gradients and optimizer state"),
        Key("offload", '"none"', note='"optimizer" keeps it in CPU memory; "all" keeps the weights there too'),
    ),
    "checkpoints": (Key("interval", "500", tiny="50", note="each has all weights and the optimizer state"),),
}

MODES: Mapping[str, Mode] = MappingProxyType(
    {
        mode.name: mode
        for mode in (
            Mode("t2v", "Text to video with audio.", BOTH, targets=ATTENTION),
            Mode(
                "t2v_low_vram",
                "Text to video with audio and low VRAM: quantization, a lower rank, gradient accumulation, gradient checkpointing.",
                BOTH,
                steps=120,
                targets=ATTENTION,
                keys=LITTLE_MEMORY,
            ),
            Mode(
                "i2v",
                "Image to video with audio: the first frame is given in half of the samples; the others train as text to video.",
                _video(Given('{ type = "first_frame", probability = 0.5 }')),
                steps=400,
                targets=ATTENTION,
            ),
            Mode(
                "video_extend",
                "Extend a video forward: its beginning is given; what follows and all of the audio are generated.",
                _video(Given('{{ type = "prefix", temporal_boundary = {} }}', "8", tiny="2", by="start")),
                targets=ATTENTION,
            ),
            Mode(
                "video_suffix",
                "Extend a video backward: its end is given; what comes before and all of the audio are generated.",
                _video(Given('{{ type = "suffix", temporal_boundary = {} }}', "8", tiny="1", by="end")),
                targets=ATTENTION,
            ),
            Mode(
                "v2v_ic",
                "IC-LoRA, video to video: video is generated from a reference, such as its edges; sometimes the first frame is given too.",
                {"video": Part(True, (REFERENCE, Given('{ type = "first_frame", probability = 0.2 }')))},
                purpose="ic-lora",
                targets=OF_PICTURES,
                columns=("reference_video",),
            ),
            Mode(
                "a2v",
                "Audio to video: the audio is frozen, and matching video is generated.",
                {"video": GENERATED, "audio": FROZEN},
                targets=ATTENTION,
            ),
            Mode(
                "v2a",
                "Video to audio (foley): the video is frozen, and matching audio is generated.",
                {"video": FROZEN, "audio": GENERATED},
                targets=ATTENTION,
            ),
            Mode(
                "video_inpainting",
                "Video inpainting: a mask marks what is given; the hole and all of the audio are generated.",
                _video(Given('{ type = "mask", mask_dir = "video_masks" }')),
                targets=ATTENTION,
                columns=("video_mask",),
            ),
            Mode(
                "video_outpainting",
                "Video outpainting: a rectangle is given; its surroundings and all of the audio are generated.",
                _video(
                    Given(
                        '{{ type = "spatial_crop", spatial_region = {} }}',
                        "[0, 0, 288, 576]",
                        tiny="[0, 0, 64, 32]",
                        by="region",
                    )
                ),
                targets=ATTENTION,
            ),
            Mode("t2a", "Text to audio, without video.", _sound(), purpose="voice", targets=OF_SOUND),
            Mode(
                "audio_extend",
                "Extend audio forward: its beginning is given, and what follows is generated.",
                _sound(Given('{{ type = "prefix", temporal_boundary = {} }}', "13", by="steps")),
                purpose="voice",
                targets=OF_SOUND,
            ),
            Mode(
                "audio_suffix",
                "Extend audio backward: its end is given, and what comes before is generated.",
                _sound(Given('{{ type = "suffix", temporal_boundary = {} }}', "13", by="steps")),
                purpose="voice",
                targets=OF_SOUND,
            ),
            Mode(
                "audio_inpainting",
                "Audio inpainting: a mask marks what is given; the gap is generated.",
                _sound(Given('{ type = "mask", mask_dir = "audio_masks" }')),
                purpose="voice",
                targets=OF_SOUND,
                columns=("audio_mask",),
            ),
            Mode(
                "a2a_ic",
                "IC-LoRA, audio to audio: audio is generated from a reference, such as the same melody as a plain tone.",
                _sound(SOUND_REFERENCE),
                purpose="ic-lora",
                targets=OF_SOUND,
                columns=("reference_audio",),
            ),
            Mode(
                "av2av_ic",
                "IC-LoRA, video with audio to video with audio: each has its own reference.",
                {"video": Part(True, (REFERENCE,)), "audio": Part(True, (SOUND_REFERENCE,))},
                steps=200,
                purpose="ic-lora",
                targets=ATTENTION,
                columns=("reference_video", "reference_audio"),
            ),
            Mode(
                "full_finetune",
                "Full fine-tuning: all weights instead of a LoRA, on video and audio together, from text.",
                BOTH,
                purpose="full",
                keys=ON_ONE,
            ),
            Mode(
                "full_finetune_zero3",
                "Full fine-tuning on several GPUs with ZeRO stage 3: all weights, on video and audio together, from text.",
                BOTH,
                steps=100,
                purpose="full",
                held_out=16,
                keys=DIVIDED,
                processes=8,
            ),
        )
    }
)
"""The modes by name: sixteen modes for a LoRA, and text to video with audio as full fine-tuning, in one process and in several."""
