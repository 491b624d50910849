import pytest

from ltxcore.models.streams import is_needed, stream_of


@pytest.mark.parametrize(
    ("name", "stream"),
    [
        ("proj_in.weight", "video"),
        ("audio_proj_in.weight", "audio"),
        ("scale_shift_table", "video"),
        ("audio_scale_shift_table", "audio"),
        ("keyframes_abs_pos_embedding", "video"),
        ("audio_prompt_adaln.linear.weight", "audio"),
        ("av_cross_attn_audio_v2a_gate.linear.weight", "cross"),
        ("cross_attn_audio_rope", "cross"),
        ("transformer_blocks.3.attn1.to_k", "video"),
        ("transformer_blocks.3.audio_attn1.to_k", "audio"),
        ("transformer_blocks.3.audio_to_video_attn.to_k", "cross"),
        ("transformer_blocks.3.video_to_audio_norm", "cross"),
        ("transformer_blocks.3.audio_a2v_cross_attn_scale_shift_table", "cross"),
        ("transformer_blocks.3.video_a2v_cross_attn_scale_shift_table", "cross"),
        ("transformer_blocks.3.audio_prompt_scale_shift_table", "audio"),
    ],
)
def test_a_parameter_belongs_to_one_stream(name, stream):
    assert stream_of(name) == stream


def test_one_modality_needs_its_own_stream_only_and_two_need_everything():
    names = {"video": "proj_in", "audio": "audio_proj_in", "cross": "av_cross_attn_video_a2v_gate"}
    assert [s for s, name in names.items() if is_needed(name, {"video"})] == ["video"]
    assert [s for s, name in names.items() if is_needed(name, {"audio"})] == ["audio"]
    assert [s for s, name in names.items() if is_needed(name, {"video", "audio"})] == ["video", "audio", "cross"]
