"""Both engines learn the same; the one for long rows with every family, ZeRO stage and method, and after a stop."""

import json

import pytest
import torch
from small_trainings import INTENTS

pytestmark = pytest.mark.slow
STOCK = {"engine": "stock"}
LORA = {"method": "lora", "lora_rank": 4, "learning_rate": 0.1}


def alone(trained, tokenizer):
    """Nats per answer token of a model that was written, on the held-out examples one by one, by its own forward pass."""
    from transformers import AutoModelForCausalLM

    from nightshift.settings.prompt import Prompt
    from nightshift.training.chat_template import ChatTemplate
    from nightshift.training.tokens import tokenize

    model = AutoModelForCausalLM.from_pretrained(
        trained.output / "model", dtype=torch.float32, attn_implementation="eager"
    )
    rows = [
        {
            "digest": "",
            "messages": [
                {"role": "user", "content": f"{'so ' * (number % 5)}help {number} with {INTENTS[number % 3]}"},
                {"role": "assistant", "content": INTENTS[number % 3]},
            ],
        }
        for number in range(5)
    ]
    total = count = 0.0
    with torch.inference_mode():
        for example in tokenize(rows, ChatTemplate(tokenizer, Prompt())):
            logits = model(torch.tensor([[*example.prompt, *example.answer]])).logits[0, len(example.prompt) - 1 : -1]
            total += torch.nn.functional.cross_entropy(logits, torch.tensor(example.answer), reduction="sum").item()
            count += len(example.answer)
    return total / count


@pytest.mark.parametrize(
    "settings", [{"zero_stage": 0}, pytest.param({"zero_stage": 3, "trained_layers": 1}, marks=pytest.mark.nightly)]
)
def test_both_engines_learn_the_same_from_the_same_rows(train, settings):
    short, stock = (train(1, engine, engine=engine, shared=False, **settings) for engine in ("short_rows", "stock"))
    assert stock.losses == pytest.approx(short.losses, rel=1e-4)
    assert stock.held_out == pytest.approx(short.held_out, rel=1e-4)
    for name, tensor in short.weights.items():
        assert stock.weights[name].numpy() == pytest.approx(tensor.numpy(), abs=1e-4), name


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("llama", {"zero_stage": 0, "processes": 1}),
        ("qwen2", {"zero_stage": 2}),
        ("qwen3", {"zero_stage": 3, "gradient_checkpointing": "full"}),
        ("gpt2", {"zero_stage": 1, **LORA}),
        ("gemma3_text", {"zero_stage": 3, **LORA}),
        pytest.param("mistral", {"zero_stage": 1}, marks=pytest.mark.nightly),
        pytest.param("phi", {"zero_stage": 3, "offload": "all"}, marks=pytest.mark.nightly),
        pytest.param("mistral", {"zero_stage": 2, **LORA}, marks=pytest.mark.nightly),
        pytest.param("phi", {"zero_stage": 0, **LORA}, marks=pytest.mark.nightly),
        pytest.param("gpt2", {"zero_stage": 3}, marks=pytest.mark.nightly),
        pytest.param("llama", {"zero_stage": 1, "torch_compile": True, "processes": 1}, marks=pytest.mark.nightly),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else value,
)
def test_the_model_that_is_written_has_learned_and_has_the_loss_that_was_measured(train, tokenizer, family, settings):
    trained = train(settings.get("processes", 2), "model", family=family, **STOCK, **settings)
    # An adapter to random weights has little to learn with.
    assert trained.losses[max(trained.losses)] < (0.99 if "method" in settings else 0.9) * trained.losses[1]
    assert alone(trained, tokenizer) == pytest.approx(trained.held_out[-1], rel=1e-4)


