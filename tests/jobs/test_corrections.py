"""What people corrected: an example on its question's side, in place of an older answer, and gone with who asked or said it."""

import pytest
from desk import COLUMNS, KEY, QUESTIONS, desk
from pydantic import ValidationError
from upath import UPath

from nightshift.data.corrections import ABOUT, JUDGED_BY, KIND, MODEL
from nightshift.data.examples import EXAMPLES, both_answers, count_pairs
from nightshift.data.normalise import stored_id
from nightshift.erasure.applying import apply
from nightshift.erasure.finding import Finding
from nightshift.erasure.target import ErasureTarget
from nightshift.evaluation.suites import corrected_examples
from nightshift.settings.application import Application
from nightshift.settings.feedback import CHOSEN_BY, RANDOM
from nightshift.storage import partition as partitions
from nightshift.storage.files import scratch
from nightshift.storage.manifest import require_manifest
from nightshift.storage.partition import fetch, partition_of
from nightshift.verdict import Verdict

__all__ = ["desk"]

pytestmark = pytest.mark.usefixtures("mlflow_store")


def correction(number, **fields):
    return {"message": f"m{number}", "user": "agent", "better": f"Right answer {number}.", "vote": None} | fields


def test_a_correction_is_trained_on_or_judged_by_in_place_of_the_older_answer(desk):
    branch = desk()
    branch.ingested("2026-11-02", [{"text": text, "answer": "Wrong."} for text in QUESTIONS[:4]])
    before = {
        row["prompt"]: row["split"]
        for row in branch.rows(partition_of(branch.storage, "branch", "examples", "2026-11-02"), EXAMPLES)
    }
    branch.answered("2026-11-03")
    result = branch.said("2026-11-03", [*map(correction, range(8)), correction(1, better=None, vote="up")])
    assert (result.joined, result.corrections) == (9, 8)

    made = branch.rows(branch.corrections("2026-11-03"), EXAMPLES)
    assert [row["prompt"] for row in made] == QUESTIONS
    assert {row["prompt"]: row["split"] for row in made[:4]} == before
    assert made[2]["messages"][-1] == {
        "role": "assistant",
        "content": "Right answer 2.",
        "tool_calls": None,
        "tool_call_id": None,
    }
    assert made[2]["metadata"] == {
        KIND: "correction", ABOUT: "2026-11-03/2", MODEL: "7", JUDGED_BY: stored_id("agent", KEY.encode(), subject=True),
    }  # fmt: skip
    assert made[2]["subject"] == stored_id("user2", KEY.encode(), subject=True)

    taken = branch.snapshot()
    train, held_out = branch.rows(taken, "train.parquet"), branch.rows(taken, "held_out.parquet")
    assert train
    assert held_out
    assert sorted(row["answer"] for row in [*train, *held_out]) == [f"Right answer {n}." for n in range(8)]
    counts = require_manifest(taken).counts
    assert counts["corrected"] == 4
    assert counts.pop("rows") == sum(counts.values()) == 12
    suite = corrected_examples(taken, require_manifest(taken), 3, scratch(UPath(branch.storage)))
    assert [row["digest"] for row in suite] == [row["digest"] for row in held_out][:3]


