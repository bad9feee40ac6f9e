"""The job `score` on many nodes: the interactions of one node, whoever comes late, dies, or is overtaken."""

import hashlib
from datetime import UTC, datetime

import pytest
from several_nodes import comes_late, dies_in, is_overtaken, left_of, node_runner, times_called
from upath import UPath

from nightshift.errors import BadEnvironment
from nightshift.evaluation import interaction_file, scoring
from nightshift.jobs import ingest, score
from nightshift.settings.application import Application
from nightshift.settings.interval import Interval
from nightshift.settings.module_file import function_digest
from nightshift.storage import sharing
from nightshift.storage.manifest import require_manifest
from nightshift.storage.partition import fetch

pytestmark = pytest.mark.slow
ROWS = 115
JUDGED_ROWS = 30
OWN_SCORERS = """\
def opening(rows):
    return [row["response"].split()[0] for row in rows]


def page(rows):
    return [1 / (int(row["context"].split()[-1]) % 9) if row["reference"] else None for row in rows]  # one in nine fails
"""


def opinion(body):
    """A judge that says different things of different questions, and the same of equal ones; some it cannot put in numbers."""
    number = hashlib.sha256(body["messages"][1]["content"].encode()).digest()[0]
    return 200, '{"score": %.2f}' % (number / 255) if number > 40 else "hm"


@pytest.fixture
def spec(storage, progress, tmp_path, mlflow_store, wordless_model, serve, monkeypatch):  # noqa: PLR0917
    """A night that was served elsewhere, with a judge and own scorers; batches and row groups are of few rows."""
    for module in (interaction_file, scoring):
        monkeypatch.setattr(module, "ROWS_AT_ONCE", 10)
    monkeypatch.setattr(interaction_file, "GROUP_ROWS", 25)
    monkeypatch.setattr(sharing, "POLL_SECONDS", 0.01)
    said = ["card arrival", "I cannot help with that.", "Shut up.", "card arrival. Call me at +44 20 7946 0958"]
    rows = [
        f"where is card {number % 60} of mine,{said[number % 7 % 4]},{'card arrival' if number % 3 else ''},the page of {number}"
        for number in range(ROWS)
    ]
    (tmp_path / "night.csv").write_text("\n".join(["text,said,known,page", *rows]) + "\n")
    columns = {"prompt": "text", "response": "said", "answer": "known", "context": "page"}
    judge = serve(opinion)
    (tmp_path / "apps").mkdir()
    (tmp_path / "own.py").write_text(OWN_SCORERS)
    monkeypatch.setenv("NIGHTSHIFT_PROJECT", str(tmp_path))
    digest = function_digest("own:page", tmp_path)
    application = Application(
        name="shared_" + tmp_path.name.replace("-", "_")[-30:],
        base_model=str(wordless_model),
        sources=[{"uri": "none.csv", "columns": {"prompt": "text"}}],
        traffic={"sources": [{"uri": str(tmp_path / "night.csv"), "columns": columns}]},
        judge={"url": judge.url, "model": "judge-1", "rows_per_night": JUDGED_ROWS, "requests_at_once": 1},
        scorers={
            "opening": {"function": "own:opening", "kind": "category", "digest": digest},
            "page": {"function": "own:page", "digest": digest},
        },
    )
    interval = Interval(start=datetime(2026, 11, 2, tzinfo=UTC), end=datetime(2026, 11, 3, tzinfo=UTC))
    common = {"application": application, "storage": storage}
    taken = ingest.run(ingest.Spec(**common, interval=interval, part="traffic"), progress)
    assert taken.kept == ROWS
    return score.Spec(**common, prompts=taken.examples, digest=taken.digest)


@pytest.fixture
def run_on(spec, progress, monkeypatch):
    """A function that scores the night as one of the nodes, or as the only one."""
    return node_runner(lambda: score.run(spec, progress), monkeypatch)


def manifest_of(result):
    return require_manifest(UPath(result.interactions), result.digest)


