"""The engine `vllm` says what the engine `transformers` says, token by token, in fp32; it has an environment of its own."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from pydantic import ValidationError

from nightshift.errors import BadEnvironment
from nightshift.inference.vllm_engine import VllmEngine, tensor_parallel
from nightshift.settings.decoding import Decoding
from nightshift.settings.policies import Inference

ROOT = Path(__file__).parents[2]
ALONE = importlib.util.find_spec("vllm") is None
SCHEMA = {
    "type": "object",
    "properties": {"intent": {"enum": ["card", "cash", "other"]}, "urgent": {"type": "boolean"}},
    "required": ["intent", "urgent"],
    "additionalProperties": False,
}
PATTERN = "(yes|no), [a-z]{3,5}"
PENALTIES = {"repetition_penalty": 1.2, "frequency_penalty": 0.3, "presence_penalty": 0.2}


@pytest.mark.skipif(not ALONE, reason="vLLM is here")
def test_vllm_is_refused_where_it_is_not(tmp_path):
    with pytest.raises(BadEnvironment, match=r"inference\.engine is vllm, but the package vllm is not installed"):
        VllmEngine(tmp_path, max_new_tokens=4, decoding=Decoding(), settings=Inference())


@pytest.mark.parametrize(
    ("gpus", "heads", "key_heads", "parallel"),
    [(8, 64, 8, 8), (8, 28, 4, 4), (8, 9, 3, 3), (2, 9, 3, 1), (6, 32, 8, 4), (0, 32, 8, 1), (16, 64, 8, 16)],
)
def test_a_model_is_divided_over_as_many_gpus_as_its_heads_allow(gpus, heads, key_heads, parallel):
    assert tensor_parallel(gpus, heads, key_heads) == parallel


def test_what_is_further_told_to_vllm_replaces_nothing_that_nightshift_sets():
    given = Inference.model_validate({"vllm": {"arguments": {"quantization": "fp8"}}})
    assert given.model_dump()["vllm"]["arguments"] == {"quantization": "fp8"}
    assert "vllm" not in Inference().model_dump()
    for name, more in (("trust_remote_code", {}), ("enable_lora", {"adapters": True})):
        with pytest.raises(ValidationError, match=f"{name}: Nightshift sets this itself"):
            Inference.model_validate({"engine": "vllm", "vllm": {"arguments": {name: True}, **more}})
    without = Inference.model_validate({"vllm": {"arguments": {"enable_lora": True}}})
    assert without.model_dump()["vllm"]["arguments"] == {"enable_lora": True}


@pytest.mark.parametrize("engine", ["auto", "transformers"])
def test_adapters_are_refused_where_another_engine_may_answer(engine):
    with pytest.raises(ValidationError, match=rf"vllm\.adapters: only vLLM serves adapters.*not {engine}"):
        Inference.model_validate({"engine": engine, "vllm": {"adapters": True}})


@pytest.fixture(scope="module")
def small():
    """The built-in model in fp32, its folder, and 64 prompts of the sample: messages with several in every fourth."""
    from test_inference_speed import prompts_of

    from nightshift.inference.model import load
    from nightshift.training.base_model import resolve_base_model

    folder = resolve_base_model("smollm2-135m-instruct")
    loaded = load(folder)
    loaded.model.float()
    return loaded, str(folder), prompts_of(loaded.tokenizer)


@pytest.fixture(scope="module")
def families(tmp_path_factory, small):
    """Folders of random models of other families, with the built-in model's tokenizer."""
    import torch
    from transformers import MistralConfig, MistralForCausalLM, Qwen2Config, Qwen2ForCausalLM

    shape = {
        "vocab_size": len(small[0].tokenizer), "hidden_size": 128, "intermediate_size": 128, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512, "eos_token_id": 2,
        "bos_token_id": 1, "pad_token_id": 2,
    }  # fmt: skip
    made = {
        "mistral": lambda: MistralForCausalLM(MistralConfig(**shape, sliding_window=24)),
        "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**shape)),
    }
    folders = {}
    for name, make in made.items():
        torch.manual_seed(3)
        model = make().eval()
        for weights in model.parameters():
            weights.data.mul_(4)  # logits are spread, so that a greedy choice is no matter of the last digit
        folders[name] = str(tmp_path_factory.mktemp(name))
        model.to(torch.bfloat16).save_pretrained(folders[name])  # as both read it, whatever they compute in
        small[0].tokenizer.save_pretrained(folders[name])
    return folders


