"""What a training asks for and this machine does not have ends it before weights are loaded, with what would do."""

import pytest

from nightshift.errors import BadInput
from nightshift.settings.training import Training
from nightshift.training.load import load_model
from nightshift.training.precision import decided

STOCK = {"engine": "stock", "precision": "bf16"}


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"attention": "flash_attention_2"}, "flash_attention_2 needs a GPU.*usable here: sdpa"),
        ({"method": "lora", "quantize": "nf4"}, "needs the package bitsandbytes"),
        ({"method": "lora", "lora_targets": ["query"]}, "training.lora_targets: .*query"),
        ({"method": "lora", "lora_targets": ["q_proj", "embed_tokens"]}, "lora_targets: the embeddings and the head"),
        ({"method": "lora", "lora_targets": ["lm_head"]}, "lora_targets: the embeddings and the head"),
        ({"trained_layers": 4}, "trained_layers is 4, but llama has 3 layers"),
    ],
)
def test_what_cannot_be_done_is_refused_by_the_name_of_its_setting(base, settings, says):
    with pytest.raises(BadInput, match=says):
        load_model(base("llama"), Training(**{**STOCK, **settings}), 128)


def test_rows_beyond_learned_positions_are_refused(base):
    with pytest.raises(BadInput, match="sequence_length is 513, but gpt2 learned 512 positions"):
        load_model(base("gpt2"), Training(**STOCK), 513)


def test_fp16_is_for_gpus():
    with pytest.raises(BadInput, match="fp16 needs a GPU"):
        decided(Training(precision="fp16"))
