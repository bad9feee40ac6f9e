"""A sequence of prompts in an application's file: what a step may take of the others, and what is said of a wrong one."""

import pytest
from pydantic import ValidationError

from nightshift.settings.application import Application
from nightshift.settings.applications import BadApplication, read_application
from nightshift.settings.prompt import Prompt

FILES = {
    "classify": "template: 'Which intent? {{$prompt}}'\n",
    "answer": "template: 'A message about {{$intent}}: {{$prompt}}'\ninput_variables: [{name: intent, default: something}]\n",
    "check": "template: '{{$prompt}} Is this right? {{$answer}}'\ninput_variables: [{name: answer}]\n",
}
STEPS = (
    "prompt:\n  steps:\n    - {name: intent, file: prompts/classify.yaml}\n    - {name: answer, file: prompts/answer.yaml}\n"
    "    - {name: check, file: prompts/check.yaml}\n"
)
SOURCES = "sources: [{uri: rows.csv, columns: {prompt: question}}]\n"


@pytest.fixture
def project(tmp_path, monkeypatch):
    for name in ("apps", "prompts"):
        (tmp_path / name).mkdir()
    for name, text in FILES.items():
        (tmp_path / f"prompts/{name}.yaml").write_text(text)
    monkeypatch.setenv("NIGHTSHIFT_PROJECT", str(tmp_path))
    return tmp_path


def read(project, prompt=STEPS, rest=""):
    file = project / "apps/shop.yaml"
    file.write_text(SOURCES + prompt + rest)
    return read_application(file)


def complaint(project, **changed):
    with pytest.raises(BadApplication) as caught:
        read(project, **changed)
    return str(caught.value)


def test_the_answer_is_that_of_the_last_step_or_of_the_named_one(project):
    last = read(project).prompt
    assert last.asked("hi", {"answer": "no"})[0]["content"] == "hi Is this right? no"
    named = read(project, prompt=STEPS + "  answer: answer\n").prompt
    assert named.asked("hi", {"intent": "card arrival"})[0]["content"] == "A message about card arrival: hi"
    assert (last.before, named.before) == (["intent", "answer"], ["intent"])


def test_jobs_are_given_the_steps_themselves_and_any_word_of_any_step_is_another_prompt(project):
    before = read(project)
    again = Application.model_validate_json(before.model_dump_json())
    assert (again.prompt, hash(again.prompt)) == (before.prompt, hash(before.prompt))
    for name, text in FILES.items():
        (project / f"prompts/{name}.yaml").write_text(text.replace("{{$prompt}}", "{{$prompt}}!"))
        now = read(project)
        assert now.prompt.model_dump(mode="json") != before.prompt.model_dump(mode="json")
        before = now


def test_another_file_for_the_answer_leaves_the_other_steps_as_they_are(project):
    app = read(project, prompt=STEPS + "  answer: answer\n")
    other = app.prompt.with_examples([{"prompt": "hello", "answer": "a greeting", "metadata": {}}])
    assert [one["content"] for one in other.asked("hi", {"intent": "greeting"})] == [
        "A message about something: hello",
        "a greeting",
        "A message about greeting: hi",
    ]
    assert [other.steps[place] for place in (0, 2)] == [app.prompt.steps[place] for place in (0, 2)]


@pytest.mark.parametrize(
    ("name", "was", "written", "said"),
    [
        ("classify", "intent? {{$prompt}}'", "intent? {{$prompt}} {{$answer}}'\ninput_variables: [{name: answer}]",
         "prompt.steps[0].file: the variable `answer` is no column in `metadata` of any source"),
        ("answer", "$intent}}", "$intend}}", "the template takes `intend`, which is not among them; did you mean `intent`?"),
        ("check", "name: answer", "name: anser", "the template takes `answer`, which is not among them"),
        ("answer", "template: 'A message about {{$intent}}:", "template: '<message role=\"system\">{{$intent}}</message>",
         "prompt.steps[1].file: `intent` is what the model answers to a user's text, and stands in the last message alone"),
    ],
)  # fmt: skip
def test_a_step_takes_the_answers_of_earlier_ones_in_its_last_message_alone(project, name, was, written, said):
    assert was in FILES[name]
    (project / f"prompts/{name}.yaml").write_text(FILES[name].replace(was, written))
    assert said in complaint(project)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"prompt": STEPS + "  answer: reply\n"}, "answer: there is no step `reply`; there are intent, answer, check"),
        ({"prompt": STEPS + "  file: prompts/check.yaml\n"}, "`file` and `steps` both say what the model is given"),
        ({"prompt": STEPS + "  system: Be brief.\n"}, "`system` stands in the prompt's file"),
        ({"prompt": STEPS.replace("name: check", "name: intent")}, "`intent` is there twice"),
        ({"prompt": STEPS.replace("name: check", "name: context")}, "`context` is a variable with a meaning of its own"),
        ({"prompt": STEPS.replace("check.yaml", "chek.yaml")}, "did you mean `prompts/check.yaml`?"),
        ({"rest": "decoding: {json_schema: {type: object}}\ninference: {engine: vllm}\n"}, "each of `prompt.steps` would"),
        ({"rest": "inference: {endpoint: {url: 'http://127.0.0.1:1/v1', model: m, batch: {}}}\n"},
         "inference.endpoint.batch: each step waits for the one before"),
    ],
)  # fmt: skip
def test_a_wrong_sequence_says_what_is_wrong(project, changed, said):
    assert said in complaint(project, **changed)


def test_an_endpoint_may_be_asked_for_json(project):
    read(
        project,
        rest="decoding: {json_schema: {type: object}}\ninference: {endpoint: {url: 'http://127.0.0.1:1/v1', model: m}}\n",
    )


def test_a_single_prompt_is_dumped_as_it_ever_was():
    assert Prompt().model_dump(mode="json") == {"system": None, "user": "{prompt}"}
    with pytest.raises(ValidationError):
        Prompt(answer="intent")
