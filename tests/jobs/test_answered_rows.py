"""A night's rows with their responses: what each rests on, the row's own context or found passages, and the steps to it."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from upath import UPath

from nightshift.data.interactions import RETRIEVED
from nightshift.evaluation.interaction_file import answered
from nightshift.inference.answering import (
    LATENCIES,
    RESPONSE_SCHEMA,
    RESPONSES,
    Answering,
    part_address,
)
from nightshift.inference.engines import ENDPOINT
from nightshift.inference.prompts import Prompts
from nightshift.settings.application import Application
from nightshift.storage.files import scratch
from nightshift.storage.partition import publish

ROWS = [("where is my card", None, "traffic"), ("what does it cost", None, "traffic"), ("hi", None, "traffic")]
PASSAGE = {"id": "fees-1", "document": "fees", "score": 0.25, "relevance": 0.5}


OF_BEFORE = pa.list_(pa.struct([field for field in RETRIEVED.value_type if field.name != "relevance"]))


@pytest.fixture
def night(publish_day, storage, tmp_path):
    """A function that returns the rows of a night whose responses have some columns beside those of before."""
    partition, manifest = publish_day("2026-11-03", ROWS)
    prompts = Prompts(partition, manifest, tmp_path)

    def rows(**found):
        digests = prompts.read(0, 2, ["digest"])["digest"].to_pylist()
        columns = {"row": [0, 1, 2], "digest": digests, "response": ["a", "b", "c"], "tokens": [1, 1, 1]}
        columns |= {
            "finish_reason": ["stop"] * 3,
            "reasoning": [""] * 3,
            "reasoning_tokens": [0] * 3,
            "refusal": [""] * 3,
        }
        columns |= {name: values for name, values in found.items() if name != "cost"}
        folder = scratch(UPath(storage))
        fields = [
            pa.field(name, values.type) if isinstance(values, pa.Array) else RESPONSE_SCHEMA.field(name)
            for name, values in columns.items()
        ]
        pq.write_table(pa.table(columns, schema=pa.schema(fields)), folder / RESPONSES)
        costs = {name: values for name, values in found.items() if name == "cost"}
        latencies = {"row": [0, 1, 2], "latency_ms": [1.0, 1.0, 1.0], **costs}
        pq.write_table(pa.table(latencies), folder / LATENCIES)
        at = part_address(UPath(storage) / "app" / "responses" / "x", 0, 2)
        made = publish(at, folder, kind="responses", application="app", inputs={}, rows={RESPONSES: 3})
        return pa.concat_tables(answered(prompts, [(at, made)], tmp_path / "copies"))

    return rows


def test_the_passages_are_the_context_and_the_best_relevance_is_measured(night):
    rows = night(retrieved=[[PASSAGE], [], None], context=["[1] Fees\n    A card costs 5.", None, None])
    assert rows["context"].to_pylist() == ["[1] Fees\n    A card costs 5.", None, None]
    assert rows["retrieved"].to_pylist() == [[PASSAGE], [], None]
    assert rows["retrieval_relevance"].to_pylist() == [0.5, 0.0, None]


def test_responses_of_before_there_were_indexes_sequences_and_costs_are_read_as_ever(night):
    rows = night()
    for name in ("context", "retrieved", "retrieval_relevance", "steps", "cost", "logprob"):
        assert rows[name].to_pylist() == [None] * 3


def test_each_answer_has_what_it_cost_and_the_tokens_that_were_generated_for_it(night):
    rows = night(cost=[0.5, 0.0, 0.25], tokens=[40, 40, 7])
    assert (rows["cost"].to_pylist(), rows["generated_tokens"].to_pylist()) == ([0.5, 0.0, 0.25], [40, 40, 7])


def test_passages_of_before_they_had_a_relevance_are_kept_and_measure_nothing(night):
    passage = {name: value for name, value in PASSAGE.items() if name != "relevance"}
    rows = night(retrieved=pa.array([[passage], [], None], OF_BEFORE), context=["[1] A card costs 5.", None, None])
    assert rows["retrieval_relevance"].to_pylist() == [None, 0.0, None]
    assert rows["retrieved"].cast(RETRIEVED).to_pylist() == [[passage | {"relevance": None}], [], None]


def test_a_night_keeps_what_each_step_said_and_counts_what_all_took(publish_day, storage, tmp_path, serve):
    server = serve(
        lambda body: (200, "card arrival" if body["messages"][-1]["content"].startswith("Which") else "Tomorrow")
    )
    steps = [
        {"name": "intent", "file": {"template": "Which intent? {{$prompt}}"}},
        {"name": "reply", "file": {"template": "{{$intent}}: {{$prompt}}", "input_variables": [{"name": "intent"}]}},
    ]
    endpoint = {"url": server.url, "model": "hosted-1", "price": {"input": 1, "output": 1}}
    sources = [{"uri": "rows.csv", "columns": {"prompt": "text"}}]
    app = Application(name="app", sources=sources, prompt={"steps": steps}, inference={"endpoint": endpoint})
    (tmp_path / ENDPOINT).write_text(json.dumps({"url": server.url, "model": "hosted-1"}))
    partition, manifest = publish_day("2026-11-03", ROWS)
    prompts, responses = Prompts(partition, manifest, tmp_path), UPath(storage) / "app" / "responses" / "x"
    answering = Answering(
        application=app, prompts=prompts, storage=storage, responses=responses, inputs={}, parents=[],
        model_folder=lambda: tmp_path, folder=tmp_path / "index",
    )  # fmt: skip
    made = answering.make(0, 2, lambda _done, _of: None)
    assert (made.counts["tokens"], made.counts["rows"], made.facts["steps"]) == (9, 3, ["intent", "reply"])
    assert made.facts["cost"] > 0
    rows = pa.concat_tables(answered(prompts, [(part_address(responses, 0, 2), made)], tmp_path / "copies")).to_pylist()
    assert {row["response"] for row in rows} == {"Tomorrow"}
    assert rows[0]["steps"] == [
        {"name": "intent", "text": "card arrival", "tokens": 2, "finish_reason": "stop"},
        {"name": "reply", "text": "Tomorrow", "tokens": 1, "finish_reason": "stop"},
    ]