@pytest.fixture(scope="module")
def answers(tmp_path_factory, vllm_python, small, families):
    """What vLLM answers to every question of this module, from one process without a compiler, as in its image."""
    _, folder, prompts = small
    end = small[0].tokenizer.eos_token_id
    few = prompts[:6]
    questions = {
        "greedy": {"prompts": [*prompts, prompts[0]], "most": 24},
        "wanted": {
            **{"prompts": few, "most": 4, "references": [[*prompt[-5:], end] for prompt in few]},
            "continuations": [[prompt, start] for prompt in few for start in (1, len(prompt) - 1)],
        },
        "penalties": {"prompts": few, "most": 24, "decoding": PENALTIES},
        "stop": {"prompts": few, "most": 24, "decoding": {"stop": [" the", "."]}},
        "drawn": {"prompts": few, "most": 12, "decoding": {"temperature": 1, "top_p": 0.9}, "seeds": [*range(6)]},
        "drawn in another order": {
            **{"prompts": few[::-1], "most": 12, "decoding": {"temperature": 1, "top_p": 0.9}},
            "seeds": [*range(6)][::-1],
        },
        "schema": {"prompts": few, "most": 40, "decoding": {"json_schema": SCHEMA}},
        "regex": {"prompts": few, "most": 24, "decoding": {"regex": PATTERN}},
        "look behind": {"prompts": few, "most": 24, "decoding": {"regex": "(?<=a)b"}},
        "short": {"prompts": [[5, 6, 7]], "most": 4, "settings": {"vllm": {"max_model_len": 128}}},
        "misspelled": {"prompts": few, "most": 4, "settings": {"vllm": {"arguments": {"quantisation": "fp8"}}}},
        **{name: {"model": path, "prompts": prompts, "most": 16} for name, path in families.items()},
    }
    return ask(vllm_python, tmp_path_factory.mktemp("vllm"), {n: {"model": folder, **q} for n, q in questions.items()})


def ask(vllm_python, work, questions):
    """The answers of one process to named questions."""
    asked = list(questions.values())
    (work / "questions.json").write_text(json.dumps(asked))
    command = [vllm_python, Path(__file__).with_name("vllm_answers.py"), work / "questions.json", work / "answers.json"]
    without_compiler = {"CXX": "/bin/false", "TORCHINDUCTOR_CACHE_DIR": str(work / "compiled")}
    environment = {**os.environ, **without_compiler, "PYTHONPATH": str(ROOT / "include"), "HF_HUB_OFFLINE": "1"}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-5000:]
    return dict(zip(questions, json.loads((work / "answers.json").read_text()), strict=True))


