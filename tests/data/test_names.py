"""Names of people and places: found by spaCy pipelines through Presidio, replaced exactly, never taken for searched."""

import json
import sys
from importlib.util import find_spec

import pytest

from nightshift.cli import main
from nightshift.data.names import NameFinder, identity, missing
from nightshift.errors import BadInput
from nightshift.settings.intake import Columns, Ingest, Names

needs_presidio = pytest.mark.skipif(
    find_spec("presidio_analyzer") is None,
    reason="needs the extra: pip install -e '.[presidio]', then pytest -m slow tests/data/test_names.py",
)
GERMAN = "Ich heiße Jürgen Groß, wohne in Köln und warte seit gestern auf meine Karte."
ENGLISH = "My name is Anna Schmidt, I live in Berlin and I am still waiting for my card."
MESSAGES = Columns(messages="m", metadata=["note"])


def pipeline(folder, language, patterns, version="1.0.0"):
    """Save a spaCy pipeline that finds what its patterns say; label -> texts. It stands for a statistical one."""
    import spacy

    made = spacy.blank(language, meta={"name": "rules", "version": version})
    ruler = made.add_pipe("entity_ruler")
    ruler.add_patterns([{"label": label, "pattern": text} for label, texts in patterns.items() for text in texts])
    made.to_disk(folder)
    return str(folder)


@pytest.fixture(scope="module")
def english(tmp_path_factory):
    across = [{"ORTH": "Anna"}, {"ORTH": "<"}, {"ORTH": "email"}, {"ORTH": ">"}, {"ORTH": "Lee"}]
    patterns = {"PERSON": ["Anna Schmidt", "Ada", across], "GPE": ["Berlin"], "DATE": ["2 May 1990"]}
    return pipeline(tmp_path_factory.mktemp("models") / "english", "en", patterns)


@pytest.fixture(scope="module")
def german(tmp_path_factory):
    return pipeline(tmp_path_factory.mktemp("models") / "german", "de", {"PER": ["Jürgen Groß"], "LOC": ["Köln"]})


@pytest.fixture
def rows_of(ingest, source_of):
    """A function that ingests conversations, each a list of texts beginning with the user's, with a model for each language."""

    def run(*conversations, kinds=("person", "location"), note="", **models):
        rows = [
            {
                "m": [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)],
                "note": note,
            }
            for texts in conversations
        ]
        source = source_of("rows.jsonl", "".join(json.dumps(row) + "\n" for row in rows), columns=MESSAGES)
        settings = Ingest(names=Names(models=models, kinds=list(kinds)), near_duplicates=1)
        return ingest(source, settings=settings)

    return run


def test_without_the_extra_the_check_of_application_files_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "presidio_analyzer", None)  # as if it was not installed
    file = tmp_path / "shop.yaml"
    source = "{uri: rows.jsonl, layout: openai}"
    file.write_text(f"sources: [{source}]\ningest: {{names: {{models: {{en: en_core_web_lg}}}}}}\n")
    assert main(["apps", "check", str(file)]) == 65
    assert f"{file}: `ingest.names` needs the package presidio_analyzer: pip install" in capsys.readouterr().err
    with pytest.raises(BadInput, match=r"nightshift\[presidio\]"):
        identity(Names(models={"en": "en_core_web_lg"}))


@needs_presidio
def test_a_model_that_is_not_installed_is_named_and_not_fetched_from_a_network(tmp_path):
    assert "the spaCy model en_core_no_such is not installed" in missing(Names(models={"en": "en_core_no_such"}))
    with pytest.raises(BadInput, match=r"`ingest.names.models.en`: .*/nowhere: there is no spaCy model"):
        NameFinder(Names(models={"en": str(tmp_path / "nowhere")}))


@needs_presidio
@pytest.mark.slow
def test_names_are_replaced_exactly_in_every_text_of_a_row_and_counted(rows_of, english, german):
    found = rows_of(
        [ENGLISH, "Thank you, Anna Schmidt!"], [GERMAN, "Danke, Jürgen Groß"], note="by Ada", en=english, de=german
    )
    first, second = found.examples
    assert first["prompt"] == "My name is <person>, I live in <location> and I am still waiting for my card."
    assert first["answer"] == "Thank you, <person>!"
    assert [message["content"] for message in first["messages"]] == [first["prompt"], first["answer"]]
    assert (dict(first["metadata"]), dict(first["pii"])) == ({"note": "by <person>"}, {"person": 3, "location": 1})
    assert second["prompt"] == "Ich heiße <person>, wohne in <location> und warte seit gestern auf meine Karte."
    assert found.ingested.pii == {"person": 5, "location": 2}


@needs_presidio
@pytest.mark.slow
def test_names_in_an_answer_are_replaced_in_the_language_of_what_was_asked(english, german):
    finder = NameFinder(Names(models={"en": english, "de": german}))
    said = ["Ada lives in Berlin.", "Ada lives in Köln.", "Ada"]
    assert finder.redacted_texts(said, ["en", "de", "fr"]) == [
        "<person> lives in <location>.",
        "Ada lives in <location>.",
        "Ada",
    ]


