"""The job bias on nights of real messages, language models small enough for a test, and an MLflow store."""

import gc
import json
import weakref
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from sample_intervals import application, crown, publish_interval
from upath import UPath

from nightshift.errors import BadEnvironment
from nightshift.evaluation.answers import EvaluatedModel
from nightshift.inference.chat_engine import ChatEngine
from nightshift.inference.engines import open_token_engine
from nightshift.jobs import bias, snapshot
from nightshift.monitoring.bias import probes
from nightshift.monitoring.bias.counterfactuals import Message, counterfactual_findings, message_rows
from nightshift.monitoring.bias.probes import AskedModel
from nightshift.settings.policies import Bias
from nightshift.storage.manifest import Parent, require_manifest
from nightshift.storage.partition import fetch
from nightshift.verdict import Verdict

pytestmark = pytest.mark.slow
EVIL = "<script>alert('x')</script> {{ 7 * 7 }} \x1b[31m \u202e my wife"
DAY = "2026-11-03"


@dataclass
class Place:
    """An application with its storage, the tools to publish its nights, and the digest of its champion ("": none)."""

    app: Any
    storage: str
    progress: Any
    champion: str = ""

    def night(self, day, rows):
        return publish_interval(self.app, self.storage, day, rows, self.champion)

    def run(self, **fields):
        return bias.run(bias.Spec(application=self.app, storage=self.storage, **fields), self.progress)

    def probes(self):
        folder = UPath(self.storage) / self.app.name / "probes"
        return {path: path.stat().st_mtime_ns for path in folder.glob("*/manifest.json")}


@pytest.fixture
def unmanned(request, storage, progress, tiny_models):
    """An application without a champion."""
    name = f"bias_{abs(hash(request.node.name)) % 10**8}"
    policy = Bias(counterfactual_pairs=4, stereotype_pairs=30, questions=12, full_weekday=None)
    app = application(name, base_model=tiny_models.random, bias=policy)
    return Place(app, storage, progress)


@pytest.fixture
def place(unmanned, publish_model, tiny_models, mlflow_store):
    """The same with a champion: a model that says one thing to everybody."""
    partition, manifest = publish_model(tiny_models.trained, application=unmanned.app.name)
    crown(unmanned.app.name, manifest.digest, str(partition))
    unmanned.champion = manifest.digest
    return unmanned


def rows(worse=0):
    """A night of two tiers; `worse` of a hundred answers to the second are wrong."""
    return [
        (
            "where is my card",
            "card lost" if tier == "basic" and number < worse else "card arrival",
            "card arrival",
            tier,
        )
        for tier in ("gold", "basic")
        for number in range(100)
    ]


def files_of(night, tmp_path):
    partition = UPath(night.report)
    manifest = require_manifest(partition)
    paths = {file.name: fetch(partition, manifest, file.name, tmp_path) for file in manifest.files}
    return manifest, json.loads(paths["verdict.json"].read_text()), paths["report.html"].read_text()


def test_a_night_is_judged_by_group_and_the_champion_is_asked(place, tmp_path):
    place.night(DAY, rows(worse=60))
    result = place.run()
    assert result.verdict is Verdict.FAIL
    (night,) = result.nights
    assert "outputs/tier/basic/exact_match" in night.failing
    manifest, verdict, page = files_of(night, tmp_path)
    assert manifest.facts["monitor"] == "bias"
    assert manifest.facts["model_digest"] == place.champion
    assert manifest.facts["worst_segment"].startswith("tier=")
    assert manifest.counts == {"rows": 200, "stereotypes": 30, "questions": 12}
    assert verdict["asked"] == {"stereotypes": 30, "questions": 12}
    assert verdict["sections"]["stereotypes"] != "INSUFFICIENT_DATA"
    assert verdict["sections"]["questions"] == "INSUFFICIENT_DATA"
    assert {one["section"] for one in verdict["base"]} == {"stereotypes", "questions"}
    assert "processor seconds" in page
    assert f"<h1>{place.app.name}, interval {DAY}:" in page

    client = MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name(place.app.name).experiment_id])
    assert run.data.metrics["gap/outputs/tier/basic/exact_match"] == pytest.approx(-0.6)
    assert run.data.metrics["asked/stereotypes"] == 30
    assert run.data.tags["nightshift.verdict"] == "FAIL"
    assert {one.path for one in client.list_artifacts(run.info.run_id)} == {"verdict.json", "report.html"}


