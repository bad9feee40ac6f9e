"""The sets and what they say of models that are known to be biased, or fair."""

import random
from collections import Counter
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch

from nightshift.data.examples import digest_of_messages, side_of
from nightshift.inference.likelihood import log_likelihoods
from nightshift.monitoring.bias.counterfactuals import (
    FIRST,
    VERSIONS,
    counterfactual_findings,
    message_rows,
    messages_of,
    pair_tests,
)
from nightshift.monitoring.bias.questions import ask_questions, question_findings
from nightshift.monitoring.bias.sets import bbq, crows_pairs, stratified
from nightshift.monitoring.bias.stereotypes import ask_pairs, stereotype_findings
from nightshift.monitoring.bias.verdict import judge
from nightshift.settings.application import Application
from nightshift.settings.applications import read_application
from nightshift.settings.intake import Source
from nightshift.settings.policies import Bias
from nightshift.settings.project import PACKAGE
from nightshift.verdict import Verdict

APP = Application(name="app", sources=[Source(uri="rows.jsonl", columns={"prompt": "text"})])


@dataclass
class Words:
    """A language model that knows how likely each word is and looks at nothing else; what it prefers is given."""

    preferred: frozenset[str]
    by: float = 3.0

    bos_token_id = eos_token_id = pad_token_id = 0
    dtype, device = torch.float32, torch.device("cpu")

    def __post_init__(self):
        self.vocabulary = {"<s>": 0}

    def __call__(self, text=None, add_special_tokens=True, input_ids=None, logits_to_keep=None, **_):
        if text is not None:
            return {"input_ids": [self.vocabulary.setdefault(word, len(self.vocabulary)) for word in text.split()]}
        logits = torch.zeros(20_000)
        logits[[number for word, number in self.vocabulary.items() if word.strip(".,?!").lower() in self.preferred]] = (
            self.by
        )
        return SimpleNamespace(logits=logits.expand(1, len(logits_to_keep), -1))


def engine(preferred=(), by=3.0):
    words = Words(frozenset(preferred), by)
    return SimpleNamespace(
        tokenizer=words, likelihoods=lambda sequences, report: log_likelihoods(words, sequences, report)
    )


def nothing(_done, _of):
    return None


def test_the_shipped_sets_are_whole():
    pairs, fours = crows_pairs(), bbq()
    assert len(pairs) == 1508
    assert Counter(pair.bias_type for pair in pairs)["gender"] == 262
    assert Counter(four[0].category for four in fours) == {"Age": 920, "Religion": 300}
    for four in fours:
        assert {(one.ambiguous, one.negative) for one in four} == {(a, n) for a in (True, False) for n in (True, False)}
        assert all(one.groups[one.right] == "unknown" for one in four if one.ambiguous)
        assert all(sum(group in one.stereotyped for group in one.groups) == 1 for one in four)


def test_a_sample_is_the_same_every_night_and_spread_over_the_strata():
    pairs = crows_pairs()
    chosen = stratified(pairs, 60, lambda pair: pair.bias_type, lambda pair: pair.more)
    shuffled = random.Random(4).sample(pairs, len(pairs))
    assert sorted(pair.id for pair in chosen) == sorted(
        pair.id for pair in stratified(shuffled, 60, lambda pair: pair.bias_type, lambda pair: pair.more)
    )
    counts = Counter(pair.bias_type for pair in chosen)
    assert counts.total() == 60
    assert all(abs(counts[kind] - 60 * n / 1508) < 1 for kind, n in Counter(pair.bias_type for pair in pairs).items())
    assert len(stratified(pairs, 5_000, lambda pair: pair.bias_type, lambda pair: pair.more)) == 1508


@pytest.mark.parametrize("file", ["apps/banking_assistant.yaml", "samples/full/apps/banking_assistant.yaml"])
def test_no_sample_trains_on_the_messages_that_it_is_asked_about(file):
    app = read_application(PACKAGE / file)
    messages = messages_of(app, [], 400)
    assert len(messages) == 400
    for one in messages:
        turns = [{"role": "user", "content": one.message}, {"role": "assistant", "content": one.wanted}]
        assert side_of(digest_of_messages(turns), app.ingest.splits) != "train", one.message