def forget(spec, result):
    """Remove the interactions of a night, and what the judge said."""
    for place in (UPath(result.interactions), UPath(spec.storage) / spec.application.name / "judgements"):
        place.fs.rm(place.path, recursive=True)


@pytest.mark.parametrize("storage", ["folder", "s3"], indirect=True)
def test_three_nodes_make_the_file_of_one_byte_for_byte(spec, run_on, tmp_path):
    alone = run_on(count=1)
    of_one = manifest_of(alone)
    assert not left_of(spec, "scores")
    one = fetch(UPath(alone.interactions), of_one, "interactions.parquet", tmp_path / "one").read_bytes()
    forget(spec, alone)

    assert run_on(2) is None
    assert run_on(1) is None
    assert left_of(spec, "scores")
    together = run_on(0)
    of_many = manifest_of(together)
    many = fetch(UPath(together.interactions), of_many, "interactions.parquet", tmp_path / "many").read_bytes()
    assert many == one
    assert together.digest == alone.digest
    assert together.means == alone.means
    assert set(of_many.facts.pop("seconds")) == set(of_one.facts.pop("seconds"))
    assert of_many.facts == of_one.facts
    assert of_many.counts == of_one.counts
    # Which rows are in the sample is as good as chance, and so is how many there are, up to the limit of the whole night.
    assert 20 < sum(of_one.facts["judge"][outcome] for outcome in ("scored", "unreadable")) <= JUDGED_ROWS
    assert not left_of(spec, "scores")


def test_what_one_node_needs_no_sharing_for_leaves_nothing_else(spec, run_on, monkeypatch):
    made = times_called(monkeypatch, scoring.SharedScores, "make")
    run_on(count=1)
    assert not made
    assert not left_of(spec, "scores")


def test_nodes_that_die_are_started_again_and_score_only_what_they_had_not(spec, run_on, monkeypatch):
    dies_in(monkeypatch, run_on, 1, 3, of=(scoring.SharedScores, "make"))
    made = times_called(monkeypatch, scoring.SharedScores, "make")
    assert run_on(1) is None
    assert run_on(2) is None
    # Stretches of ten rows: the second and third node have four each, and two were there.
    assert len(made) == 2 + 4
    dies_in(monkeypatch, run_on, 0, 3, of=(interaction_file.InteractionWriter, "write"))
    assert len(made) == 2 + 4 + 4
    assert run_on(0).rows == ROWS
    assert len(made) == 2 + 4 + 4
    assert not left_of(spec, "scores")


def test_a_node_that_comes_late_ends_quietly_and_clears_what_an_earlier_start_of_it_left(spec, run_on, monkeypatch):
    published = comes_late(monkeypatch, run_on, score._Scoring)
    assert left_of(spec, "scores")
    made = times_called(monkeypatch, scoring.SharedScores, "make")
    assert run_on(1) is None
    assert not left_of(spec, "scores")
    assert not made
    assert run_on(0) == published


@pytest.mark.parametrize("when", ["at work", "waiting", "joining"])
def test_another_attempt_at_the_same_night_may_overtake(spec, run_on, monkeypatch, when):
    """It publishes the night and takes the scores away, while this one is at work, waits for others, or joins."""
    work, fetch = (scoring.SharedScores, "make"), (scoring, "fetch")
    result, other = is_overtaken(monkeypatch, run_on, when, work=work, fetch=fetch)
    assert result == other
    assert result.rows == ROWS
    assert not left_of(spec, "scores")


def test_the_first_node_gives_up_when_another_never_comes(spec, run_on, monkeypatch, progress):
    monkeypatch.setattr(sharing, "PATIENCE_SECONDS", 0.05)
    lines = times_called(monkeypatch, progress, "report")
    assert run_on(1) is None
    with pytest.raises(
        BadEnvironment, match=r"1 of 3 nodes published nothing new .* 4 of 12 parts are missing \(rows 20-29, 50"
    ):
        run_on(0)
    assert (8, 12, "parts") in lines
