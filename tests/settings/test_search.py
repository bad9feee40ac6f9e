"""What a search tries, as an application's file lists it, and what a person is told who lists what cannot be tried."""

import pytest

from nightshift.settings.application import Application
from nightshift.settings.applications import BadApplication, read_application
from nightshift.settings.decoding import Decoding

SMALLEST = "sources: [{uri: rows.csv, columns: {prompt: question, answer: reply}}]\n"
ENDPOINT = "inference: {endpoint: {url: 'http://127.0.0.1:1/v1', model: m}}\n"
DEVELOPMENT = "ingest: {splits: {train: 0.6, held_out: 0.2, development: 0.2}}\n"
BRIEF = "template: |\n  <message role='system'>Be brief.</message><message role='user'>{{$prompt}}</message>\n"


@pytest.fixture
def read(tmp_path, monkeypatch):
    """A function that reads an application with these choices."""
    for name in ("apps", "prompts"):
        (tmp_path / name).mkdir()
    for name in ("brief", "kind"):
        (tmp_path / f"prompts/{name}.yaml").write_text(BRIEF.replace("brief", name))
    monkeypatch.setenv("NIGHTSHIFT_PROJECT", str(tmp_path))

    def read_choices(choices, rest="", before=SMALLEST + DEVELOPMENT):
        file = tmp_path / "apps/shop.yaml"
        file.write_text(f"{before}search:\n  choices: {choices}\n{rest}")
        return read_application(file)

    return read_choices


def test_every_combination_of_the_choices_is_a_trial_and_jobs_are_given_the_prompts_themselves(read):
    app = read("{prompt: [prompts/brief.yaml, prompts/kind.yaml], few_shot: [0, 4], decoding: [{temperature: 0.3}]}")
    spec = Application.model_validate_json(app.model_dump_json())
    trials = spec.search.choices.trials
    assert [(one["prompt"], one["few_shot"]) for one in trials] == [
        ("prompts/brief.yaml", 0), ("prompts/brief.yaml", 4), ("prompts/kind.yaml", 0), ("prompts/kind.yaml", 4),
    ]  # fmt: skip
    assert {one["decoding"].temperature for one in trials} == {0.3}
    assert "Be kind." in spec.search.choices.prompt["prompts/kind.yaml"].template


def test_what_is_no_choice_is_in_no_trial(read):
    assert read("{few_shot: [2, 4]}").search.choices.trials == [{"few_shot": 2}, {"few_shot": 4}]
    assert read("{decoding: [{}]}").search.choices.trials == [{"decoding": Decoding()}]


RETRIEVAL = (
    "sources: [{uri: rows.csv, columns: {prompt: question, answer: reply, metadata: [found_in]}}]\n"
    "retrieval: {documents: [{uri: faq/*.md}], chunk: {words: 200}, k: 3, relevant: found_in}\n"
)


def test_a_choice_of_retrieval_stands_in_place_of_what_it_gives_and_all_else_is_as_the_file_says(read):
    choices = "{retrieval: [{}, {search: bm25}, {k: 8, chunk: {words: 80, overlap: 10}}]}"
    app = read(choices, "  metric: retrieval_ndcg\n", before=RETRIEVAL + DEVELOPMENT)
    spec = Application.model_validate_json(app.model_dump_json())
    as_file, by_words, smaller = (one["retrieval"].applied_to(spec.retrieval) for one in spec.search.choices.trials)
    assert as_file == app.retrieval
    assert by_words == app.retrieval.model_copy(update={"search": "bm25"})
    assert (smaller.chunk.words, smaller.chunk.overlap, smaller.k, smaller.search) == (80, 10, 8, "hybrid")


@pytest.mark.parametrize(
    ("choices", "rest", "said"),
    [
        ("{retrieval: [{sarch: bm25}]}", "", "did you mean `search`?"),
        ("{retrieval: [{search: bm52}]}", "", "did you mean `bm25`?"),
        ("{retrieval: [{documents: []}]}", "", "search.choices.retrieval[0].documents: unknown key"),
        ("{retrieval: [{chunk: {words: 40}}]}", "", "overlap: 30 is more than half of the 40 words"),
        ("{retrieval: [{k: 1}], few_shot: [1]}", "  metric: retrieval_mrr\n", "leave choices.few_shot out"),
    ],
)
def test_a_way_to_retrieve_that_cannot_be_tried_is_said_with_its_place(read, choices, rest, said):
    with pytest.raises(BadApplication) as caught:
        read(choices, rest, before=RETRIEVAL + DEVELOPMENT)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("choices", "rest", "said"),
    [
        ("{prompt: [prompts/breif.yaml]}", "", "did you mean `prompts/brief.yaml`?"),
        ("{prompt: [../outside.yaml]}", "", "is no .yaml file of the project folder"),
        ("{prompt: [{template: x}]}", "", "is no name of a prompt file"),
        ("{few_shot: [99]}", "", "less than or equal to 32"),
        ("{few_shoot: [1]}", "", "did you mean `few_shot`?"),
        ("{}", "", "there is nothing to choose"),
        ("{few_shot: [1, 2, 3]}", "  most_trials: 2\n", "the choices make 3 trials, and most_trials is 2"),
        ("{decoding: [{}, {regex: a+}]}", ENDPOINT, "search.choices.decoding[1].regex"),
        ("{few_shot: [1]}", "  metric: judge\n", "the application has no `judge`"),
        ("{few_shot: [1]}", "  metric: retrieval_mrr\n", "retrieval_mrr needs `retrieval.relevant`"),
        ("{retrieval: [{k: 1}]}", "", "the application has no `retrieval`"),
        ("{few_shot: [1]}", "  schedule: often\n", "schedule"),
    ],
)
def test_what_cannot_be_tried_is_said_with_its_place_in_the_file(read, choices, rest, said):
    with pytest.raises(BadApplication) as caught:
        read(choices, rest)
    assert said in str(caught.value)
    assert "apps/shop.yaml:" in str(caught.value)


def test_a_search_needs_rows_that_no_gate_judges_by(read):
    with pytest.raises(BadApplication, match=r"give ingest\.splits\.development a share"):
        read("{few_shot: [1]}", before=SMALLEST)


def test_a_prompt_that_takes_a_column_that_no_source_has_is_an_error(read, tmp_path):
    variables = "input_variables: [{name: prompt}, {name: plan}]\n"
    (tmp_path / "prompts/kind.yaml").write_text(BRIEF.replace("brief", "{{$plan}}") + variables)
    with pytest.raises(BadApplication, match=r"prompts/kind\.yaml: the variable `plan` is no column"):
        read("{prompt: [prompts/kind.yaml]}")