@pytest.fixture(scope="module")
def adapted(tmp_path_factory, vllm_python, small, families):
    """By name: the merged model's folder, the prompts, and what vLLM answers with base model and adapter to these."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from nightshift.inference.adapter import CONFIG

    torch.manual_seed(4)

    made, prompts = {}, small[2][:6]
    how = {"plain": (small[1], {"r": 12}), "rslora": (families["qwen2"], {"r": 8, "use_rslora": True})}
    for name, (base, settings) in how.items():
        merged, folder = tmp_path_factory.mktemp("merged"), tmp_path_factory.mktemp("adapter")
        model = AutoModelForCausalLM.from_pretrained(base, dtype="float32")
        model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", **settings))
        for weights in (weight for name, weight in model.named_parameters() if ".lora_B." in name):
            weights.data.normal_(0, 0.03)
        model.save_pretrained(folder)
        assert json.loads((folder / CONFIG).read_text())["base_model_name_or_path"] == base
        model.merge_and_unload().save_pretrained(merged)
        for each in (folder, merged):
            small[0].tokenizer.save_pretrained(each)
        for file in ("config.json", "generation_config.json"):
            shutil.copy(merged / file, folder)
        made[name] = (str(merged), str(folder))
    asked = {
        "prompts": prompts, "most": 16, "settings": {"engine": "vllm", "vllm": {"adapters": True}},
        "references": [prompt[-5:] for prompt in prompts], "continuations": [[prompt, 1] for prompt in prompts],
    }  # fmt: skip
    work = tmp_path_factory.mktemp("adapted")
    found = ask(vllm_python, work, {name: {"model": folder, **asked} for name, (_, folder) in made.items()})
    return {name: (merged, prompts, found[name]) for name, (merged, _) in made.items()}


def ours(loaded, prompts, most, references=None, **how):
    from nightshift.inference.transformers_engine import TransformersEngine

    engine = TransformersEngine(loaded, max_new_tokens=most, batch_tokens=16_384, **how)
    return engine.generate(prompts, references=references)


def spoken(rows):
    return [(tokens, reason) for tokens, reason, *_ in rows]


@pytest.mark.slow
@pytest.mark.nightly
def test_greedy_answers_are_those_of_transformers(answers, small):
    loaded, _, prompts = small
    expected = [(one.tokens, one.finish_reason) for one in ours(loaded, prompts, 24)]
    found = answers["greedy"]
    assert spoken(found["rows"]) == [*expected, expected[0]]
    assert {reason for _, reason in expected} == {"stop", "length"}
    assert all(latency > 0 for _, _, latency, *_ in found["rows"])
    assert found["told"][-1] == [65, 65]
    assert len(found["told"]) > 30
    assert (found["device"], found["precision"], found["longest"]) == ("cpu", "float32", 8191)


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.parametrize("family", ["mistral", "qwen2"])
def test_models_of_other_families_answer_as_with_transformers(answers, small, families, family):
    from nightshift.inference.model import load

    loaded = load(Path(families[family]))
    loaded.model.float()
    expected = [(one.tokens, one.finish_reason) for one in ours(loaded, small[2], 16)]
    assert spoken(answers[family]["rows"]) == expected


@pytest.mark.slow
@pytest.mark.nightly
def test_an_answer_is_as_likely_as_transformers_finds_it(answers, small):
    loaded, _, prompts = small
    wanted = [[*prompt[-5:], loaded.tokenizer.eos_token_id] for prompt in prompts[:6]]
    expected = [one.reference_loss for one in ours(loaded, prompts[:6], 4, references=wanted)]
    assert [loss for *_, loss, _ in answers["wanted"]["rows"]] == pytest.approx(expected, rel=1e-3)


@pytest.mark.slow
@pytest.mark.nightly
def test_a_text_is_as_likely_as_transformers_finds_it(answers, small):
    from nightshift.inference.engine import Continuation
    from nightshift.inference.likelihood import log_likelihoods

    loaded, _, prompts = small
    texts = [Continuation(prompt, start) for prompt in prompts[:6] for start in (1, len(prompt) - 1)]
    assert answers["wanted"]["likelihoods"] == pytest.approx(log_likelihoods(loaded.model, texts), rel=1e-3, abs=1e-3)


@pytest.mark.slow
@pytest.mark.nightly
def test_penalties_change_answers_as_they_do_with_transformers(answers, small):
    loaded, _, prompts = small
    expected = ours(loaded, prompts[:6], 24, decoding=Decoding(**PENALTIES), logprobs=True)
    assert spoken(answers["penalties"]["rows"]) == [(one.tokens, one.finish_reason) for one in expected]
    assert [one[-1] for one in answers["penalties"]["rows"]] == pytest.approx(
        [one.logprob for one in expected], rel=1e-2
    )
    assert answers["penalties"]["rows"] != answers["greedy"]["rows"][:6]


@pytest.mark.slow
@pytest.mark.nightly
def test_stop_strings_end_an_answer_where_they_do_with_transformers(answers, small):
    loaded, _, prompts = small
    expected = ours(loaded, prompts[:6], 24, decoding=Decoding(stop=[" the", "."]))
    assert spoken(answers["stop"]["rows"]) == [(one.tokens, one.finish_reason) for one in expected]
    assert any(reason == "stop" for _, reason in spoken(answers["stop"]["rows"]))


@pytest.mark.slow
@pytest.mark.nightly
def test_what_is_drawn_depends_on_the_seed_of_the_row_alone(answers):
    drawn = spoken(answers["drawn"]["rows"])
    assert drawn == spoken(answers["drawn in another order"]["rows"])[::-1]
    assert drawn != spoken(answers["greedy"]["rows"])[:6]


@pytest.mark.slow
@pytest.mark.nightly
def test_answers_have_the_form_that_is_asked_for_and_are_those_of_transformers(answers, small):
    loaded, _, prompts = small
    for name, most, decoding in (("schema", 40, Decoding(json_schema=SCHEMA)), ("regex", 24, Decoding(regex=PATTERN))):
        expected = ours(loaded, prompts[:6], most, decoding=decoding)
        assert spoken(answers[name]["rows"]) == [(one.tokens, one.finish_reason) for one in expected]
    text = [small[0].tokenizer.decode(tokens) for tokens, _ in spoken(answers["schema"]["rows"])]
    for found in map(json.loads, text):
        assert found["intent"] in {"card", "cash", "other"}
        assert isinstance(found["urgent"], bool)
    for tokens, reason in spoken(answers["regex"]["rows"]):
        assert re.fullmatch(PATTERN, small[0].tokenizer.decode(tokens))
        assert reason == "stop"
    assert "vLLM cannot apply decoding.regex" in answers["look behind"]["refused"]


@pytest.mark.slow
@pytest.mark.nightly
def test_prompt_and_answer_are_as_long_as_the_settings_allow(answers):
    assert answers["short"]["longest"] == 127


@pytest.mark.slow
@pytest.mark.nightly
def test_an_argument_that_vllm_does_not_have_is_named(answers):
    assert "vLLM cannot run the model with these settings of inference.vllm: " in answers["misspelled"]["refused"]
    assert "'quantisation'" in answers["misspelled"]["refused"]


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.parametrize("kind", ["plain", "rslora"])
def test_a_base_model_with_its_adapter_answers_as_the_merged_model_does(adapted, small, monkeypatch, kind):
    import torch

    from nightshift.inference import model
    from nightshift.inference.engine import Continuation
    from nightshift.inference.likelihood import log_likelihoods

    merged, prompts, found = adapted[kind]
    monkeypatch.setattr(model, "fast_dtype", lambda: torch.float32)  # of these weights bf16 would cut digits
    loaded = model.load(Path(merged))
    expected = ours(loaded, prompts, 16, references=[prompt[-5:] for prompt in prompts])
    assert spoken(found["rows"]) == [(one.tokens, one.finish_reason) for one in expected]
    assert spoken(found["rows"]) != [(one.tokens, one.finish_reason) for one in ours(small[0], prompts, 16)]
    losses = [loss for *_, loss, _ in found["rows"]]
    assert losses == pytest.approx([one.reference_loss for one in expected], rel=1e-3)
    texts = [Continuation(prompt, 1) for prompt in prompts]
    assert found["likelihoods"] == pytest.approx(log_likelihoods(loaded.model, texts), rel=1e-3)
