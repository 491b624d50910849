"""Models of transformers with two layers of random weights, saved as users have them: a folder each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import (
    CLIPVisionConfig,
    GLPNConfig,
    GLPNForDepthEstimation,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    SegformerConfig,
    SegformerForSemanticSegmentation,
)

LABELS = ("wall", "person", "sky")


def depth_model(folder: Path) -> Path:
    """A model that returns distances, of pictures whose sides are multiples of 32."""
    torch.manual_seed(0)
    config = GLPNConfig(
        num_encoder_blocks=2,
        depths=[1, 1],
        sr_ratios=[2, 1],
        hidden_sizes=[8, 16],
        patch_sizes=[3, 3],
        strides=[4, 2],
        num_attention_heads=[1, 2],
        mlp_ratios=[2, 2],
        decoder_hidden_size=8,
    )
    return _saved(GLPNForDepthEstimation(config), transformers.GLPNImageProcessor(), folder)


def segmentation_model(folder: Path) -> Path:
    """A model that finds three classes, in pictures that are made 32 x 32."""
    torch.manual_seed(0)
    config = SegformerConfig(
        num_encoder_blocks=2,
        depths=[1, 1],
        sr_ratios=[2, 1],
        hidden_sizes=[8, 16],
        patch_sizes=[3, 3],
        strides=[2, 2],
        num_attention_heads=[1, 2],
        mlp_ratios=[2, 2],
        decoder_hidden_size=8,
        initializer_range=0.5,
        id2label=dict(enumerate(LABELS)),
        label2id={name: number for number, name in enumerate(LABELS)},
    )
    processor = transformers.SegformerImageProcessor(size={"height": 32, "width": 32})
    return _saved(SegformerForSemanticSegmentation(config), processor, folder)


def _saved(model: transformers.PreTrainedModel, processor: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


_SENTENCES = "USER : ASSISTANT Describe this clip a cat dog runs sits on the red grass under sky"
WORDS = ("<unk>", "<pad>", "<s>", "</s>", "<image>", *_SENTENCES.split(" "))
TEMPLATE = (
    "{% for message in messages %}USER : {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image> {% elif part['type'] == 'text' %}{{ part['text'] }} {% endif %}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}ASSISTANT : {% endif %}"
)


def captioning_model(folder: Path, template: str | None = TEMPLATE) -> Path:
    """A model that answers in a few words, of pictures that are made 16 x 16."""
    torch.manual_seed(4)
    processor = transformers.LlavaProcessor(
        transformers.CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}),
        _tokenizer(),
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token="<image>",
        chat_template=template,
    )
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "initializer_range": 0.5}
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(image_size=16, patch_size=8, **small),
        text_config=LlamaConfig(vocab_size=len(WORDS), bos_token_id=2, eos_token_id=3, pad_token_id=1, **small),
        image_token_index=WORDS.index("<image>"),
        image_seq_length=4,
        vision_feature_layer=-1,
    )
    model = LlavaForConditionalGeneration(config)
    model.lm_head.weight.data[WORDS.index("</s>")] *= 2  # so that answers end
    return _saved(model, processor, folder)


def text_model(folder: Path) -> Path:
    """A model that reads text alone."""
    tokenizer = _tokenizer()
    tokenizer.chat_template = TEMPLATE
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    return _saved(LlamaForCausalLM(LlamaConfig(vocab_size=len(WORDS), **small)), tokenizer, folder)


def _tokenizer() -> transformers.PreTrainedTokenizerFast:
    tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    special = {"unk_token": "<unk>", "pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, additional_special_tokens=["<image>"], **special)