def test_a_correction_that_waited_for_its_answer_becomes_an_example_also_where_the_run_that_joined_it_was_killed(
    desk, monkeypatch
):
    branch = desk()
    assert branch.said("2026-11-03", [correction(2)]).waiting == 1
    branch.answered("2026-11-03")
    with monkeypatch.context() as killed:
        killed.setattr(
            "nightshift.jobs.corrections.publish_corrections", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        with pytest.raises(KeyboardInterrupt):
            branch.said("2026-11-04", [])
    branch.said("2026-11-04", [])
    (made,) = branch.rows(branch.corrections("2026-11-03"), EXAMPLES)
    assert (made["prompt"], made["answer"]) == (QUESTIONS[2], "Right answer 2.")


def test_corrections_of_an_earlier_interval_that_cannot_be_made_do_not_fail_tonights_job(desk):
    branch = desk()
    branch.said("2026-11-03", [correction(2)])
    branch.answered("2026-11-03")
    traffic = partition_of(branch.storage, "branch", "traffic", "2026-11-03") / "manifest.json"
    content = traffic.read_text()
    traffic.write_text("{")
    result = branch.said("2026-11-04", [])
    assert result.joined_late == 1
    assert "corrections of 2026-11-03: " in result.reason
    traffic.write_text(content)
    assert "corrections of" not in branch.said("2026-11-05", []).reason
    assert len(branch.rows(branch.corrections("2026-11-03"), EXAMPLES)) == 1


def test_a_newer_correction_takes_the_place_of_an_older_one_and_an_answer_that_came_since_stays(desk):
    branch = desk()
    branch.answered("2026-11-03", QUESTIONS[:1])
    branch.said("2026-11-03", [correction(0)])
    branch.said("2026-11-04", [correction(0, better="Better still.")])
    branch.ingested(
        "2026-11-05", [{"text": QUESTIONS[0], "answer": "The team's."}, {"text": QUESTIONS[1], "answer": "A."}]
    )
    branch.ingested("2026-11-06", [{"text": text, "answer": "B."} for text in QUESTIONS[2:]])
    taken = branch.snapshot()
    of_question = [
        row["answer"]
        for name in ("train.parquet", "held_out.parquet")
        for row in branch.rows(taken, name)
        if row["prompt"] == QUESTIONS[0]
    ]
    assert sorted(of_question) == ["Better still.", "The team's."]


def test_pairs_keep_the_answer_that_was_not_preferred(desk):
    columns = {"id": "message", "prompt": "asked", "answer": "better", "rejected": "worse"}
    branch = desk(source={"columns": columns})
    branch.answered("2026-11-03")
    pairs = [{"message": f"m{n}", "asked": QUESTIONS[n], "better": "Good.", "worse": "Bad."} for n in range(8)]
    assert branch.said("2026-11-03", pairs).corrections == 8
    branch.ingested("2026-11-04", [{"text": QUESTIONS[0], "answer": "Known."}])
    taken = branch.snapshot()
    assert both_answers(branch.rows(taken, "train.parquet")[0])[1]["messages"][-1]["content"] == "Bad."
    assert (
        sum(
            count_pairs(fetch(taken, require_manifest(taken), name, branch.folder))
            for name in ("train.parquet", "held_out.parquet")
        )
        == 8
    )


def test_a_job_that_is_killed_between_its_partitions_makes_the_same_corrections_once(desk, monkeypatch):
    branch = desk()
    branch.answered("2026-11-03")
    create = partitions.create

    def killed(path, content):
        if "corrections" in path.parts:
            raise KeyboardInterrupt
        return create(path, content)

    with monkeypatch.context() as dying:
        dying.setattr(partitions, "create", killed)
        with pytest.raises(KeyboardInterrupt):
            branch.said("2026-11-03", [correction(0), correction(1)])
    first = branch.said("2026-11-03", [correction(0), correction(1)])
    segments = list((partition_of(branch.storage, "branch", "similarity", "segments")).iterdir())
    assert (first.corrections, len(segments)) == (2, 1)
    monkeypatch.setattr("nightshift.data.corrections.staged_corrections", lambda *_: pytest.fail("done again"))
    assert branch.said("2026-11-03", [correction(0), correction(1)]) == first


def test_an_answer_whose_question_is_gone_is_set_aside_and_counted(desk):
    branch = desk()
    branch.answered("2026-11-03")
    partitions.drop(partition_of(branch.storage, "branch", "traffic", "2026-11-03"))
    assert branch.said("2026-11-03", [correction(0)]).corrections == 0
    counts = require_manifest(branch.corrections("2026-11-03")).counts
    assert (counts["rows_in"], counts["quarantined"]) == (1, 1)


def test_judged_answers_are_learned_from_by_kto_alone(desk):
    columns = COLUMNS | {"rating": "stars"}
    branch = desk(source={"columns": columns}, recipe="kto")
    branch.ingested("2026-11-02", [{"text": f"Is {text}", "answer": "A."} for text in QUESTIONS])
    answers = [{"response": f"Said {n}.", "finish_reason": "length" if n == 7 else "stop"} for n in range(8)]
    branch.answered("2026-11-03", scores=answers)
    said = [
        correction(0, better=None, vote="up"),
        correction(0, better=None, vote="up", user="somebody else"),
        correction(1, better=None, vote="down"),
        correction(2),
        correction(3, better=None, stars=5),
        correction(4, better=None, stars=1),
        correction(5, better=None, stars=3),
        correction(6, vote="up"),
        correction(7, better=None, vote="up"),
    ]
    assert branch.said("2026-11-03", said).corrections == 8
    made = branch.rows(branch.corrections("2026-11-03"), EXAMPLES)
    kinds = {(row["metadata"][KIND], row["response"]) for row in made if row["answer"] is None}
    assert kinds == {
        *(("desirable", f"Said {n}.") for n in (0, 3, 6)),
        *(("undesirable", f"Said {n}.") for n in (1, 2, 4)),
    }

    taken = branch.snapshot(recipe="sft")
    learned = [row["answer"] for name in ("train.parquet", "held_out.parquet") for row in branch.rows(taken, name)]
    assert sorted(learned) == ["A."] * 8 + ["Right answer 2.", "Right answer 6."]
    judged = branch.rows(taken, "judged.parquet")
    sides = {row["prompt"]: row["split"] for row in made}
    assert {row["response"]: row["split"] for row in judged} == {
        f"Said {n}.": sides[QUESTIONS[n]] for n in (0, 1, 2, 3, 4, 6)
    }
    counts = require_manifest(taken).counts
    assert (counts["judged"], counts["unanswered"], counts.pop("rows")) == (6, 0, sum(counts.values()))
    result = branch.taken()
    assert (result.train_examples, result.held_out_examples) == (1, 7)
    assert result.verdict is Verdict.INSUFFICIENT_DATA
    assert "it has 1 good and 0 bad training answers, and 4 good and 3 bad held-out ones" in result.reason

    plan = Finding(
        partition_of(branch.storage, "branch"), ErasureTarget(subject=stored_id("user3", KEY.encode(), subject=True))
    )
    apply(partition_of(branch.storage, "branch"), plan.find(), 1, lambda *_: None)
    left = {row["response"] for row in branch.rows(taken, "judged.parquet")}
    assert left == {row["response"] for row in judged} - {"Said 3."}
    assert require_manifest(taken).counts["judged"] == 5


def test_an_answer_that_nobody_gave_is_not_judged_and_without_the_setting_nothing_is(desk):
    branch = desk(recipe="kto")
    branch.answered("2026-11-03")
    said = branch.said("2026-11-03", [correction(0, better=None, vote="down")])
    assert said.corrections == 0
    assert "1 judgements without an answer to learn, and 0 contradicted ones, are left out" in said.reason
    off = desk(corrections=False)
    assert off.said("2026-11-04", [correction(0)]).corrections == 0
    assert not off.corrections("2026-11-04").exists()


def test_answers_are_judged_for_kto_alone(desk):
    branch = desk()
    branch.answered("2026-11-03", scores=[{"response": "Said."}])
    said = [correction(0, better=None, vote="up"), correction(1)]
    assert branch.said("2026-11-03", said).corrections == 1
    assert desk(recipe="kto").said("2026-11-03", said).corrections == 2


def test_a_judged_answer_is_found_that_is_older_than_the_days_of_today(desk):
    branch = desk()
    branch.said("2026-11-04", [correction(0, better=None, vote="up")])
    branch.answered("2026-11-03", scores=[{"response": "Said."}])
    assert branch.said("2026-11-05", []).joined_late == 1
    desk(recipe="kto", lookback_days=1).said("2026-11-05", [])
    (judged,) = branch.rows(branch.corrections("2026-11-04"), EXAMPLES)
    assert judged["response"] == "Said."


def test_no_answers_that_were_shown_because_they_seemed_bad_are_held_out_among_the_judged(desk):
    branch = desk(recipe="kto", source={"columns": COLUMNS | {"metadata": [CHOSEN_BY]}})
    branch.ingested("2026-11-02", [{"text": f"Is {text}", "answer": "A."} for text in QUESTIONS])
    branch.answered("2026-11-03", scores=[{"response": f"Said {n}."} for n in range(8)])
    shown = {n: ("lowest", RANDOM)[n % 2] for n in range(8)}
    branch.said("2026-11-03", [correction(n, better=None, vote="down", **{CHOSEN_BY: by}) for n, by in shown.items()])
    judged = branch.rows(branch.snapshot(recipe="sft"), "judged.parquet")
    assert {(row["split"], row["metadata"][CHOSEN_BY]) for row in judged} == {("train", "lowest"), ("held_out", RANDOM)}


def test_what_most_people_say_of_an_answer_is_learned_and_what_the_last_day_says_replaces_it(desk):
    branch = desk(recipe="kto")
    branch.ingested("2026-11-02", [{"text": f"Is {text}", "answer": "A."} for text in QUESTIONS])
    branch.answered("2026-11-03", scores=[{"response": f"Said {n}."} for n in range(8)])

    def votes(number, **of):
        return [correction(number, better=None, vote=vote, user=f"{vote}{n}") for vote in of for n in range(of[vote])]

    said = branch.said(
        "2026-11-03", [*votes(0, up=3, down=1), *votes(1, up=1, down=1), correction(2, better="Said 2. ")]
    )
    assert "0 judgements without an answer to learn, and 3 contradicted ones, are left out" in said.reason
    made = branch.rows(branch.corrections("2026-11-03"), EXAMPLES)
    assert {(row["metadata"][KIND], row["response"]) for row in made} == {
        ("desirable", "Said 0."),
        ("correction", None),
    }
    branch.said("2026-11-04", votes(0, down=1))
    (judged,) = branch.rows(branch.snapshot(recipe="sft"), "judged.parquet")
    assert (judged["metadata"][KIND], judged["response"]) == ("undesirable", "Said 0.")


def test_what_is_learned_of_an_answer_has_what_its_question_came_with_and_no_personal_data(desk):
    branch = desk(recipe="kto", asked={"metadata": ["tier"]})
    branch.answered("2026-11-03", scores=[{"response": "Write to anna@example.org."}])
    branch.said("2026-11-03", [correction(0)])
    corrected, judged = branch.rows(branch.corrections("2026-11-03"), EXAMPLES)
    assert judged["response"] == "Write to <email>."
    assert corrected["metadata"]["tier"] == judged["metadata"]["tier"] == "gold"


@pytest.mark.parametrize(("user", "left"), [("user2", 7), ("agent", 0)])
def test_who_asked_and_who_corrected_can_both_have_it_erased(desk, user, left):
    branch = desk()
    branch.ingested("2026-11-02", [{"text": "Anything else?", "answer": "No."}])
    branch.answered("2026-11-03")
    branch.said("2026-11-03", list(map(correction, range(8))))
    taken = branch.snapshot()
    home = partition_of(branch.storage, "branch")
    plan = Finding(home, ErasureTarget(subject=stored_id(user, KEY.encode(), subject=True))).find()
    apply(home, plan, 1, lambda *_: None)
    corrections = branch.rows(branch.corrections("2026-11-03"), EXAMPLES)
    trained = [row for name in ("train.parquet", "held_out.parquet") for row in branch.rows(taken, name)]
    assert (len(corrections), len(trained)) == (left, left + 1)
    assert require_manifest(branch.corrections("2026-11-03")).counts["kept"] == left
    assert branch.said("2026-11-03", list(map(correction, range(8)))).corrections == left


def test_replayed_examples_have_nothing_to_correct():
    with pytest.raises(ValidationError, match=r"`corrections` needs `traffic\.sources`"):
        Application(
            name="branch",
            sources=[{"uri": "rows.jsonl", "columns": {"prompt": "text", "id": "n"}}],
            feedback={
                "sources": [{"uri": "said.jsonl", "columns": {"id": "n", "answer": "better"}}],
                "corrections": True,
            },
        )


def test_the_gate_can_bound_the_suite_of_corrections_where_there_are_any(desk):
    bounded = {"conditions": [{"metric": "exact_match", "suite": "corrections", "at_least": 0.9}]}
    given = desk().application.model_dump(exclude_unset=True) | {"gate": bounded}
    assert Application.model_validate(given).gate.conditions[0].suite == "corrections"
    given["feedback"]["corrections"] = False
    with pytest.raises(ValidationError, match="no suite 'corrections'"):
        Application.model_validate(given)
