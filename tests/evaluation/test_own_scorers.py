"""A team's own scorers at work: their values, and every way to fail, which takes no other row along."""

import re
from hashlib import sha256
from pathlib import Path

import pytest

from nightshift.errors import BadInput, Preempted
from nightshift.evaluation.own_scorers import load_own_scorers
from nightshift.evaluation.scorers import Scorers
from nightshift.settings.applications import read_application
from nightshift.settings.prompt import Prompt
from nightshift.settings.scorers import TAKEN, Scorer

ROWS = [
    {
        "prompt": prompt, "response": response, "context": None, "reference": None, "metadata": [("tier", "gold")],
        "messages": [{"role": "user", "content": prompt}],
    }
    for prompt, response in (
        ("where is my card", "Please wait, it is on its way."),
        ("crash", "No."),
        ("is it lost", "Sorry, please ask again."),
    )
]  # fmt: skip


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A function that writes the module of a project and reads an application with one scorer of it."""
    monkeypatch.setenv("NIGHTSHIFT_PROJECT", str(tmp_path))
    (tmp_path / "apps").mkdir()

    def write(body, settings="", head=""):
        (tmp_path / "tone.py").write_text(f"{head}\ndef measured(rows):\n    {body}\n")
        file = tmp_path / "apps/shop.yaml"
        file.write_text(
            "sources: [{uri: rows.csv, columns: {prompt: question}}]\n"
            f"scorers: {{measured: {{function: 'tone:measured', {settings}}}}}\n"
        )
        return read_application(file)

    write.folder = tmp_path
    return write


@pytest.fixture
def score(project):
    """A function that scores the rows by a function with the given body."""

    def scored(body, settings="", head=""):
        app = project(body, settings, head)
        return load_own_scorers(app.scorers, project.folder)["measured"].score(ROWS)

    return scored


def test_every_row_has_the_value_that_the_function_gives_it(score):
    values = score("return [row['response'].lower().count('please') for row in rows]")
    assert values == ([1.0, 0.0, 1.0], [None] * 3)
    assert score("return ['polite' if 'lease' in row['response'] else 'curt' for row in rows]", "kind: category") == (
        ["polite", "curt", "polite"],
        [None] * 3,
    )


def test_a_function_sees_metadata_by_name_and_may_return_an_array(score):
    assert score("return [len(row['metadata']['tier']) for row in rows]")[0] == [4.0] * 3
    body = "return np.array(['lease' in row['response'] for row in rows])"
    assert score(body, "kind: share", "import numpy as np")[0] == [1.0, 0.0, 1.0]


def test_none_says_that_a_score_does_not_apply(score):
    body = "return [None if row['prompt'] == 'crash' else 1 for row in rows]"
    assert score(body) == ([1.0, None, 1.0], [None, "not_applicable", None])


def test_a_row_that_the_function_fails_on_fails_alone_and_the_log_says_how(score, caplog):
    body = "return [1 / ('crash' not in row['prompt']) for row in rows]"
    assert score(body) == ([1.0, None, 1.0], [None, "failed", None])
    assert "the scorer measured failed on 1 of 3 rows; on the first: ZeroDivisionError: division by zero" in caplog.text


@pytest.mark.parametrize(
    ("body", "settings", "said"),
    [
        ("return [0.5]", "", ""),  # each row asked alone gets one
        ("return [0.5] * 7", "", "it returned 7 values for 1 rows"),
        ("return None", "", "it returned NoneType, not a list"),
        ("return 'abc'", "", "it returned str, not a list"),
        ("return ['0.5' for _ in rows]", "", "expected a number, got str"),
        ("return [float('nan') for _ in rows]", "", "nan is not a finite 32-bit number"),
        ("return [float('inf') for _ in rows]", "", "inf is not a finite 32-bit number"),
        ("return [1e39 for _ in rows]", "", "1e+39 is not a finite 32-bit number"),
        ("return [10 ** 400 for _ in rows]", "", "OverflowError"),
        ("return [0.5 for _ in rows]", "kind: share", "expected 0 or 1 for a share, got 0.5"),
        ("return [1.5 for _ in rows]", "min: 0, max: 1", "1.5 is outside of the bounds min: 0.0, max: 1.0"),
        ("return [1 for _ in rows]", "kind: category", "expected a string, got int"),
        ("return ['' for _ in rows]", "kind: category", "expected a category of 1 to 200 characters, got 0"),
        ("return ['x' * 201 for _ in rows]", "kind: category", "got 201"),
        (r"return ['\ud800' for _ in rows]", "kind: category", "UnicodeEncodeError"),
        ("raise SystemExit", "", "SystemExit"),
        ("raise ValueError('\\x1b[31m red')", "", "ValueError: ⟨U+001B⟩[31m red"),
    ],
)
def test_what_is_no_value_is_a_failure_with_its_reason(score, caplog, body, settings, said):
    values, reasons = score(body, settings)
    assert (values, reasons) == (([None] * 3, ["failed"] * 3) if said else ([0.5] * 3, [None] * 3))
    assert said in caplog.text


@pytest.fixture
def clock(monkeypatch):
    """Seconds that functions slept, which nobody waits for."""
    slept = []
    monkeypatch.setattr("time.sleep", slept.append)
    monkeypatch.setattr("time.monotonic", lambda: sum(slept))
    return slept


def many(rows, crash=lambda number: True):
    return [{**ROWS[0], "prompt": "crash" if crash(number) else "fine"} for number in range(rows)]


WAITS = """for row in rows:
        if row["prompt"] == "crash":
            time.sleep(30)
            raise TimeoutError("read timed out")
        time.sleep({seconds})
    return [1.0 for _ in rows]"""


@pytest.fixture
def waiting(project):
    """A scorer that takes some seconds for a row, and fails on others after 30."""

    def scorer(seconds=0):
        app = project(WAITS.format(seconds=seconds), head="import time")
        return load_own_scorers(app.scorers, project.folder)["measured"]

    return scorer


def test_a_scorer_whose_service_is_down_is_given_up_and_does_not_run_for_a_night(waiting, clock, caplog):
    scorer, batch = waiting(), many(4_000)
    for _ in range(5):
        assert scorer.score(batch) == ([None] * 4_000, ["failed"] * 4_000)
    assert sum(clock) == 330
    assert scorer.given_up == "given up after 10 failures that took 300 s, of 300 s in all"
    (said,) = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert said.startswith("the scorer measured is no longer called: given up after 10 failures")
    assert "TimeoutError: read timed out" in said
    # Also what would succeed by now is asked no more: it would be no sample of the night.
    assert scorer.score(ROWS[:1]) == ([None], ["failed"])


def test_a_scorer_that_answers_now_and_then_and_costs_more_by_its_failures_is_given_up(waiting, clock):
    scorer = waiting()
    values, _ = scorer.score(many(4_000, crash=lambda number: number % 10))
    assert (values.count(1.0), sum(clock)) == (2, 330)
    assert scorer.given_up


def test_failures_that_cost_less_than_what_is_scored_are_no_reason_to_give_up(waiting, clock):
    scorer = waiting(seconds=2)
    values, _ = scorer.score(many(1_000, crash=lambda number: number % 20 == 0))
    assert (values.count(1.0), scorer.given_up) == (950, "")
    assert sum(clock) == 30 + 50 * 30 + 950 * 2


def test_a_batch_that_times_out_while_each_row_succeeds_is_no_failure(project, clock):
    body = "time.sleep(600 if len(rows) > 1 else 1)\n    return [1.0] if len(rows) == 1 else 1 / 0"
    scorer = load_own_scorers(project(body, head="import time").scorers, project.folder)["measured"]
    assert scorer.score(many(10)) == ([1.0] * 10, [None] * 10)
    assert (scorer.given_up, sum(clock)) == ("", 610)


def test_batches_that_take_their_time_and_give_no_values_are_given_up(project, clock):
    scorer = load_own_scorers(
        project("time.sleep(200)\n    return [float('nan') for _ in rows]", head="import time").scorers, project.folder
    )["measured"]
    assert [scorer.score(many(10))[1] for _ in range(4)] == [["failed"] * 10] * 4
    assert (sum(clock), scorer.given_up) == (400, "given up after 20 failures that took 400 s, of 400 s in all")


def test_one_slow_failure_or_many_fast_ones_are_no_reason_to_give_up(project, clock):
    body = "time.sleep(900 if rows[0]['response'] == 'slow' else 0.01)\n    return 1 / 0"
    scorer = load_own_scorers(project(body, head="import time").scorers, project.folder)["measured"]
    scorer.score([{**ROWS[0], "response": "slow"}])
    assert scorer.given_up == ""
    fast = load_own_scorers(project(body, head="import time").scorers, project.folder)["measured"]
    fast.score(many(2_000))
    assert fast.given_up == ""


def test_what_a_function_does_to_its_rows_changes_none_of_another(score):
    body = "return [len(row.pop('response')) + row['metadata'].update(tier='x') for row in rows]"  # None: fails
    assert score(body)[1] == ["failed"] * 3
    assert ROWS[0]["response"].startswith("Please")
    assert ROWS[0]["metadata"] == [("tier", "gold")]


def test_own_scores_stand_beside_ours_with_their_cost(project, wordless_model):
    app = project("return [None if 'crash' in row['prompt'] else row['metadata'].get('n', 0) for row in rows]")
    scorers = Scorers(app, wordless_model)
    columns = scorers.score(["a", "crash"], ["b", "c"], [None] * 2, [None] * 2, ["stop"] * 2, [{"n": 3}, {}])
    assert columns["measured"] == [3.0, None]
    assert [row["measured"] for row in columns["unscored"]] == [None, "not_applicable"]
    assert columns["valid"] == [1.0, 1.0]
    # No own scorer may have one of the other names: its seconds would be added to ours.
    assert set(scorers.seconds) - TAKEN == {"measured"}
    assert scorers.score([], [], [], [], [])["measured"] == []


def test_an_own_scorer_is_told_the_language_of_each_response(project, wordless_model):
    app = project("return [row['language'] for row in rows]", "kind: category")
    prompts = ["Wo ist meine neue Karte geblieben?", "Where is my new card?", "Wo ist meine neue Karte geblieben?"]
    responses = ["Sie ist unterwegs zu Ihnen.", "card arrival", "Your card arrives on Monday."]
    columns = Scorers(app, wordless_model).score(prompts, responses, [None] * 3, [None] * 3, ["stop"] * 3)
    assert columns["measured"] == ["de", "en", "en"]


def test_an_own_scorer_is_given_the_conversation_without_its_answer(project, wordless_model):
    body = "return ['|'.join(f\"{one['role'][0]}:{one.pop('content')}\" for one in row['messages']) for row in rows]"
    app = project(body, "kind: category").model_copy(update={"prompt": Prompt(system="Be brief.")})
    turns = [{"role": role, "content": text} for role, text in (("user", "a"), ("assistant", "b"), ("user", "c"))]
    rows = [[*turns, {"role": "assistant", "content": "known"}], [{"role": "system", "content": "x"}, turns[2]]]
    given = (["c", "c"], ["d", "d"], [None] * 2, [None] * 2, ["stop"] * 2)
    assert Scorers(app, wordless_model).score(*given, [], rows)["measured"] == ["s:Be brief.|u:a|a:b|u:c", "s:x|u:c"]
    assert Scorers(app, wordless_model).score(*given)["measured"] == ["s:Be brief.|u:c"] * 2
    assert turns[0] == {"role": "user", "content": "a"}


def test_another_version_of_the_module_than_the_application_was_read_with_is_not_run(project):
    app = project("return [1 for _ in rows]")
    (project.folder / "tone.py").write_text("raise AssertionError('it was run')\ndef measured(rows): ...\n")
    with pytest.raises(BadInput, match=r"the scorer measured: .*tone\.py has the SHA-256 .* different versions of the"):
        load_own_scorers(app.scorers, project.folder)
    (project.folder / "tone.py").unlink()
    with pytest.raises(BadInput, match=r"there is no file .*tone\.py.*needs the same project folder as Airflow"):
        load_own_scorers(app.scorers, project.folder)


def test_a_module_that_cannot_be_imported_is_named_with_its_line(project):
    app = project("return [1 for _ in rows]", head="import json\nimport no_such_package")
    with pytest.raises(BadInput, match=r"tone\.py:2 cannot be imported: ModuleNotFoundError: .*no_such_package"):
        load_own_scorers(app.scorers, project.folder)


def test_a_job_that_is_told_to_stop_while_a_function_runs_stops(score):
    with pytest.raises(Preempted):
        score("raise Preempted('stopped by SIGTERM')", head="from nightshift.errors import Preempted")


def test_the_example_of_the_documentation_scores(tmp_path, monkeypatch):
    text = (Path(__file__).parents[2] / "docs/scorers.md").read_text(encoding="utf-8")
    section = text[text.index("## Your own scorers") :]
    module, settings = (re.search(rf"```{kind}\n(.*?)```", section, re.S)[1] for kind in ("python", "yaml"))
    monkeypatch.setenv("NIGHTSHIFT_PROJECT", str(tmp_path))
    (tmp_path / "apps").mkdir()
    (tmp_path / "tone.py").write_text(module)
    file = tmp_path / "apps/returns_helper.yaml"
    file.write_text(f"sources: [{{uri: rows.csv, columns: {{prompt: question}}}}]\n{settings}")
    scorers = load_own_scorers(read_application(file).scorers, tmp_path)
    said = [{**ROWS[0], "response": text} for text in ("Hello, sorry to hear that", "No.", "")]
    assert scorers["politeness"].score(said) == ([0.2, 0.0, None], [None, None, "not_applicable"])
    assert scorers["opening"].score(said)[0] == ["greeting", "other", "other"]


@pytest.fixture
def classifier(tmp_path):
    """The folder of a small text classification model with the labels fine and toxic."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"[UNK]": 0, "[PAD]": 1, "Karte": 2, "Idiot": 3}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    folder = tmp_path / "toxicity_de"
    PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="[UNK]", pad_token="[PAD]", model_max_length=32
    ).save_pretrained(folder)
    config = BertConfig(
        vocab_size=4, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=32, id2label={0: "fine", 1: "toxic"}, label2id={"fine": 0, "toxic": 1},
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_the_documented_classifier_scores_its_language_and_loads_no_pickled_weights(tmp_path, classifier):
    import torch
    from safetensors.torch import load_file

    text = (Path(__file__).parents[2] / "docs/scorers.md").read_text(encoding="utf-8")
    section = text[text.index("### A classifier in another language") :]
    module = re.search(r"```python\n(.*?)```", section, re.S)[1]
    assert "models/toxicity_de" in module
    (tmp_path / "german.py").write_text(module.replace("models/toxicity_de", str(classifier)))
    made = Scorer(
        function="german:toxicity", min=0, max=1, digest=sha256((tmp_path / "german.py").read_bytes()).hexdigest()
    )
    said = [("de", "Die Karte ist unterwegs"), ("en", "Your card"), ("de", "Du Idiot " * 100)]
    rows = [{**ROWS[0], "language": language, "response": response} for language, response in said]
    values, reasons = load_own_scorers({"toxicity_de": made}, tmp_path)["toxicity_de"].score(rows)
    assert reasons == [None, "not_applicable", None]
    assert all(0 < value < 1 for value in (values[0], values[2]))

    weights = classifier / "model.safetensors"
    torch.save(load_file(weights), classifier / "pytorch_model.bin")
    weights.unlink()
    assert load_own_scorers({"toxicity_de": made}, tmp_path)["toxicity_de"].score(rows)[1][0] == "failed"


def test_a_module_may_hold_what_modules_hold(score):
    head = "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass Word:\n    text: str\n"
    assert score("return [len(Word(row['prompt']).text) for row in rows]", head=head)[0] == [16.0, 5.0, 10.0]
