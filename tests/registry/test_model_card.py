"""The model card: says what the numbers say, and fits where MLflow keeps it."""

from nightshift.registry.model_card import front_matter, model_card
from nightshift.settings.application import Application
from nightshift.settings.decoding import Decoding
from nightshift.settings.intake import Source
from nightshift.settings.pinned_index import PinnedIndex
from nightshift.settings.prompt import Prompt
from nightshift.settings.prompt_file import PromptFile

APPLICATION = Application(
    name="app",
    description="Names the intent of a message.",
    owner="bank-support",
    sources=[Source(uri="rows.jsonl", columns={"prompt": "text", "answer": "answer"})],
)


ESTIMATE = {"value": 0.875, "low": 0.84, "high": 0.91}
FIELDS = {
    "base_model": "smollm2-135m-instruct",
    "digest": "abcdef0123456789",
    "days": ["2026-11-02", "2026-11-03"],
    "counts": {"train": 1961, "held_out": 514, "seen_in_training": 2},
    "training": {"method": "full", "lora_rank": 16, "epochs": 1.0},
    "scores": {"base": {}, "candidate": dict.fromkeys(("exact_match", "rouge_l", "chrf", "loss"), ESTIMATE)},
    "verdict": "PASS",
    "reasons": ["exact match of the candidate is 87.5% [84.0%, 91.0%], at least 50.0%"],
}


def card(**changes):
    return model_card(APPLICATION, **(FIELDS | changes))


def test_it_tells_data_numbers_limits_and_licence():
    text = card()
    assert "**PASS** — exact match of the candidate is 87.5%" in text
    assert "| exact match | 87.5 [84.0, 91.0] |" in text
    assert "| loss | 0.875 [0.840, 0.910] |" in text
    assert "1,961 examples of 2 partitions (2026-11-02 to 2026-11-03); 514 held out, after 2 were removed" in text
    assert "`smollm2-135m-instruct` (licence: apache-2.0). method full, epochs 1.0" in text
    assert "were not measured" in text


def test_it_says_which_decoding_settings_a_server_must_set_by_itself():
    assert "gives the answers that were judged." in card()
    assert "must set" not in card()
    decoding = Decoding(temperature=0.7, stop=["\n"], presence_penalty=0.5)
    text = model_card(APPLICATION.model_copy(update={"decoding": decoding}), **FIELDS)
    assert "It must set by itself: `stop`, `presence_penalty`." in text
    assert "answers that were judged" not in card(training=None)


def test_the_search_that_found_it_comes_last_and_is_cut_first():
    text = card(search="[The search in MLflow](http://m/1)\n\n| trial |\n" + "| x |\n" * 2_000)
    assert (
        text.index("Owner: bank-support") < text.index("## Search") < text.index("[The search in MLflow](http://m/1)")
    )
    assert len(text) == 5_000


def test_a_version_that_answers_from_an_index_says_that_its_copy_retrieves_nothing_and_what_to_give_it():
    index = PinnedIndex(uri="memory://index", digest="fedcba9876543210", search="hybrid", k=3)
    indexed = APPLICATION.answering_from(index)
    text = model_card(indexed, **FIELDS)
    assert "This copy retrieves nothing." in text
    assert "up to 3 passages of the index `fedcba987654`" in text
    assert "before the last question" in text
    assert "a server that applies both and is given passages gives the answers that were judged." in text
    assert "retrieves nothing" not in card() + model_card(indexed, **(FIELDS | {"training": None}))
    variables = [{"name": name} for name in ("prompt", "context")]
    file = PromptFile(template="<message role='user'>{{$context}} {{$prompt}}</message>", input_variables=variables)
    by_variable = APPLICATION.model_copy(update={"prompt": Prompt(file=file)}).answering_from(index)
    assert "as `chat_template_kwargs: {context: ...}`" in model_card(by_variable, **FIELDS)


def test_an_unknown_licence_is_called_unknown():
    assert "(licence: unknown)" in card(base_model="someone/model")
    assert "license: other" in front_matter(APPLICATION, "someone/model")
    assert "license: apache-2.0" in front_matter(APPLICATION, "smollm2-135m-instruct")
    assert "license: apache-2.0" in front_matter(APPLICATION, "smollm2-135m-instruct-7-layers")


def test_it_fits_even_with_endless_reasons():
    assert len(card(reasons=["because " * 200] * 20)) <= 5_000


def test_a_model_that_nobody_could_judge_has_a_card_too():
    text = card(scores={"base": {}, "candidate": {}}, days=[], counts={}, verdict="INSUFFICIENT_DATA")
    assert "INSUFFICIENT_DATA" in text
    assert "| exact match" not in text
