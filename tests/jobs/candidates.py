"""From rows to a candidate that was judged, without a real model: fixtures for the tests of jobs and of a release.

Libraries are imported where they are used, because most tests beside those of a release need none of them.
"""

import os
import random
import re
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from nightshift.settings.application import Application, Evaluation
from nightshift.settings.gate import Gate
from nightshift.settings.intake import Source
from nightshift.settings.interval import Interval
from nightshift.settings.training import Training
from nightshift.storage.files import scratch
from nightshift.storage.manifest import digest_of
from nightshift.storage.partition import partition_of, publish
from nightshift.verdict import Verdict


@pytest.fixture
def progress():
    """A job's progress; it takes over stdout, which is given back after the test."""
    from nightshift.jobs.progress import Progress

    kept = os.dup(1)
    yield Progress("test")
    os.dup2(kept, 1)
    os.close(kept)


def example(prompt, answer="an answer", split="train", subject=None, rejected=None, metadata=(), row=1):  # noqa: PLR0917
    """One row of examples.parquet."""
    from nightshift.data.examples import digest_of_messages

    messages = [{"role": "user", "content": prompt}]
    if answer is not None:
        messages.append({"role": "assistant", "content": answer})
    digest = digest_of_messages(messages, rejected=rejected)
    return {
        "digest": digest,
        "messages": messages,
        "rejected": rejected,
        "prompt": prompt,
        "answer": answer,
        "source": "planted",
        "source_row": row,
        "id": None,
        "subject": subject,
        "timestamp": None,
        "metadata": list(metadata),
        "language": "en",
        "prompt_characters": len(prompt),
        "prompt_tokens": len(prompt.split()),
        "answer_tokens": len((answer or "").split()),
        "pii": [],
        "group": digest,
        "split": split,
    }


@pytest.fixture
def publish_day(storage):
    """A function that publishes rows, each as the arguments of `example`, as a day, judged by `verdict` unless None."""
    from nightshift.data.acceptance import record_acceptance
    from nightshift.data.examples import EXAMPLE_SCHEMA, EXAMPLES, RowWriter

    def publish_rows(day, rows, *, application="app", verdict=Verdict.PASS, reasons=(), version=1):
        start = datetime.fromisoformat(day).replace(tzinfo=UTC)
        interval = Interval(start=start, end=start + timedelta(days=1))
        partition = partition_of(storage, application, "examples", interval.key)
        folder = scratch(partition)
        with RowWriter(folder / EXAMPLES, EXAMPLE_SCHEMA) as writer:
            writer.write([example(*row, row=number) for number, row in enumerate(rows, 1)])
        manifest = publish(
            partition,
            folder,
            kind="examples",
            application=application,
            inputs={"day": day, "version": version},
            interval=interval,
            rows={EXAMPLES: len(rows)},
        )
        shutil.rmtree(folder, ignore_errors=True)
        if verdict is not None:
            record_acceptance(partition, manifest.digest, verdict, reasons)
        return partition, manifest

    return publish_rows


CHAT = (
    "{% for m in messages %}{{ '<|start|>' + m['role'] + '\n' + m['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant\n' }}{% endif %}"
)


@dataclass(frozen=True)
class TinyModels:
    """Model folders with one tokenizer: random weights, and weights that learned one answer to everything."""

    random: str
    trained: str
    answer: str


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory):
    """A random and a trained language model of some 40,000 parameters, in the form in which real ones come."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|start|>", "<|end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(["card arrival", "my card has not arrived", "user assistant"], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|end|>")
    fast.chat_template = CHAT

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(fast), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, eos_token_id=fast.eos_token_id, bos_token_id=None, pad_token_id=fast.pad_token_id,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    for name in ("random", "trained"):
        model.to(torch.bfloat16).save_pretrained(folder / name)
        fast.save_pretrained(folder / name)
        if name == "random":
            _teach(model.float(), fast, "card arrival")
    return TinyModels(str(folder / "random"), str(folder / "trained"), "card arrival")


def _teach(model, tokenizer, answer):
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    chance = random.Random(1)
    for _ in range(300):
        text = "".join(chance.choices("abcdefghijklmnopqrstuvwxyz 0123456789", k=30))
        text = f"<|start|>user\n{text}<|end|><|start|>assistant\n{answer}<|end|>"
        tokens = torch.tensor([tokenizer(text)["input_ids"]])
        model(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.fixture
def publish_model(storage, tmp_path):
    """A function that publishes a model folder as the partition of a trained model of application `app`."""

    def publish_folder(folder, *, application="app", seed=1, parents=()):
        work = tmp_path / "publish"
        shutil.copytree(folder, work / "model")
        inputs = {"planted": seed}
        partition = partition_of(storage, application, "models", digest_of(inputs)[:16])
        manifest = publish(partition, work, kind="model", application=application, inputs=inputs, parents=list(parents))
        return partition, manifest

    return publish_folder


@pytest.fixture
def judged(request, storage, progress, publish_day, publish_model, tiny_models, mlflow_server):  # noqa: PLR0917
    """A function that publishes and evaluates a model against all there is, and returns the spec that registers it."""
    from nightshift.jobs import evaluate, register, snapshot
    from nightshift.registry.tracking import TrackingRun

    name = "judged_" + re.sub(r"\W", "_", request.node.name)[5:50].rstrip("_")

    def evaluated(seed=1, folder=tiny_models.trained, min_score=0.0, other_answers=0, **settings):
        application = Application(
            name=name,
            description="Names the intent of a message.",
            sources=[Source(uri="rows.jsonl", columns={"prompt": "text", "answer": "answer"})],
            training=Training(min_examples=1),
            evaluation=Evaluation(max_examples=20, max_new_tokens=8),
            gate=Gate(min_examples=10, min_score=min_score, max_loss_to_champion=1),
            **settings,
        )
        held_out = [
            (
                f"where is card number {n * 7919} of mine",
                "another" if other_answers and n % other_answers else tiny_models.answer,
                "held_out",
            )
            for n in range(30)
        ]
        publish_day("2026-11-02", [("a training row", "x", "train"), *held_out], application=name)
        made = snapshot.run(snapshot.Spec(application=application, storage=storage), progress)
        model, manifest = publish_model(folder, application=name, seed=seed)
        TrackingRun(name, key=f"train-{model.name}", name="train").finish()
        common = {"application": application, "storage": storage, "model": str(model), "model_digest": manifest.digest}
        result = evaluate.run(
            evaluate.Spec(**common, snapshot=made.snapshot, digest=made.digest, base_model=tiny_models.random), progress
        )
        return register.Spec(**common, evaluation=result.evaluation, evaluation_digest=result.digest)

    return evaluated


def as_version(spec, progress, **edited):
    """The spec that registers a version of the same weights, with what the application's file says after an edit."""
    from upath import UPath

    from nightshift.jobs import evaluate, register
    from nightshift.storage.application_version import Parts, open_version, publish_version
    from nightshift.storage.manifest import require_manifest

    app = spec.application.model_copy(update=edited)
    weights = open_version(spec.model, spec.model_digest, app).parts.weights
    at, made = publish_version(app, spec.storage, Parts.of(app, weights))
    before = require_manifest(UPath(spec.evaluation)).parents[0]
    model = {"application": app, "storage": spec.storage, "model": str(at), "model_digest": made.digest}
    judged = evaluate.run(
        evaluate.Spec(**model, snapshot=before.uri, digest=before.digest, base_model=app.base_model), progress
    )
    return register.Spec(**model, evaluation=judged.evaluation, evaluation_digest=judged.digest)
