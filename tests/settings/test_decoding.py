"""Decoding settings are bounded, fit together, and leave no trace where they are the default."""

import pytest
from pydantic import ValidationError

from nightshift.settings.application import Application, Evaluation
from nightshift.settings.decoding import Decoding
from nightshift.settings.intake import Source
from nightshift.settings.policies import Inference
from nightshift.settings.prompt import Prompt

SOURCES = [Source(uri="rows.jsonl", columns={"prompt": "text"})]
AT = {"url": "https://a.example/v1/", "model": "m"}


def app(**settings):
    return Application(name="bank", sources=SOURCES, **settings)


def test_greedy_decoding_leaves_the_addresses_of_what_was_made_before():
    assert Decoding().model_dump() == {}
    assert app().answer_inputs == {}
    assert "decoding" not in app().model_dump()
    assert "template" not in Prompt().model_dump()
    assert app(decoding={"temperature": 0.7}).answer_inputs == {"decoding": {"temperature": 0.7}}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"json_schema": {}, "regex": "a"}, "keep one of them"),
        ({"regex": "("}, "no regular expression"),
        ({"top_p": 0.5}, "top_p needs a temperature"),
        ({"temperature": 3}, "less than or equal to 2"),
        ({"stop": [""]}, "at least 1 character"),
    ],
)
def test_what_does_not_fit_together_is_refused(settings, said):
    with pytest.raises(ValidationError, match=said):
        Decoding(**settings)


def test_an_evaluation_answers_as_the_nights_do_unless_it_says_otherwise():
    nights = Inference(max_new_tokens=200)
    assert app(inference=nights).evaluated_tokens == 200
    assert app(inference=nights, evaluation=Evaluation(max_new_tokens=9)).evaluated_tokens == 9
    assert app().evaluated_samples == app(evaluation=Evaluation(samples=8)).evaluated_samples == 1
    assert app(decoding={"temperature": 1}).evaluated_samples == 4
    assert app(decoding={"temperature": 1}, evaluation=Evaluation(samples=8)).evaluated_samples == 8


def test_arguments_of_the_chat_template_are_those_that_nobody_else_sets():
    assert Prompt(template={"enable_thinking": True}).thinks
    assert not Prompt(template={"enable_thinking": False}).thinks
    with pytest.raises(ValidationError, match="tokenize: Nightshift sets this itself"):
        Prompt(template={"tokenize": True})
    assert len({Prompt(), Prompt(template={"tone": "kind"}), Prompt(template={"tone": "kind"})}) == 2


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"inference": {"engine": "endpoint"}}, "engine: endpoint needs `endpoint`"),
        ({"inference": {"endpoint": AT}, "retrain": "@weekly"}, "is not trained here; leave `retrain` out"),
        ({"inference": {"endpoint": AT}, "decoding": {"regex": "a+"}}, "use decoding.json_schema"),
    ],
)
def test_an_engine_is_asked_for_what_it_can_do(settings, said):
    with pytest.raises(ValidationError, match=said):
        app(**settings)


def test_a_model_is_at_the_endpoint_unless_another_engine_is_asked_for():
    assert app(inference={"endpoint": AT}).inference.hosted.identity == {"url": "https://a.example/v1", "model": "m"}
    assert app(inference={"endpoint": AT, "engine": "transformers"}).inference.hosted is None
    assert app().inference.hosted is None
    assert "endpoint" not in app().inference.model_dump()
