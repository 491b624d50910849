"""What a run says of the programs that its file is for."""

from __future__ import annotations

import pytest

from ltxcore.models.exports import Program, programs_for, said_of_programs


@pytest.mark.parametrize(
    ("type", "said"),
    [
        ("lora", ""),
        (
            "dora",
            'lora.safetensors of this run will be of the type "dora": diffusers can load it as it is; comfyui can once '
            "`ltx export --for comfyui` has converted it, with the base as --model; ltx-pipelines cannot",
        ),
        ("loha", 'lora.safetensors of this run will be of the type "loha": comfyui can load it as it is; diffusers, ltx-pipelines cannot'),
        (
            "thin",
            'lora.safetensors of this run will be of the type "thin": no program can load it as it is; comfyui, diffusers, ltx-pipelines cannot',
        ),
    ],
)
def test_a_type_that_not_every_program_loads_is_told_with_what_helps(type: str, said: str) -> None:
    assert said_of_programs(type) == said


def test_what_each_program_can_do_with_a_type_is_what_its_exporter_says() -> None:
    assert programs_for("dora") == [
        Program("comfyui", takes=True, loads_saved=False, needs_base=True),
        Program("diffusers", takes=True, loads_saved=True, needs_base=False),
        Program("ltx-pipelines", takes=False, loads_saved=False, needs_base=False),
    ]
