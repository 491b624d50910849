"""The tiny audio codec."""

import math

import pytest
import torch

from helpers.media_made import pitch, tone
from ltxcore.codecs import cosine_blocks, tiny_audio
from ltxcore.codecs.mel import log_mel
from ltxcore.codecs.tiny_audio import TinyAudioCodec
from ltxcore.errors import DataError
from ltxcore.modalities.audio import AudioModality
from ltxcore.new.tiny_world import scenes
from ltxcore.protocols import Sound

CODEC = TinyAudioCodec()


@pytest.mark.parametrize(
    ("seconds", "steps"), [(0.5, 13), (1.0, 26), (2.0, 51), (25 / 24, 27), (49 / 24, 52), (89 / 24, 93), (121 / 24, 127), (17 / 16, 27)]
)
def test_there_are_25_steps_a_second_and_one_as_in_the_real_codec(seconds: float, steps: int) -> None:
    """As docs/explanation/arithmetic.md#tokens-of-a-sound has it."""
    sound = Sound(torch.zeros(1, int(seconds * 16_000)), 16_000)
    latents = CODEC.encode(sound)
    assert (latents.shape, latents.dtype, latents.is_contiguous()) == ((8, steps, 16), torch.float32, True)


def test_decoding_gives_back_all_whole_steps() -> None:
    decoded = CODEC.decode(CODEC.encode(tone(1.0)), 0.0)
    assert (decoded.samples.shape, decoded.rate) == ((1, 25 * 640), 16_000)


def test_tokens_hold_the_lowest_coefficients_in_order_channel_by_channel() -> None:
    """Sums of cosines written out, for the second step: mel frames 1 to 4."""
    sound = tone(0.5, hertz=600.0)
    mel = log_mel(sound.samples)[0, 1:5].double()

    def cosine(k: int, size: int) -> torch.Tensor:
        scale = math.sqrt((1 if k == 0 else 2) / size)
        return scale * torch.tensor([math.cos(math.pi * k * (2 * n + 1) / (2 * size)) for n in range(size)], dtype=torch.float64)

    expected = torch.stack([cosine(t, 4) @ mel @ cosine(b, 64) for t in range(4) for b in range(32)])
    constants = cosine_blocks.statistics("audio")
    tokens = AudioModality().patchify(CODEC.encode(sound)[None])[0]
    torch.testing.assert_close(tokens[1].double(), (expected - constants.mean) / constants.spread, atol=1e-4, rtol=1e-4)


def test_the_first_step_sees_the_first_mel_frame_alone() -> None:
    sound = tone(0.5)
    first = tiny_audio.coefficients(sound)[0].unflatten(0, (4, 32))
    assert first[1:].abs().max() < 1e-3  # nothing changes within it
    mel = log_mel(sound.samples)[0, 0]
    torch.testing.assert_close(first[0], 2 * (cosine_blocks.cosines(64)[:32] @ mel), atol=1e-3, rtol=1e-4)


def test_the_world_s_tones_are_heard_again() -> None:
    for item in scenes("base_held_out", 6):
        sound = item.sound()
        latents = CODEC.encode(sound)
        decoded = CODEC.decode(latents)
        again = CODEC.encode(decoded)
        spread = (latents - latents.mean(dim=1, keepdim=True)).square().mean()
        assert (again[:, 2:-2] - latents[:, 2 : again.shape[1] - 2]).square().mean() < 0.2 * spread
        assert pitch(decoded, 200, 900) == pytest.approx(pitch(sound, 200, 900), rel=0.12)


def test_the_two_channels_count_even_where_they_cancel() -> None:
    left = torch.rand(1, 8000, generator=torch.Generator().manual_seed(0)) - 0.5
    opposite = Sound(torch.cat([left, -left]), 16_000)
    torch.testing.assert_close(CODEC.encode(opposite), CODEC.encode(Sound(left, 16_000)), atol=1e-4, rtol=1e-4)
    one_side = Sound(torch.cat([left, torch.zeros_like(left)]), 16_000)
    halved = tiny_audio.coefficients(one_side)[5] - tiny_audio.coefficients(Sound(left, 16_000))[5]
    assert halved[0] == pytest.approx(-math.log(2) * math.sqrt(4 * 64), rel=0.05)  # everything is half as loud


@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (22_050, 2), (44_100, 1), (48_000, 6), (96_000, 2)])
def test_any_rate_and_number_of_channels_is_taken(rate: int, channels: int) -> None:
    assert CODEC.encode(Sound(0.1 * torch.ones(channels, rate), rate)).shape == (8, 26, 16)


def test_a_tone_has_the_same_latents_at_any_rate() -> None:
    wanted = CODEC.encode(tone(1.0, 16_000))
    for rate in (32_000, 44_100, 48_000):
        found = CODEC.encode(tone(1.0, rate))
        assert (found - wanted)[:, 3:-3].square().mean() < 0.02 * wanted.square().mean()


def test_a_sound_too_short_for_a_window_is_refused() -> None:
    with pytest.raises(DataError) as error:
        CODEC.encode(Sound(torch.zeros(2, 100), 8000))
    assert str(error.value) == "a sound of 0.013 seconds is too short\n    A sound must be longer than 0.032 seconds."


def test_silence_is_finite_and_decodes_to_silence() -> None:
    latents = CODEC.encode(Sound(torch.zeros(2, 16_000), 16_000))
    assert latents.isfinite().all()
    assert CODEC.decode(latents).samples.abs().max() < 1e-2


def test_the_world_is_about_standardised() -> None:
    latents = torch.stack([CODEC.encode(item.sound()) for item in scenes("base_held_out", 100)])
    tokens = AudioModality().patchify(latents).flatten(0, 1)
    assert tokens.mean(dim=0).abs().max() < 0.2
    assert tokens.std(dim=0).max() < 1.3
    assert 0.5 < tokens.std() < 1.1


def test_the_fingerprint_changes_with_the_constants(monkeypatch: pytest.MonkeyPatch) -> None:
    table = {name: dict(rows) for name, rows in cosine_blocks._table().items()}
    table["audio"]["mean"] = [value + 1 for value in table["audio"]["mean"]]
    monkeypatch.setattr(cosine_blocks, "_table", lambda: table)
    assert TinyAudioCodec().fingerprint != CODEC.fingerprint
