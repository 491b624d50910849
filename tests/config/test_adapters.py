"""`[lora] type` and `params`: the keys of a type's own, the older keys for types, and what does not go together."""

from __future__ import annotations

import pytest

from config.run_files import Load, Mistakes
from ltxcore.config.load import load_run
from ltxplugins.adapters.dora import Dora
from ltxplugins.adapters.lokr import Lokr
from ltxplugins.adapters.lora import Lora


def test_keys_of_a_type_are_read_as_its_class_says(load: Load, minimal: str) -> None:
    table = load(f'lora = {{ type = "lokr", params = {{ factor = 8 }} }}\n{minimal}').config.lora
    assert (table.adapter, table.params) == (Lokr(factor=8), {"factor": 8, "decompose_both": False})


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("rank = 4", "LoRA of rank 4"),
        ("rank = 4, use_dora = true", "DoRA of rank 4"),
        ('rank = 4, type = "lokr", groups = [{ modules = ["to_k"], rank = 2 }]', "LoKr of rank 2 to 4"),
    ],
)
def test_the_type_and_the_ranks_are_told_in_words(said: str, words: str, load: Load, minimal: str) -> None:
    assert load(f"lora = {{ {said} }}\n{minimal}").config.lora.in_words == words


@pytest.mark.parametrize(
    ("said", "kind", "adapter"),
    [
        ("", "lora", Lora()),
        ("use_rslora = false, use_dora = false", "lora", Lora()),
        ("use_rslora = true", "lora", Lora(use_rslora=True)),
        ("use_dora = true", "dora", Dora()),
        ("use_dora = true, use_rslora = true", "dora", Dora(use_rslora=True)),
        ('type = "dora", use_dora = true', "dora", Dora()),
        ('type = "lokr", use_rslora = false, use_dora = false', "lokr", Lokr()),
        ('type = "lora", params = { use_rslora = true }', "lora", Lora(use_rslora=True)),
    ],
)
def test_older_keys_keep_their_meaning_and_a_resolved_file_means_the_same(
    load: Load, minimal: str, said: str, kind: str, adapter: object
) -> None:
    run = load(f"lora = {{ {said} }}\n{minimal}")
    assert (run.config.lora.type, run.config.lora.adapter) == (kind, adapter)
    resolved = run.path.with_name("resolved.toml")
    resolved.write_text(run.resolved())
    assert "use_dora" not in resolved.read_text()
    assert load_run(resolved).config == run.config


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ('type = "loka"', 'type: there is no adapter "loka"\n    Did you mean "loha"'),
        ('type = "lora", use_dora = true', 'use_dora: means type = "dora", but type has another value\n    Keep one of the two.'),
        ('type = "lokr", use_rslora = true', 'use_rslora: the adapter "lokr" has no use_rslora\n    Remove it.'),
        (
            "use_rslora = true, params = { use_rslora = true }",
            "use_rslora: has the same meaning as params.use_rslora\n    Keep one of the two.",
        ),
        ('type = "lokr", params = { factor = 0 }', "params.factor: must be at least 1, or -1, not 0"),
        ("params = { factor = 8 }", "params.factor: there is no such key"),
        (
            'type = "loha", groups = [{ modules = ["attn1"], rank = 4 }, { modules = ["ff"], dropout = 0.1 }]',
            'groups[1].dropout: the adapter "loha" has no dropout\n    Set the value to 0, or remove the key.',
        ),
        ('type = "loha", dropout = 0.1', 'dropout: the adapter "loha" has no dropout\n    Set the value to 0, or remove the key.'),
    ],
)
def test_what_does_not_go_together_is_told_where_it_stands(mistakes: Mistakes, minimal: str, said: str, told: str) -> None:
    assert f"run.toml:1: lora.{told}" in mistakes(f"lora = {{ {said} }}\n{minimal}")


def test_a_type_in_place_of_the_mode_is_refused_with_where_it_goes(mistakes: Mistakes, minimal: str) -> None:
    told = mistakes(minimal.replace('model_path = "tiny"', 'model_path = "tiny"\ntraining_mode = "lokr"'))
    assert 'is not a training mode, but a type of adapter\n    Write "lora", and lora.type = "lokr".' in told