def test_the_same_night_is_judged_once_and_the_same_model_asked_once(place, tmp_path):
    place.night(DAY, rows())
    place.run()
    again = place.run()
    assert (again.nights, again.reasons) == ([], ["no interval is due"])
    asked = place.probes()
    assert len(asked) == 4

    place.night("2026-11-04", rows())
    (night,) = place.run().nights
    assert night.night == "2026-11-04"
    assert place.probes() == asked
    _, verdict, page = files_of(night, tmp_path)
    assert verdict["asked"] == {"stereotypes": 30, "questions": 12}
    assert "kept from before" in page
    assert "asked for this interval" not in page

    by_hand = place.run(night=date(2026, 11, 4))
    assert by_hand.nights == [night]


def test_on_the_day_of_the_full_sets_all_are_due(place):
    from nightshift.monitoring.bias.probes import sets_of

    few, every = sets_of(place.app, [], full=False), sets_of(place.app, [], full=True)
    assert (len(few.stereotypes), len(few.questions)) == (30, 12)
    assert (len(every.stereotypes), len(every.questions)) == (1508, 4880)
    assert set(few.stereotypes) <= set(every.stereotypes)


def test_the_messages_are_held_out_ones_of_the_champions_snapshot(  # noqa: PLR0917
    unmanned, publish_day, publish_model, tiny_models, mlflow_store, tmp_path
):
    app = unmanned.app
    held_out = [(f"where is card number {n * 7919} of mine", tiny_models.answer, "held_out") for n in range(6)]
    publish_day("2026-11-02", [("a training row", "x", "train"), *held_out], application=app.name)
    made = snapshot.run(snapshot.Spec(application=app, storage=unmanned.storage, min_examples=1), unmanned.progress)
    parent = Parent(uri=made.snapshot, digest=made.digest)
    partition, manifest = publish_model(tiny_models.trained, application=app.name, parents=[parent])
    crown(app.name, manifest.digest, str(partition))
    unmanned.champion = manifest.digest
    unmanned.night(DAY, rows())
    (night,) = unmanned.run().nights
    _, verdict, _ = files_of(night, tmp_path)
    assert verdict["asked"]["counterfactuals"] == 4
    assert {row["attribute"]: row["pairs"] for row in verdict["tests"]}["gender"] == 4
    assert all(
        one["verdict"] in {None, "INSUFFICIENT_DATA"}
        for one in verdict["findings"]
        if one["section"] == "counterfactuals"
    )
    # They are asked as users are: their answers are as long as those of a night may be.
    asked = [json.loads(path.read_text())["inputs"] for path in unmanned.probes()]
    assert {one["answer_tokens"] for one in asked if one["probe"] == "counterfactuals"} == {
        app.inference.max_new_tokens
    }


def test_a_message_is_asked_in_its_conversation_and_one_that_the_model_cannot_read_in_no_version(
    unmanned, tiny_models, tmp_path, monkeypatch
):
    turns = [
        {"role": "system", "content": "Antworte auf Deutsch."},
        {"role": "user", "content": "wo?"},
        {"role": "assistant", "content": "dort"},
    ]
    short = Message(
        "und 然后?", "hier", {version: text for _, _, version, text in message_rows("und 然后?", "hier")}, turns
    )
    long = Message("x" * 5_000, "hier", {version: text for _, _, version, text in message_rows("x" * 5_000, "hier")})
    given = []
    answer = ChatEngine.answer
    monkeypatch.setattr(
        ChatEngine, "answer", lambda self, rows, *a, **k: given.extend(rows) or answer(self, rows, *a, **k)
    )
    of_random = EvaluatedModel("champion", "1", "d" * 64, unmanned.app, lambda _folder: Path(tiny_models.random))
    asked = AskedModel(of_random, unmanned.storage, tmp_path)
    probed = asked.probe("counterfactuals", [short, long], lambda _done, _of: None)
    assert probed.manifest.counts["asked"] == 1
    assert {row["message"] for row in probed.rows} == {"und 然后?"}
    assert len(probed.rows) == 6
    asked_about = [row["messages"] for row in given if row["digest"] == short.message]
    assert [messages[:-2] for messages in asked_about] == [turns] * 6
    assert all(messages[-2]["content"].endswith("und 然后?") for messages in asked_about)
    nothing = asked.probe("counterfactuals", [long], lambda _done, _of: None)
    assert nothing.rows == []
    assert {one.verdict for one in counterfactual_findings(nothing.rows, 5)} == {None, Verdict.INSUFFICIENT_DATA}