@needs_presidio
@pytest.mark.slow
def test_names_in_what_a_tool_is_called_with_and_answers_are_replaced_and_the_json_stays_json(
    ingest, source_of, english
):
    call = {"name": "book", "arguments": {"guest": "Anna Schmidt", "places": [{"city": "Berlin"}], "nights": 2}}
    messages = [
        {"role": "user", "content": ENGLISH},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "x", "function": call}]},
        {"role": "tool", "tool_call_id": "x", "content": "Booked for Ada"},
        {"role": "assistant", "tool_calls": [{"id": "y", "function": call}]},
    ]
    source = source_of("rows.jsonl", json.dumps({"m": messages}) + "\n", columns=Columns(messages="m"))
    (row,) = ingest(source, settings=Ingest(names=Names(models={"en": english}))).examples
    first, second = (json.loads(row["messages"][place]["tool_calls"])[0]["function"] for place in (1, 3))
    shown = {"guest": "<person>", "places": [{"city": "<location>"}], "nights": 2}
    assert first["arguments"] == second["arguments"] == shown
    assert row["messages"][2]["content"] == "Booked for <person>"
    assert json.loads(row["answer"])[0]["function"] == second
    assert "Anna" not in json.dumps(row, default=str)


@needs_presidio
@pytest.mark.slow
def test_kinds_that_nobody_asked_for_stay(rows_of, english):
    text = "Anna Schmidt was born in Berlin on 2 May 1990, and she would like to have a new card."
    (row,) = rows_of([text], kinds=["person"], en=english).examples
    assert row["prompt"] == text.replace("Anna Schmidt", "<person>")
    (row,) = rows_of([text], kinds=["date"], en=english).examples
    assert row["prompt"] == text.replace("2 May 1990", "<date>")


@needs_presidio
@pytest.mark.slow
def test_what_a_pattern_found_first_stays_inside_of_a_name(rows_of, english):
    (row,) = rows_of(["Please write an answer to Anna ada@example.com Lee as soon as you can"], en=english).examples
    assert row["prompt"] == "Please write an answer to <person> <email> <person> as soon as you can"
    assert dict(row["pii"]) == {"email": 1, "person": 2}


@needs_presidio
@pytest.mark.slow
@pytest.mark.parametrize(
    "filler", ["This is a long sentence about my card. ", "This is one line about my card\n", "card,"]
)
def test_a_name_far_into_a_long_text_is_found_where_it_stands(rows_of, english, filler):
    text = f"Hello, this is Ada. {filler * 450}Anna Schmidt of Berlin {filler * 10}Ada again"
    (row,) = rows_of([text], en=english).examples
    expected = text.replace("Anna Schmidt", "<person>").replace("Berlin", "<location>").replace("Ada", "<person>")
    assert row["prompt"] == expected


@needs_presidio
@pytest.mark.slow
def test_a_language_without_a_model_is_kept_as_it_is_unless_a_model_takes_all_others(rows_of, english, german):
    found = rows_of([GERMAN], en=english)
    assert found.examples[0]["prompt"] == GERMAN
    assert found.ingested.languages == {"de": 1}
    assert "<person>" in rows_of([GERMAN], en=english, other=german).examples[0]["prompt"]


@needs_presidio
@pytest.mark.slow
def test_messages_that_differ_in_a_name_alone_are_duplicates(rows_of, english):
    same = [[f"My name is {name} and I am waiting for my new card."] for name in ("Ada", "Anna Schmidt")]
    assert rows_of(*same, en=english).counts["duplicates"] == 1


@needs_presidio
@pytest.mark.slow
def test_a_row_that_could_not_be_read_leaves_no_name_in_quarantine(rows_of, english):
    row = {"role": "user", "content": "I am Anna Schmidt"}
    (aside,) = rows_of(["I am Anna Schmidt", "Yes?", {"image": row}], en=english).quarantine
    assert (aside["reason"], aside["raw"]) == ("not_text", "")
    assert "Anna" not in aside["detail"]


@needs_presidio
@pytest.mark.slow
def test_a_model_that_finds_nothing_of_what_is_asked_for_is_refused(german, tmp_path):
    with pytest.raises(BadInput, match=r"finds no date, .* its labels are LOC, PER"):
        NameFinder(Names(models={"de": german}, kinds=["person", "date"]))
    (tmp_path / "meta.json").write_text('{"lang": "en", "name": "rules", "version": "1"}')
    with pytest.raises(BadInput, match="cannot be loaded"):
        NameFinder(Names(models={"en": str(tmp_path)}))


@needs_presidio
@pytest.mark.slow
def test_a_model_is_known_by_name_version_and_files_and_not_by_its_place(tmp_path):
    patterns = {"PERSON": ["Ada"], "GPE": ["Berlin"]}
    one, copy = (pipeline(tmp_path / name, "en", patterns) for name in ("one", "copy"))
    other = pipeline(tmp_path / "other", "en", patterns | {"PERSON": ["Ada", "Grace"]})
    first, second, third = (identity(Names(models={"en": model})) for model in (one, copy, other))
    assert first == second != third
    assert (first["models"]["en"]["name"], first["models"]["en"]["version"]) == ("en_rules", "1.0.0")
    assert str(tmp_path) not in json.dumps(first)
