"""Answers keep to the form that an application asks for, whatever the model finds likely."""

import json
import re

import jsonschema
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from nightshift.errors import BadInput
from nightshift.inference.model import LoadedModel
from nightshift.inference.transformers_engine import TransformersEngine
from nightshift.settings.decoding import Decoding

SCHEMA = {
    "type": "object",
    "properties": {
        "intent": {"enum": ["card", "cash", "Überweisung", "其他"]},
        "urgent": {"type": "boolean"},
        "days": {"type": "integer", "minimum": 0, "maximum": 30},
    },
    "required": ["intent", "urgent", "days"],
    "additionalProperties": False,
}
PATTERN = r"(yes|no), [a-zé]{3,5}"


def random_model(further):
    """A random model with a token for each byte, two ends of an answer, and `further` more logits than there are tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    plain = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(alphabet)}, merges=[]))
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = decoders.ByteLevel()
    plain.add_special_tokens(["<|end|>", "<|eot|>"])
    if further < 0:  # tokens that the model lacks
        plain.add_tokens([f"<extra {number}>" for number in range(-further)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, eos_token="<|end|>", pad_token="<|end|>")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer) + further, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        bos_token_id=None, eos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    ends = frozenset(tokenizer.convert_tokens_to_ids(["<|end|>", "<|eot|>"]))
    return LoadedModel(LlamaForCausalLM(config).eval(), tokenizer, ends)


@pytest.fixture(scope="module")
def loaded():
    return random_model(6)


def answers(loaded, most=80, batch_tokens=2_000, count=12, **decoding):
    engine = TransformersEngine(
        loaded, max_new_tokens=most, batch_tokens=batch_tokens, decoding=Decoding(**decoding), logprobs=True
    )
    prompts = [loaded.tokenizer(f"message {'x' * number}")["input_ids"] for number in range(count)]
    generated = engine.generate(prompts, seeds=range(count))
    return [(loaded.tokenizer.decode(one.tokens), one.finish_reason) for one in generated]


@pytest.mark.parametrize("temperature", [0, 1.5])
def test_every_answer_is_json_of_the_schema(loaded, temperature):
    found = answers(loaded, json_schema=SCHEMA, temperature=temperature)
    for text, reason in found:
        jsonschema.validate(json.loads(text), SCHEMA)
        assert (reason, re.search(r"[{,:] |\n", text)) == ("stop", None)
    assert len({text for text, _ in found}) > (1 if temperature else 0)


@pytest.mark.parametrize("temperature", [0, 1.5])
def test_every_answer_matches_the_regular_expression_whatever_shares_its_batch(loaded, temperature):
    found = answers(loaded, regex=PATTERN, temperature=temperature)
    assert all(re.fullmatch(PATTERN, text) and reason == "stop" for text, reason in found)
    assert answers(loaded, batch_tokens=1, regex=PATTERN, temperature=temperature) == found


@pytest.mark.parametrize("further", [-1, -40])
def test_a_tokenizer_may_have_tokens_that_the_model_lacks(further):
    for text, reason in answers(random_model(further), json_schema=SCHEMA, temperature=1.5):
        jsonschema.validate(json.loads(text), SCHEMA)
        assert reason == "stop"


def test_the_matcher_of_a_row_is_dropped_when_the_row_ends(loaded, monkeypatch):
    rows, distinct = [], TransformersEngine._distinct
    monkeypatch.setattr(TransformersEngine, "_distinct", lambda *given: rows.extend(distinct(*given)) or rows)
    assert len(answers(loaded, regex=PATTERN)) == len(rows) == 12
    assert [row.matcher for row in rows] == [None] * 12


def test_an_answer_that_is_cut_begins_as_its_form_does(loaded):
    for text, reason in answers(loaded, most=6, json_schema=SCHEMA):
        assert (text[0], reason, len(text)) == ("{", "length", 6)


@pytest.mark.parametrize(
    ("decoding", "why"),
    [
        ({"regex": "(?<=a)b"}, "decoding.regex cannot be kept"),
        ({"json_schema": {"type": "number or so"}}, "decoding.json_schema cannot be kept"),
        ({"json_schema": {"$ref": "https://schemas.example/order.json"}}, "decoding.json_schema cannot be kept"),
        ({"json_schema": {"allOf": [{"type": "string"}, {"type": "object"}]}}, "decoding.json_schema cannot be kept"),
    ],
)
def test_a_form_that_nothing_can_keep_to_is_refused_before_the_first_answer(loaded, decoding, why):
    with pytest.raises(BadInput, match=why):
        answers(loaded, **decoding)