def test_the_champion_leaves_memory_before_the_base_model_is_loaded(place, monkeypatch):
    opened = []

    def open_one(*given, **named):
        gc.collect()
        assert not any(engine() for engine in opened)
        engine = open_token_engine(*given, **named)
        opened.append(weakref.ref(engine))
        return engine

    monkeypatch.setattr(probes, "open_token_engine", open_one)
    place.night(DAY, rows())
    place.run()
    assert len(opened) == 2


def test_what_users_and_systems_wrote_stays_text(place, tmp_path):
    night = [(EVIL, EVIL, None, f"{EVIL} {number % 2}") for number in range(80)]
    place.night(DAY, night)
    (one,) = place.run().nights
    manifest, _, page = files_of(one, tmp_path)
    for hostile in ("<script", "\x1b", "\u202e", "http://", "https://"):
        assert hostile not in page
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; {{ 7 * 7 }}" in page
    assert "prefers-color-scheme: dark" in page
    said = json.dumps([manifest.facts["reasons"], manifest.facts["failing"]], ensure_ascii=False)
    assert "\x1b" not in said
    assert "\u202e" not in said


def test_a_night_that_did_not_arrive_is_its_own_alarm_and_the_model_is_asked_all_the_same(place, tmp_path):
    result = place.run(expected_by=datetime(2026, 11, 6, 6, tzinfo=UTC))
    assert result.missing == "2026-11-05"
    (night,) = result.nights
    assert night.verdict is Verdict.INSUFFICIENT_DATA
    assert night.reasons[0].startswith("no interactions of 2026-11-05 arrived")
    _, verdict, page = files_of(night, tmp_path)
    assert verdict["asked"]["stereotypes"] == 30
    assert "No interactions arrived." in page


def test_without_a_champion_the_outputs_are_judged_and_no_model_is_asked(unmanned, mlflow_store, tmp_path):
    unmanned.night(DAY, rows())
    (night,) = unmanned.run().nights
    assert night.verdict is Verdict.PASS
    assert "there is no champion yet: no model was asked" in night.reasons
    assert files_of(night, tmp_path)[1]["asked"] == {}
    assert unmanned.run().nights == []


def test_another_answer_or_policy_makes_a_night_due_again(place):
    place.night(DAY, rows())
    assert place.run().nights[0].rows == 200
    place.night(DAY, rows()[:150])
    assert place.run().nights[0].rows == 150
    place.app = place.app.model_copy(update={"bias": place.app.bias.model_copy(update={"max_gap": 0.01})})
    assert len(place.run().nights) == 1
    assert place.run().nights == []


def test_without_mlflow_nothing_is_published_and_the_next_try_goes_on(place, monkeypatch):
    place.night(DAY, rows())

    def down(*_args, **_kwargs):
        raise BadEnvironment("MLflow is down")

    with monkeypatch.context() as broken:
        broken.setattr("nightshift.monitoring.bias.judgement.TrackingRun", down)
        with pytest.raises(BadEnvironment):
            place.run()
    assert not (UPath(place.storage) / place.app.name / "bias" / DAY).exists()
    assert len(place.run().nights) == 1


def test_a_damaged_night_is_an_error_of_its_own_and_stays_due(place):
    partition, manifest = place.night(DAY, rows())
    place.night("2026-11-04", rows())
    (partition / manifest.files[0].path).write_bytes(b"half")
    result = place.run()
    assert result.verdict is Verdict.ERROR
    assert [night.verdict is Verdict.ERROR for night in result.nights] == [True, False]
    assert [night.night for night in place.run().nights] == [DAY]