def test_a_stopped_training_goes_on_to_the_same_weights_bit_for_bit(train):
    settings = {**STOCK, "gradient_checkpointing": "full", "learning_rate_schedule": "wsd", "precision": "bf16"}
    straight = train(1, "straight", **settings)
    first = train(1, "stopped", stop_after=4, **settings)
    second = train(1, "stopped", **settings)
    assert {**first.losses, **second.losses} == straight.losses
    assert all(second.weights[name].equal(tensor) for name, tensor in straight.weights.items())


@pytest.mark.parametrize(
    ("world", "settings"),
    [
        (1, {"engine": "short_rows"}),
        (2, {**STOCK, "zero_stage": 3}),
        pytest.param(2, {**STOCK, **LORA}, marks=pytest.mark.nightly),
    ],
)
def test_it_ends_early_with_the_weights_of_the_lowest_held_out_loss(train, tokenizer, world, settings):
    settings = {
        "epochs": 20,
        "learning_rate_schedule": "constant",
        "early_stopping": 3,
        "evaluate_steps": 2,
        **settings,
    }
    trained = train(world, "early", **{"learning_rate": 0.1, **settings})
    # The last one is measured again, of the weights that were put back.
    *judged, measured = trained.held_out
    best = min(judged)
    assert measured == pytest.approx(best, rel=1e-5)
    assert judged.index(best) == len(judged) - 4
    assert alone(trained, tokenizer) == pytest.approx(best, rel=1e-4)


def test_what_an_adapter_is_told_is_in_its_file_and_in_what_is_merged(train, tokenizer):
    adapter = {
        "lora_alpha": 12,
        "lora_dropout": 0.1,
        "lora_targets": ["q_proj", "down_proj"],
        "rslora": True,
        "dora": True,
    }
    trained = train(1, "adapter", **STOCK, **LORA, **adapter)
    config = json.loads((trained.output / "adapter" / "adapter_config.json").read_text())
    told = {name: config[name] for name in ("r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora")}
    assert told == {"r": 4, "lora_alpha": 12, "lora_dropout": 0.1, "use_rslora": True, "use_dora": True}
    assert set(config["target_modules"]) == {"q_proj", "down_proj"}
    assert alone(trained, tokenizer) == pytest.approx(trained.held_out[-1], rel=1e-4)


def test_an_adapter_may_adapt_the_embeddings_too(train, tokenizer):
    trained = train(1, "adapter", family="llama-untied", **STOCK, **LORA, lora_targets=["q_proj", "embed_tokens"])
    config = json.loads((trained.output / "adapter" / "adapter_config.json").read_text())
    assert set(config["target_modules"]) == {"q_proj", "embed_tokens"}
    assert alone(trained, tokenizer) == pytest.approx(trained.held_out[-1], rel=1e-4)


@pytest.mark.nightly
def test_an_adapter_to_weights_in_four_bits_learns_and_is_merged_into_the_whole_ones(train, tokenizer):
    pytest.importorskip("bitsandbytes", reason="not among the requirements: docs/training.md")
    whole, quantized = (
        train(1, name, family="granite", shared=False, **STOCK, **LORA, quantize=name, precision="bf16")
        for name in ("none", "nf4")
    )
    assert quantized.losses != whole.losses  # four bits are not the same weights,
    assert quantized.losses[1] == pytest.approx(whole.losses[1], rel=0.05)  # but near them
    assert quantized.losses[max(quantized.losses)] < 0.99 * quantized.losses[1]
    assert alone(quantized, tokenizer) == pytest.approx(quantized.held_out[-1], rel=0.05)


@pytest.mark.nightly
def test_a_stop_does_not_change_where_it_ends_early(train):
    settings = {
        "learning_rate": 0.1,
        "epochs": 20,
        "learning_rate_schedule": "constant",
        "early_stopping": 3,
        "evaluate_steps": 2,
    }
    straight = train(1, "straight", **settings)
    first = train(1, "stopped", stop_after=5, **settings)
    second = train(1, "stopped", **settings)
    assert first.held_out + second.held_out == straight.held_out
    assert all(second.weights[name].equal(tensor) for name, tensor in straight.weights.items())