def test_the_sample_application_ships_messages_that_differ_in_who_writes():
    app = APP.model_copy(update={"name": "banking_assistant"})
    messages = messages_of(app, [], 32)
    assert len(messages) == 32
    assert messages == messages_of(app, [], 400)[:32]
    for one in messages:
        first = one.versions[FIRST].split()
        assert set(one.versions) == {FIRST, *VERSIONS.values()}
        for version in VERSIONS.values():
            other = one.versions[version].split()
            assert sum(a != b for a, b in zip(first, other, strict=True)) == 1
            assert one.versions[version].endswith(one.message)


def one_turn(text):
    turns = [{"role": "user", "content": text}, {"role": "assistant", "content": "yes"}]
    return {"prompt": text, "answer": "yes", "messages": turns}


def test_the_same_words_in_two_conversations_are_two_messages_with_what_was_said_before():
    system = {"role": "system", "content": "Du hilfst im Laden."}
    rows = [one_turn("ja, bitte") for _ in range(2)]
    rows[0]["messages"] = [system, *rows[0]["messages"]]
    rows[1]["messages"] = [*one_turn("Noch eine Karte?")["messages"], *rows[1]["messages"]]
    messages = messages_of(APP, rows, 10)
    assert sorted([turn["content"] for turn in one.before] for one in messages) == [
        ["Du hilfst im Laden."],
        ["Noch eine Karte?", "yes"],
    ]
    asked = [
        {**row, "message": one.message, "conversation": one.conversation}
        for one in messages
        for row in answers(1, lambda version, _: version == "woman")
    ]
    assert {numbers["pairs"] for numbers in pair_tests(asked)} == {2}


def test_an_answer_to_what_a_tool_said_is_not_asked_with_other_writers():
    row = one_turn("How warm is it?")
    call = {"role": "assistant", "content": "", "tool_calls": "[]"}
    row["messages"][1:1] = [call, {"role": "tool", "content": "21", "tool_call_id": "call00001"}]
    assert [one.message for one in messages_of(APP, [row, one_turn("Is it warm?")], 10)] == ["Is it warm?"]


def test_another_application_asks_the_messages_that_its_champion_was_judged_on():
    held_out = [one_turn(f"question {number}") for number in range(50)]
    messages = messages_of(APP, held_out, 10)
    assert len(messages) == 10
    assert all(one.message.startswith("question ") and one.wanted == "yes" for one in messages)
    assert messages_of(APP, [], 10) == []


def answers(count, changed):
    """Rows of `count` messages; `changed(version, number)` says which get another, wrong answer."""
    return [
        {
            "message": message, "wanted": "yes", "conversation": "", "version": version, "text": text,
            "answer": "no" if wrong else "yes", "exact_match": float(not wrong),
            "wanted_probability": 0.2 if wrong else 0.9, "toxicity": 0.01, "refusal": 0.02, "sentiment": 0.5,
        }
        for number in range(count)
        for message, _, version, text in message_rows(f"question {number}", "yes")
        for wrong in [changed(version, number)]
    ]  # fmt: skip


def test_a_model_that_answers_some_people_worse_fails_in_that_attribute_alone():
    rows = answers(40, lambda version, number: version == "Black man" and number % 2 == 0)
    judged = judge(counterfactual_findings(rows, 30), Bias())
    assert judged.verdict is Verdict.FAIL
    assert {name.split("/")[1] for name in judged.failing} == {"ethnicity"}
    assert {name.split("/")[-1] for name in judged.failing} == {"changed answers", "exact_match", "wanted_probability"}
    ethnicity = next(row for row in pair_tests(rows) if row["attribute"] == "ethnicity")
    assert (ethnicity["worse"], ethnicity["better"], ethnicity["changed"]) == (20, 0, 20)
    assert ethnicity["mcnemar"] == pytest.approx(2 * 0.5**20)


def test_answers_that_turn_with_any_name_are_no_bias():
    rows = answers(40, lambda version, number: version != FIRST and number % 4 == 0)
    found = judge([one for one in counterfactual_findings(rows, 30) if one.metric == "changed answers"], Bias())
    assert found.verdict is Verdict.PASS
    assert next(one for one in found.findings if one.dimension == "control").mean == 0.25


def test_answers_that_turn_less_often_than_by_chance_are_no_bias():
    found = counterfactual_findings(
        answers(40, lambda version, number: version == "another name" and number % 2 == 0), 30
    )
    gaps = {one.dimension: one for one in judge(found, Bias()).findings if one.metric == "changed answers"}
    assert gaps["age"].value == -0.5
    assert gaps["age"].verdict is Verdict.PASS


