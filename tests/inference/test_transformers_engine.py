"""The engine says what greedy `generate` says to each prompt alone, whatever shares a batch with it."""

import random

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, Qwen2Config, Qwen2ForCausalLM

from nightshift.errors import BadInput
from nightshift.inference.engine import Continuation
from nightshift.inference.key_value_cache import KeyValueCache
from nightshift.inference.model import GROUPED, LoadedModel, grouped_attention, load
from nightshift.inference.transformers_engine import TransformersEngine, common_prefix
from nightshift.settings.decoding import Decoding

pytestmark = pytest.mark.slow
VOCABULARY, END = 97, 1
SMALL = {
    "vocab_size": VOCABULARY, "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 3,
    "num_attention_heads": 6, "num_key_value_heads": 2, "max_position_embeddings": 256, "eos_token_id": END,
    "pad_token_id": 0, "bos_token_id": None,
}  # fmt: skip
FAMILIES = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SMALL)),
    "mistral with a window": lambda: MistralForCausalLM(MistralConfig(**SMALL, sliding_window=9)),
    "qwen2 with a window in some layers": lambda: Qwen2ForCausalLM(
        Qwen2Config(**SMALL, use_sliding_window=True, sliding_window=9, max_window_layers=2)
    ),
}


class NoTokenizer:
    pad_token_id = 0


