"""Which logged prompts a candidate answers: unlike all that was trained on, the newest first, those that can be compared."""

import candidates
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from upath import UPath

from nightshift.data.interactions import INTERACTIONS
from nightshift.monitoring.due_nights import answered_night
from nightshift.monitoring.logged_prompts import COLUMNS, logged_prompts
from nightshift.settings.application import Application
from nightshift.settings.shadow import Shadow
from nightshift.storage.files import scratch
from nightshift.storage.partition import Parent, partition_of, publish

publish_day = candidates.publish_day
TRAINED_ON = "my new card has not arrived yet, when does it come?"
JUDGE = {"url": "https://llm.example.com/v1", "model": "m"}


@pytest.fixture
def storage(tmp_path):
    return (tmp_path / "storage").as_uri()


def application(**settings):
    shadow = Shadow(**{"prompts": 30, "min_prompts": 10, **settings.pop("shadow", {})})
    return Application(
        name="app", sources=[{"uri": "rows.jsonl", "columns": {"prompt": "text"}}], shadow=shadow, **settings
    )


@pytest.fixture
def night(storage, publish_day):
    """A function that publishes prompts (text, subject) and the champion's answers to them."""

    def answered(day, asked, *, reference="card arrival", judge=None, inputs=None):
        rows = [(text, reference, "traffic", subject) for text, subject in asked]
        prompts, manifest = publish_day(day, [(TRAINED_ON, "x", "train", None), *rows])
        table = {
            "row": list(range(len(rows))),
            "digest": [candidates.example(text, reference)["digest"] for text, _ in asked],
            "prompt": [text for text, _ in asked],
            "reference": pa.array([reference] * len(rows), pa.string()),
            "response": ["card arrival"] * len(rows),
            "valid": [1.0] * len(rows),
            "judge": pa.array([judge] * len(rows), pa.float32()),
            "latency_ms": [20.0] * len(rows),
            "response_tokens": [2] * len(rows),
            "response_characters": [12] * len(rows),
        }
        folder = scratch(UPath(storage))
        pq.write_table(pa.table(table).select(COLUMNS), folder / INTERACTIONS)
        at = partition_of(storage, "app", "interactions", day)
        made = publish(
            at, folder, kind="interactions", application="app", interval=manifest.interval, counts={"rows": len(rows)},
            inputs={"response_format": "text", "judge": None, **(inputs or {})}, facts={"model_digest": "c", "cost": 0.5},
            parents=[Parent(uri=str(prompts), digest=manifest.digest)],
        )  # fmt: skip
        return answered_night(at, made)

    return answered


def asked(count, words="where is card number"):
    return [(f"{words} {n * 7919} of mine", f"user {n // 2}") for n in range(count)]


def drawn(nights, storage, app=None, salt="s"):
    return logged_prompts(nights, app or application(), storage, salt)


def test_what_resembles_a_training_row_is_left_out_and_a_subject_is_one_unit(night, storage):
    found = drawn([night("2026-11-03", [*asked(20), (TRAINED_ON.upper(), "user 99")])], storage)
    assert {row["prompt"] for row in found.rows} == {text for text, _ in asked(20)}
    assert [row["prompt"] for row in found.rows] == [row["prompt"] for row in found.examples]
    assert {row["unit"] for row in found.rows} == {f"user {n}" for n in range(10)}
    assert found.rows[0]["unit"] == found.rows[1]["unit"]
    assert found.rows[0]["cost"] == pytest.approx(0.5 / 21)
    assert found.judged_by == "reference"


def test_the_newest_night_comes_first_and_earlier_ones_only_fill_it_up(night, storage):
    nights = [night("2026-11-04", asked(20, "why is fee number")), night("2026-11-03", asked(40))]
    found = drawn(nights, storage)
    assert len(found.rows) == 30
    assert sum("fee" in row["prompt"] for row in found.rows) == 20
    assert drawn(nights, storage, application(shadow={"prompts": 20})).nights == nights[:1]


def test_another_candidate_gets_other_rows_and_the_same_one_the_same(night, storage):
    nights = [night("2026-11-03", asked(200))]
    texts = [[row["prompt"] for row in drawn(nights, storage, salt=salt).rows] for salt in ("s", "s", "t")]
    assert texts[0] == texts[1]
    assert set(texts[0]) != set(texts[2])


def test_without_known_answers_the_judge_compares_and_only_the_same_judge(night, storage):
    app = application(judge=JUDGE)
    same = night("2026-11-03", asked(40), reference=None, judge=0.8, inputs={"judge": app.judged_by})
    assert drawn([same], storage, app).judged_by == "judge"
    other = night("2026-11-04", asked(40), reference=None, judge=0.8, inputs={"judge": {"model": "another"}})
    found = drawn([other], storage, app)
    assert (found.judged_by, len(found.rows)) == (None, 10)
    assert found.rows[0]["judge"] is None