def test_a_model_that_answers_all_alike_passes_and_few_messages_are_insufficient():
    assert judge(counterfactual_findings(answers(32, lambda *_: False), 30), Bias()).verdict is Verdict.PASS
    few = judge(counterfactual_findings(answers(29, lambda *_: False), 30), Bias())
    assert few.verdict is Verdict.INSUFFICIENT_DATA


def of_metric(rows, metric):
    return [one for one in counterfactual_findings(rows, 30) if one.metric == metric and one.dimension != "control"]


def test_answers_that_are_never_the_wanted_one_say_nothing_about_who_gets_it():
    found = of_metric(answers(40, lambda *_: True), "exact_match")
    assert [(one.verdict, one.value) for one in found] == [(Verdict.INSUFFICIENT_DATA, None)] * 4
    assert {one.why for one in found} == {"no answer is the wanted one, in either version"}


def test_a_model_that_says_nothing_does_not_pass():
    silent = [row | {"answer": " "} for row in answers(40, lambda *_: False)]
    judged = judge(counterfactual_findings(silent, 30), Bias())
    assert judged.verdict is Verdict.INSUFFICIENT_DATA
    assert all(one.why == "the model says nothing to the other messages" for one in judged.findings)


def test_scores_of_answers_in_a_language_that_the_scorer_does_not_know_are_not_compared():
    rows = answers(60, lambda *_: False)
    for number, row in enumerate(rows):
        if number >= 6 * 20:  # six versions of each message; twenty are answered in English
            row["sentiment"] = None
    found = of_metric(rows, "sentiment")
    assert {(one.verdict, one.n) for one in found} == {(Verdict.INSUFFICIENT_DATA, 20)}
    assert found[0].why.startswith("only 20 of 60 pairs of answers are in a language")
    assert all(one.value == 0 for one in of_metric(rows, "toxicity"))


def test_a_model_that_prefers_stereotypes_fails_and_one_that_does_not_passes():
    pairs = stratified(crows_pairs(), 200, lambda pair: pair.bias_type, lambda pair: pair.more)
    only_more = {
        word.strip(".,?!").lower() for pair in pairs for word in set(pair.more.split()) - set(pair.less.split())
    } - {word.strip(".,?!").lower() for pair in pairs for word in set(pair.less.split()) - set(pair.more.split())}
    biased = judge(stereotype_findings(ask_pairs(engine(only_more), pairs, nothing), 30), Bias())
    assert "stereotypes/bias type/all/stereotype preference" in biased.failing
    fair = judge(stereotype_findings(ask_pairs(engine(), pairs, nothing), 30), Bias(max_gap=0.15))
    # It finds every word as likely; only the number of words differs.
    assert not fair.failing
    rare = next(one for one in fair.findings if one.group == "disability")
    assert rare.verdict is Verdict.INSUFFICIENT_DATA


def test_a_model_that_suspects_one_group_fails_and_a_guessing_one_does_not():
    questions = [
        one for four in bbq() if "Muslim" in four[0].groups and four[0].stereotyped == ("Muslim",) for one in four
    ]
    negative = [one for one in questions if one.negative]
    assert len(negative) > 60
    judged = judge(question_findings(ask_questions(engine({"muslim"}), negative, nothing), 30), Bias())
    assert {"questions/category/all/s_DIS", "questions/category/all/s_AMB"} <= set(judged.failing)
    chance = random.Random(8)
    guesses = [
        {"category": one.category, "ambiguous": one.ambiguous, "right": False, "bias": chance.choice([-1, 1])}
        for one in questions * 3
    ]
    assert judge(question_findings(guesses, 30), Bias()).verdict is not Verdict.FAIL


def test_bias_scores_are_those_of_the_paper():
    rows = [{"category": "Age", "ambiguous": False, "right": False, "bias": 1}] * 30
    rows += [{"category": "Age", "ambiguous": False, "right": True, "bias": -1}] * 10
    rows += [{"category": "Age", "ambiguous": True, "right": True, "bias": 0}] * 20
    rows += [{"category": "Age", "ambiguous": True, "right": False, "bias": 1}] * 15
    rows += [{"category": "Age", "ambiguous": True, "right": False, "bias": -1}] * 5
    found = {one.metric: one for one in question_findings(rows, 30) if one.group == "all"}
    assert found["s_DIS"].value == pytest.approx(2 * 30 / 40 - 1)
    assert found["s_AMB"].value == pytest.approx((1 - 20 / 40) * (2 * 15 / 20 - 1))
    assert found["accuracy (disambiguated)"].mean == pytest.approx(0.25)
    assert found["accuracy (ambiguous)"].verdict is None
