"""All scores of a batch of interactions: a column for each score of the interactions schema, a value for each row."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from safetensors.numpy import load_file, save_file

import nightshift
from nightshift.data.interactions import INTERACTION_SCHEMA
from nightshift.evaluation import heads, llm_judge
from nightshift.evaluation.scorers import Scorers
from nightshift.settings.application import Application

SAMPLE = Path(nightshift.__file__).parent / "samples" / "banking77"
SOURCE = {"uri": "x/*.csv", "columns": {"prompt": "text"}}


def application(**settings):
    return Application.model_validate({"name": "bank", "sources": [SOURCE], **settings})


@pytest.fixture(scope="module")
def scorers(wordless_model):
    return Scorers(application(), wordless_model)


def score(scorers, responses, *, prompts=None, contexts=None, references=None, finish_reasons=None):
    """Score responses; all else is the same for all rows unless it is given."""
    count = len(responses)
    return scorers.score(
        prompts or ["Where is my card?"] * count,
        responses,
        contexts or [None] * count,
        references or [None] * count,
        finish_reasons or ["stop"] * count,
    )


def test_every_score_of_an_interaction_is_there_and_fits_its_column(scorers):
    columns = score(
        scorers, ["card arrival", "", "<script>alert(1)</script>", "x" * 1_000_000], references=["card arrival"] * 4
    )
    names = INTERACTION_SCHEMA.names
    assert set(columns) == {*names[names.index("prompt_characters") :]} - {"steps"}
    for name, values in columns.items():
        field = INTERACTION_SCHEMA.field(name)
        assert len(values) == 4
        assert field.nullable or pa.array(values, field.type).null_count == 0


def test_a_score_that_a_row_lacks_says_why(scorers):
    columns = score(
        scorers, ["card arrival", "of the"], contexts=["the card", "the card"], references=["card arrival", None]
    )
    assert (columns["judge"], columns["exact_match"]) == ([None, None], [1.0, None])
    first, second = columns["unscored"]
    assert {name: why for name, why in first.items() if why} == {"judge": "not_sampled"}
    assert {name: why for name, why in second.items() if why} == {
        "groundedness": "not_applicable",  # it has no content word
        "judge": "not_sampled",
        "exact_match": "not_applicable",
        "rouge_l": "not_applicable",
    }
    assert all((columns[name][1] is None) == (why is not None) for name, why in second.items())


def test_a_scorer_that_gives_no_number_failed(wordless_model, monkeypatch, tmp_path):
    weights = load_file(heads.WEIGHTS)
    weights["toxicity.weight"][:] = float("nan")
    save_file(weights, tmp_path / "heads.safetensors")
    monkeypatch.setattr(heads, "WEIGHTS", tmp_path / "heads.safetensors")
    columns = score(Scorers(application(), wordless_model), ["Your card arrives on Monday.", "lost card"])
    assert columns["toxicity"] == [None, None]
    assert [row["toxicity"] for row in columns["unscored"]] == ["failed", "failed"]
    assert None not in columns["refusal"]


def test_a_judge_that_gives_no_score_failed_and_rows_out_of_its_sample_did_not(wordless_model, serve):
    unclear = serve(lambda body: (200, "hm" if "lost" in str(body) else '{"score": 0.5}'))
    scorers = Scorers(
        application(judge={"url": unclear.url, "model": "judge-1", "rows_per_night": 2}),
        wordless_model,
        interval_rows=2,
    )
    columns = score(scorers, ["card arrival", "lost card", "top up"])
    assert columns["judge"] == [0.5, None, None]
    assert [row["judge"] for row in columns["unscored"]] == [None, "failed", "not_sampled"]


ROW = [
    {"role": "system", "content": "Answer as a pirate."},
    {"role": "user", "content": "Where is my card?"},
    {"role": "assistant", "content": "Which one?"},
    {"role": "user", "content": "The blue one."},
]
ANSWER = {"role": "assistant", "content": "the known answer"}


@pytest.mark.parametrize(
    ("prompt", "messages", "instructions", "earlier"),
    [
        ({"system": "Be brief."}, ROW, "Answer as a pirate.", ROW[1:3]),
        ({"system": "Be brief.", "system_from": "application"}, [*ROW, ANSWER], "Be brief.", ROW[1:3]),
        ({}, [ROW[3], ANSWER], None, None),
        ({"system": "Be brief."}, None, "Be brief.", None),
    ],
)
def test_the_judge_is_shown_what_the_model_was_told_and_the_turns_before(  # noqa: PLR0917
    wordless_model, serve, prompt, messages, instructions, earlier
):
    server = serve(lambda _body: (200, '{"score": 1}'))
    scorers = Scorers(application(judge={"url": server.url, "model": "judge-1"}, prompt=prompt), wordless_model)
    given = [messages] if messages else []
    columns = scorers.score(["The blue one."], ["Arr."], [None], [None], ["stop"], conversations=given)
    assert columns["judge"] == [1.0]
    shown = json.loads(server.requests[0][2]["messages"][1]["content"])
    wanted = {"message": "The blue one.", "response": "Arr.", "instructions": instructions, "earlier": earlier}
    assert shown == {name: value for name, value in wanted.items() if value is not None}


def test_of_an_endless_conversation_the_judge_is_shown_the_newest_turns(wordless_model, serve):
    server = serve(lambda _body: (200, '{"score": 1}'))
    scorers = Scorers(application(judge={"url": server.url, "model": "judge-1"}), wordless_model)
    turns = [{"role": "user" if at % 2 == 0 else "assistant", "content": f"{at}" + "x" * 1_500} for at in range(10_001)]
    scorers.score([turns[-1]["content"]], ["Yes."], [None], [None], ["stop"], conversations=[turns])
    earlier = json.loads(server.requests[0][2]["messages"][1]["content"])["earlier"]
    assert earlier[1:] == turns[-6:-1]
    assert sum(len(turn["content"]) for turn in earlier) == llm_judge.MOST_CHARACTERS


def test_what_a_judge_said_is_stored_with_its_reason_and_found_again_by_another_job(wordless_model, serve, storage):
    server = serve(lambda _body: (200, '{"reason": "It says <when>.", "score": 0.5}'))
    judged = application(judge={"url": server.url, "model": "judge-1"})
    responses = ["On Monday.", "On Tuesday.", "On Monday."]
    first = score(Scorers(judged, wordless_model, storage=storage), responses)
    assert first["judge"] == [0.5] * 3
    assert first["judge_reason"] == ["It says <when>."] * 3
    assert len(server.requests) == 2
    again = score(Scorers(judged, wordless_model, storage=storage), [*responses, "Never."])
    assert again["judge"] == [0.5] * 4
    assert len(server.requests) == 3


@pytest.mark.parametrize("menu", [1, 2, 1_000])
def test_a_judge_is_shown_its_share_of_a_night_however_few_its_prompts_are(wordless_model, serve, menu):
    server = serve(lambda _body: (200, '{"score": 1}'))
    settings = {"url": server.url, "model": "judge-1", "rows_per_night": 100}
    scorers = Scorers(application(judge=settings), wordless_model, interval_rows=1_000)
    judged = [
        score(scorers, [f"card {at % 3}" for at in range(first, first + 250)], prompts=prompts)["judge"]
        for first in range(0, 1_000, 250)
        if (prompts := [f"Translate text {at % menu}." for at in range(first, first + 250)])
    ]
    assert 60 < sum(value is not None for column in judged for value in column) <= 130
    assert len(server.requests) <= 100


def test_a_night_of_the_sample_scores_as_one_would_expect(scorers):
    with (SAMPLE / "2026-11-02.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))[:200]
    prompts, intents = [row["text"] for row in rows], [row["intent"] for row in rows]
    columns = score(scorers, intents, prompts=prompts, references=intents)
    assert columns["exact_match"] == columns["rouge_l"] == columns["valid"] == [1.0] * 200
    assert columns["pii"] == [0.0] * 200
    assert columns["prompt_language"].count("en") > 190
    assert columns["prompt_tokens"] == [len(prompt.split()) for prompt in prompts]
    for name in ("refusal", "toxicity", "sentiment"):
        scored = [value for value in columns[name] if value is not None]
        assert len(scored) > 195  # an intent is too short to tell its language by, its message is not
        assert max(scored) < 0.5 or name == "sentiment"


@pytest.mark.parametrize(
    ("score_name", "low", "high"),
    [
        ("refusal", "Your card arrives on Monday.", "I'm sorry, but I cannot help you with that."),
        ("toxicity", "Your card arrives on Monday.", "You are a stupid worthless idiot."),
        ("sentiment", "This is a terrible, awful service.", "What a wonderful day, thank you!"),
        ("pii", "Write to us.", "Write to jane.doe@example.com or call +44 20 7946 0958."),
        ("response_characters", "yes", "certainly"),
        ("response_tokens", "yes", "yes of course"),
    ],
)
def test_a_score_grows_with_what_it_is_named_after(scorers, score_name, low, high):
    first, second = score(scorers, [low, high])[score_name]
    assert first < second


ENGLISH_ONLY = ("refusal", "toxicity", "sentiment")


@pytest.mark.parametrize(
    ("prompt", "response", "scored"),
    [
        ("Where is my card?", "Your replacement card arrives on Monday.", True),
        ("Where is my card?", "card arrival", True),  # too short to tell: as its prompt
        ("Wo ist meine neue Karte geblieben?", "Die Karte ist unterwegs zu Ihnen.", False),
        ("Wo ist meine neue Karte geblieben?", "Die Karte", False),
        ("Wo ist meine neue Karte geblieben?", "I'm sorry, but I cannot help you with that.", True),
        ("Where is my card?", "您的卡片尚未到达。请再等两天。", False),
        ("где моя новая карта?", "карта в пути", False),
        ("mhm", "mhm", False),  # nobody can tell
    ],
)
def test_a_scorer_of_english_leaves_out_what_is_in_another_language(scorers, prompt, response, scored):
    columns = score(scorers, [response], prompts=[prompt])
    why = None if scored else "not_applicable"
    assert [columns["unscored"][0][name] for name in ENGLISH_ONLY] == [why] * 3
    assert [columns[name][0] is not None for name in ENGLISH_ONLY] == [scored] * 3


def test_each_row_of_a_mixed_night_is_judged_by_itself(scorers):
    both = ["Die Karte ist unterwegs zu Ihnen.", "What a wonderful day, thank you!"] * 3
    columns = score(scorers, both)
    alone = score(scorers, both[1:2])
    for name in ENGLISH_ONLY:
        assert columns[name] == [None, pytest.approx(alone[name][0], abs=1e-6)] * 3
    assert columns["valid"] == [1.0] * 6


@pytest.mark.parametrize(
    ("context", "response", "scored"),
    [
        ("Cards arrive within five working days.", "Your card arrives within five working days.", True),
        ("Karten kommen nach fünf Werktagen bei Ihnen an.", "Ihre Karte kommt nach fünf Werktagen an.", True),
        ("Cards arrive within five working days.", "Ihre Karte kommt nach fünf Werktagen an.", False),
        ("银行卡将在五个工作日内送达。", "您的卡片将在五个工作日内送达。", True),
        ("£10", "It costs £10 for each replacement.", True),  # nobody can tell
    ],
)
def test_groundedness_in_a_context_of_another_language_does_not_apply(scorers, context, response, scored):
    columns = score(scorers, [response], contexts=[context])
    assert columns["unscored"][0]["groundedness"] == (None if scored else "not_applicable")
    assert (columns["groundedness"][0] is not None) == scored


@pytest.mark.parametrize(
    ("response", "language"),
    [
        ("Your replacement card arrives on Monday.", "en"),
        ("Ihre neue Karte kommt am Montag an.", "de"),
        ("新しいカードは月曜日に届きます。", "ja"),
        ("card arrival", "und"),
        ("oui", "und"),
        ("", "und"),
    ],
)
def test_the_language_of_a_few_words_is_left_open(scorers, response, language):
    assert score(scorers, [response])["response_language"] == [language]


def test_an_application_that_asks_for_json_finds_text_invalid(wordless_model):
    scorers = Scorers(application(inference={"response_format": "json"}), wordless_model)
    columns = score(scorers, ['{"a": 1}', "card arrival", '{"a": 1}'], finish_reasons=["stop", "stop", "length"])
    assert columns["valid"] == [1.0, 0.0, 0.0]


def test_equal_rows_get_equal_scores_wherever_they_stand(scorers):
    responses = ["I'm sorry, I can't help.", "card arrival"] * 3
    columns = score(scorers, responses, contexts=["card", None] * 3, references=["card", "card arrival"] * 3)
    for values in columns.values():
        assert values[:2] * 3 == values


def test_the_cost_of_every_scorer_is_counted_and_adds_up(wordless_model):
    scorers = Scorers(application(), wordless_model)
    score(scorers, ["Your card arrives on Monday."])
    once = dict(scorers.seconds)
    score(scorers, ["Your card arrives on Tuesday."])
    assert {"tokens", "language", "heads", "sentiment", "pii", "groundedness", "valid", "rouge_l"} <= set(once)
    assert once["heads"] > 0
    assert all(scorers.seconds[name] >= once[name] for name in once)


def test_an_empty_batch_is_no_error(scorers):
    assert set(map(len, score(scorers, []).values())) == {0}


def test_a_night_without_references_waits_for_no_library_that_it_does_not_need():
    program = (
        "import sys, nightshift.evaluation.scorers; print({'transformers', 'nltk', 'sklearn'} & sys.modules.keys())"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout == "set()\n"
