import pytest
import torch

from helpers.golden_models import BOTH, random_input
from ltxcore.models.load_base import load_backbone
from ltxcore.models.reach import unreached_parameters

LAST = "transformer.transformer_blocks.3."


def tiny(modalities=BOTH, **options):
    return load_backbone("tiny-untrained", frozenset(modalities), dtype=torch.float32, **options)


def loss_of(backbone, modality):
    video, audio = random_input("video", 6), random_input("audio", 5)
    return lambda: backbone(video, audio)[modality].square().mean()


def modules(names):
    return {name.removeprefix("transformer.").split(".")[2 if "transformer_blocks" in name else 0] for name in names}


def test_pictures_made_for_given_sound_do_not_reach_the_last_steps_of_the_sound():
    backbone = tiny()
    found = unreached_parameters(backbone, loss_of(backbone, "video"))
    blocks = {name for name in found if "transformer_blocks" in name}
    assert all(name.startswith(LAST) for name in blocks)
    assert modules(blocks) == {"video_to_audio_attn", "audio_ff"}
    assert modules(found - blocks) == {"audio_proj_out", "audio_scale_shift_table"}
    assert found <= {name for name, _ in backbone.named_parameters()}


def test_a_joint_loss_reaches_everything():
    backbone = tiny()
    video, audio = loss_of(backbone, "video"), loss_of(backbone, "audio")
    assert unreached_parameters(backbone, lambda: video() + audio()) == frozenset()


def test_blocks_that_are_computed_again_are_reached_all_the_same():
    backbone = tiny(gradient_checkpointing=True)
    plain = tiny()
    assert unreached_parameters(backbone, loss_of(backbone, "audio")) == unreached_parameters(plain, loss_of(plain, "audio"))


def test_the_model_is_as_it_was_afterwards():
    backbone = tiny({"audio"})
    first, second = list(backbone.parameters())[:2]
    first.requires_grad_(False)
    second.grad = torch.ones_like(second)
    audio = random_input("audio", 5)
    assert unreached_parameters(backbone, lambda: backbone(None, audio)["audio"].sum()) == frozenset()
    assert not first.requires_grad
    assert second.requires_grad
    assert torch.equal(second.grad, torch.ones_like(second))
    assert all(p.grad is None for p in backbone.parameters() if p is not second)


def test_the_model_is_as_it_was_after_a_failure_too():
    backbone = tiny({"audio"}).requires_grad_(False)

    def fail():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unreached_parameters(backbone, fail)
    assert not any(p.requires_grad for p in backbone.parameters())
