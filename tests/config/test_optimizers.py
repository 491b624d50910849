"""`optimizer_type` and `optimizer_params`: keys of the optimizer's own, what it says of other keys, and classes of installed packages."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from config.run_files import Load, Mistakes
from ltxcore.cli.main import main
from ltxcore.config.load import load_run
from ltxcore.engines.optim import optimizer_of, try_optimizer
from ltxcore.errors import ConfigError
from ltxplugins.optimizers.adamw import AdamW
from ltxplugins.optimizers.prodigy import Prodigy

OWN = """
import torch

class Own(torch.optim.SGD):
    pass

open(__file__ + ".ran", "w").close()
"""


def test_keys_of_an_optimizer_are_read_as_its_class_says(load: Load, minimal: str) -> None:
    table = load(f'optimization = {{ optimizer_type = "prodigy", optimizer_params = {{ d_coef = 2 }} }}\n{minimal}').config.optimization
    assert table.optimizer == Prodigy(d_coef=2.0)
    assert table.optimizer_params == {
        "betas": [0.9, 0.999], "eps": 1e-8, "d0": 1e-6, "d_coef": 2.0, "use_bias_correction": False, "safeguard_warmup": False, "slice_p": 1
    }  # fmt: skip


@pytest.mark.parametrize("said", ["betas = [0.8, 0.9]", "optimizer_params = { betas = [0.8, 0.9] }"])
def test_betas_may_stand_beside_the_type_as_they_did(load: Load, minimal: str, said: str) -> None:
    table = load(f"optimization = {{ {said} }}\n{minimal}").config.optimization
    assert (table.optimizer, table.betas) == (AdamW((0.8, 0.9)), None)


@pytest.mark.parametrize(
    ("said", "rate", "schedule"),
    [
        ('"adamw"', 5e-4, "linear"),
        ('"prodigy"', 1.0, "linear"),
        ('"prodigy", learning_rate = 0.5', 0.5, "linear"),
        ('"adamw_schedule_free"', 5e-4, "constant"),
        ('"adamw_schedule_free", scheduler_type = "constant"', 5e-4, "constant"),
        ('"schedulefree:SGDScheduleFree"', 1.0, "constant"),
        ('"torch.optim:NAdam"', 2e-3, "linear"),
    ],
)
def test_what_the_run_file_does_not_say_follows_from_the_optimizer(load: Load, minimal: str, said: str, rate: float, schedule: str) -> None:
    run = load(f"optimization = {{ optimizer_type = {said} }}\n{minimal}")
    assert (run.config.optimization.learning_rate, run.config.optimization.scheduler_type) == (rate, schedule)
    resolved = run.path.with_name("resolved.toml")
    resolved.write_text(run.resolved())
    assert load_run(resolved).config == run.config


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ('"adamw", betas = [0.9, 0.9], optimizer_params = { betas = [0.8, 0.9] }', 'betas: has the same meaning as optimizer_params.betas\n    Keep one of the two.'),
        ('"adafactor", betas = [0.9, 0.9]', 'betas: the optimizer "adafactor" has no betas\n    Remove it.'),
        ('"lion", optimizer_params = { beta = [0.9, 0.9] }', 'optimizer_params.beta: there is no such key\n    Did you mean "betas"?'),
        ('"muon", optimizer_params = { momentum = 1.0 }', "optimizer_params.momentum: must be below 1, not 1"),
        (
            '"adamw_schedule_free", scheduler_type = "cosine"',
            'scheduler_type: cannot be combined with the optimizer "adamw_schedule_free", which needs a constant learning rate\n    Remove it.',
        ),
        (
            '"adamw_schedule_free", warmup_steps = 5',
            'warmup_steps: cannot be combined with the optimizer "adamw_schedule_free", which needs a constant learning rate\n    Remove it.',
        ),
        (
            '"schedulefree:SGDScheduleFree", scheduler_type = "cosine"',
            'scheduler_type: cannot be combined with the optimizer "schedulefree:SGDScheduleFree", which needs a constant learning rate\n    Remove it.',
        ),
        ('"adamw", warmup_steps = 1.5', "warmup_steps: must be a whole number of steps, or a share below 1, not 1.5"),
        ('"adamw", steps = 20, warmup_steps = 20', "warmup_steps: is 20 steps, so no step is left after the warmup\n    Set it lower."),
        ('"adamw", warmup_steps = -1', "warmup_steps: must be at least 0, not -1"),
        ('"adamw", scheduler_type = "warmup_stable_decay", scheduler_params = { decay = 0 }', "scheduler_params.decay: must be above 0, not 0"),
        ('"torch.optim:Rprop", weight_decay = 0.1', 'weight_decay: the optimizer "torch.optim:Rprop" has no weight decay\n    Set the value to 0, or remove the key.'),
        ('"torch.optim:NAdam", optimizer_params = { beta = 1 }', 'optimizer_params.beta: there is no such key\n    Did you mean "betas"?'),
        ('"torch.optim:NAdamm"', "optimizer_type: the optimizer \"torch.optim:NAdamm\" cannot be imported: AttributeError: module 'torch.optim' has no"),
        ('"torch.nn:Linear"', 'optimizer_type: "torch.nn:Linear" is not a torch optimizer: it is not a subclass of torch.optim.Optimizer\n    Name another optimizer.'),
        ('"no_such_package:Adam"', 'optimizer_type: there is no package "no_such_package"\n    Install the package, or correct the name.'),
        ('"torch.optim:"', 'optimizer_type: "torch.optim:" is not the name of a class in a package\n    Write "package.module:Class", such as "torch.optim:NAdam".'),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_told_where_it_stands(mistakes: Mistakes, minimal: str, said: str, told: str) -> None:
    assert f"run.toml:1: optimization.{told}" in mistakes(f"optimization = {{ optimizer_type = {said} }}\n{minimal}")


def test_an_optimizer_of_a_package_is_built_with_the_parameters_of_the_run_file(load: Load, minimal: str) -> None:
    said = '{ optimizer_type = "torch.optim:NAdam", optimizer_params = { momentum_decay = 0.5 }, learning_rate = 0.25, weight_decay = 0 }'
    table = load(f"optimization = {said}\n{minimal}").config.optimization
    optimizer = optimizer_of(table, {"a": torch.nn.Parameter(torch.zeros(2))})
    assert type(optimizer) is torch.optim.NAdam
    assert [optimizer.param_groups[0][name] for name in ("lr", "weight_decay", "momentum_decay", "betas")] == [0.25, 0, 0.5, (0.9, 0.999)]


@pytest.mark.parametrize(
    ("target", "shape", "bytes_"),
    [
        ("torch.optim:NAdam", (100, 200), 160000),
        ("torch.optim:Adafactor", (100, 200), 4 * (100 + 200)),
        ("torch.optim:NAdam", (50,), 400),
        ("torch.optim:Muon", (100, 200), 80000),
        ("torch.optim:Muon", (50,), None),
        ("torch.optim:LBFGS", (50,), None),
        ("torch.optim:NAdam", (2, 3, 4), None),
    ],
)
def test_the_state_of_an_optimizer_of_a_package_is_found_by_a_step_or_not_known(
    load: Load, minimal: str, target: str, shape: tuple[int, ...], bytes_: int | None
) -> None:
    table = load(f'optimization = {{ optimizer_type = "{target}" }}\n{minimal}').config.optimization
    assert table.optimizer.state_bytes("a.weight", shape) == bytes_


@pytest.mark.parametrize("beside", ["the run file", "the working directory"])
def test_a_python_file_beside_a_run_is_no_package(
    mistakes: Mistakes, minimal: str, folder: Path, beside: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = folder if beside == "the run file" else Path.cwd()
    (there / "own_optimizers.py").write_text(OWN)
    monkeypatch.syspath_prepend(there)
    told = mistakes(f'optimization = {{ optimizer_type = "own_optimizers:Own" }}\n{minimal}')
    assert '"own_optimizers" is in ' in told
    assert "Install the package, or write a plugin and add its file to plugins." in told
    assert not (there / "own_optimizers.py.ran").exists()


def test_nothing_of_a_package_is_imported_where_no_plugin_is_run(
    folder: Path, minimal: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "packaged_optimizers.py").write_text(OWN)
    monkeypatch.syspath_prepend(site)
    run = folder / "run.toml"
    run.write_text(f'optimization = {{ optimizer_type = "packaged_optimizers:Own" }}\n{minimal}')
    done = CliRunner().invoke(main, ["check", "--no-plugins", str(run)])
    assert 'the optimizer "packaged_optimizers:Own" was not checked' in done.output
    assert not (site / "packaged_optimizers.py.ran").exists()
    load_run(run)
    assert (site / "packaged_optimizers.py.ran").exists()


@pytest.mark.parametrize(("said", "count"), [("", 0), ("warmup_steps = 7", 7), ("warmup_steps = 0.25", 10), ("warmup_steps = 0", 0)])
def test_warm_up_is_a_count_or_a_share(load: Load, minimal: str, said: str, count: int) -> None:
    assert load(f"[optimization]\nsteps = 40\n{said}\n{minimal}").config.optimization.warmup == count


def test_an_optimizer_of_a_package_that_cannot_take_a_step_is_refused_before_the_run(load: Load, minimal: str) -> None:
    table = load(f'optimization = {{ optimizer_type = "torch.optim:LBFGS", learning_rate = 1.0 }}\n{minimal}').config.optimization
    with pytest.raises(ConfigError, match=r'the optimizer "torch.optim:LBFGS" cannot take a step: TypeError'):
        try_optimizer(table)