def loaded(family="llama", seed=3):
    """A random model whose logits are spread, so that greedy choices are no matter of the last digit."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(GROUPED, grouped_attention)
    AttentionMaskInterface.register(GROUPED, sdpa_mask)
    torch.manual_seed(seed)
    model = FAMILIES[family]().eval()
    for weights in model.parameters():
        weights.data.mul_(4)
    model.set_attn_implementation(GROUPED)
    return LoadedModel(model, NoTokenizer(), frozenset({END}))


def prompts_of(count, shared=5, longest=40, seed=1):
    chance = random.Random(seed)
    prefix = [chance.randrange(2, VOCABULARY) for _ in range(shared)]
    return [[*prefix, *chance.choices(range(2, VOCABULARY), k=chance.randint(1, longest))] for _ in range(count)]


def alone(model, prompt, most):
    """What greedy `generate` of Transformers says, with its own attention."""
    model.model.set_attn_implementation("sdpa")
    tokens = torch.tensor([prompt])
    said = model.model.generate(
        tokens, attention_mask=torch.ones_like(tokens), do_sample=False, max_new_tokens=most, pad_token_id=0
    )[0, len(prompt) :].tolist()
    return (said[:-1], "stop") if said[-1] == END else (said, "length")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_row_is_what_generate_says_to_it_alone(family):
    model, prompts = loaded(family), prompts_of(40)
    engine = TransformersEngine(model, max_new_tokens=20, batch_tokens=600)
    generated = engine.generate(prompts)
    assert [(one.tokens, one.finish_reason) for one in generated] == [alone(model, prompt, 20) for prompt in prompts]
    assert {one.finish_reason for one in generated} == {"stop", "length"}
    assert all(one.latency_ms > 0 for one in generated)


def test_a_pad_token_that_was_added_to_the_tokenizer_alone_fills_no_row(monkeypatch):
    prompts = prompts_of(5)
    wanted = TransformersEngine(loaded(), max_new_tokens=5, batch_tokens=600).generate(prompts)
    monkeypatch.setattr(NoTokenizer, "pad_token_id", VOCABULARY)
    generated = TransformersEngine(loaded(), max_new_tokens=5, batch_tokens=600).generate(prompts)
    assert [one.tokens for one in generated] == [one.tokens for one in wanted]


def test_a_model_that_does_not_know_the_token_that_ends_a_turn_is_refused(tmp_path):
    from tiny_model import tiny_model
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model(tmp_path))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|end_of_turn|>"]})
    tokenizer.chat_template = tokenizer.chat_template.replace("<|im_end|>", "<|end_of_turn|>")
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(BadInput, match=r"<\|end_of_turn\|>.*the model knows 275 tokens"):
        load(tmp_path)


@pytest.mark.parametrize("decoding", [Decoding(), Decoding(temperature=0.8, repetition_penalty=1.3)])
def test_how_likely_an_answer_is_counts_its_end_and_no_decoding_setting(decoding):
    prompts = prompts_of(20)
    engine = TransformersEngine(loaded(), max_new_tokens=9, batch_tokens=600, decoding=decoding, logprobs=True)
    generated = engine.generate(prompts, seeds=range(20))
    assert {one.finish_reason for one in generated} == {"stop", "length"}
    said = [[*one.tokens, *([END] if one.finish_reason == "stop" else [])] for one in generated]
    asked = [Continuation([*prompt, *tokens], len(prompt)) for prompt, tokens in zip(prompts, said, strict=True)]
    means = [found / len(tokens) for found, tokens in zip(engine.likelihoods(asked), said, strict=True)]
    assert [one.logprob for one in generated] == pytest.approx(means, abs=1e-3)


@pytest.mark.parametrize("batch_tokens", [1, 100, 10_000])
def test_how_rows_are_batched_changes_nothing(batch_tokens):
    prompts = [*prompts_of(12, shared=0), *prompts_of(3, shared=0, longest=100)]
    results = [
        [one.tokens for one in TransformersEngine(loaded(), max_new_tokens=9, batch_tokens=tokens).generate(prompts)]
        for tokens in (2_000, batch_tokens)
    ]
    assert results[0] == results[1]


def test_a_batch_holds_no_more_tokens_than_it_may(monkeypatch):
    shapes = []
    kept = KeyValueCache.shape
    monkeypatch.setattr(
        KeyValueCache, "shape", lambda self, rows, width: (shapes.append((rows, width)), kept(self, rows, width))
    )
    TransformersEngine(loaded(), max_new_tokens=8, batch_tokens=256).generate(prompts_of(60))
    answered = [rows * width for rows, width in shapes if rows > 2]
    assert len(answered) > 3
    assert max(answered) <= 256


def test_equal_prompts_are_answered_once_and_each_has_its_answer(monkeypatch):
    shapes = []
    kept = KeyValueCache.shape
    monkeypatch.setattr(
        KeyValueCache, "shape", lambda self, rows, width: (shapes.append(rows), kept(self, rows, width))
    )
    one, other = prompts_of(2)
    engine = TransformersEngine(loaded(), max_new_tokens=5, batch_tokens=10_000)
    shapes.clear()
    answers = [answer.tokens for answer in engine.generate([one, other, one, one])]
    assert answers[0] == answers[2] == answers[3]
    assert max(shapes) == 2


def test_no_prompts_have_no_answers_and_a_single_token_is_a_prompt():
    model = loaded()
    engine = TransformersEngine(model, max_new_tokens=4, batch_tokens=256)
    assert engine.generate([]) == []
    (answer,) = engine.generate([[7]])
    assert (answer.tokens, answer.finish_reason) == alone(model, [7], 4)


def test_progress_tells_every_row():
    told = []
    engine = TransformersEngine(loaded(), max_new_tokens=6, batch_tokens=400)
    engine.generate(prompts_of(20), lambda done, of: told.append((done, of)))
    assert told[-1] == (20, 20)
    assert told == sorted(told)


def test_the_shared_beginning_leaves_a_token_to_start_from():
    assert common_prefix([[1, 2, 3], [1, 2, 3, 4]]) == [1, 2]
    assert common_prefix([[1, 2, 3], [1, 5]]) == [1]
    assert common_prefix([[1], [1]]) == []
    assert common_prefix([]) == []


def test_a_model_that_batches_differently_is_refused():
    model = loaded()
    kept = model.model.forward

    def forgetful(*args, position_ids=None, **kwargs):
        return kept(*args, position_ids=None if position_ids is None else position_ids * 0, **kwargs)

    model.model.forward = forgetful
    with pytest.raises(BadInput, match="the engine `transformers` cannot run LlamaForCausalLM"):
        TransformersEngine(model, max_new_tokens=4, batch_tokens=256)
