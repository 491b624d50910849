"""Feature extraction against the recorded cases."""

import pytest
import torch

from helpers.golden_io import load_case
from ltxcore.codecs.official.projections import FeatureExtractor, Projection


def inputs(case):
    hidden = torch.stack([case.inputs[f"hidden{n}"].float() for n in range(3)], dim=-1)
    return hidden, case.inputs["mask"]


def weight(case, name):
    return case.inputs[f"weights.{name}"].float()


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_features_equal_the_recorded_ones(version):
    case = load_case("11_connector", f"feature_extractor.{version}")
    if version == "v1":
        projections = {"": Projection(weight(case, "aggregate_embed.weight"))}
    else:
        projections = {
            name: Projection(weight(case, f"{name}_aggregate_embed.weight"), weight(case, f"{name}_aggregate_embed.bias"))
            for name in ("video", "audio")
        }
    hidden, mask = inputs(case)
    found = FeatureExtractor(projections)(hidden, mask)
    for name in ("video", "audio"):
        torch.testing.assert_close(found[name], case.outputs[name].float(), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_features_of_words_do_not_depend_on_padding(version):
    case = load_case("11_connector", f"feature_extractor.{version}")
    names = ["aggregate_embed"] if version == "v1" else ["video_aggregate_embed"]
    extract = FeatureExtractor({"" if version == "v1" else "video": Projection(weight(case, f"{names[0]}.weight"))})
    hidden, mask = inputs(case)
    for sample in range(hidden.shape[0]):
        words = int(mask[sample].sum())
        padded = extract(hidden[sample : sample + 1], mask[sample : sample + 1])["video"][0, -words:]
        alone = extract(hidden[sample : sample + 1, -words:], torch.ones(1, words))["video"][0]
        torch.testing.assert_close(alone, padded, rtol=1e-5, atol=1e-6)
