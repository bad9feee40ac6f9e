"""Preference pairs in the forms in which people keep them: the chosen answer is the example's, the rejected one beside it."""

import json

import pytest
from pydantic import ValidationError
from raw_rows import jsonl

from nightshift.settings.intake import Columns

ASKED = {"role": "user", "content": "How do I open the hood?"}
CHOSEN, REJECTED = "Pull the lever under the dashboard.", "Ask somebody."


def answer(text):
    return {"role": "assistant", "content": text}


BEFORE = [{"role": "system", "content": "Be kind."}, ASKED, answer("Which car?")]
AGAIN = {"role": "user", "content": "A blue one."}
TRANSCRIPT = "\n\nHuman: How do I open the hood?\n\nAssistant: Which car?\n\nHuman: A blue one.\n\nAssistant:"
FORMS = {
    "texts": ("preference", {"prompt": ASKED["content"], "chosen": CHOSEN, "rejected": REJECTED}),
    "messages behind the prompt": (
        "preference", {"prompt": [*BEFORE, AGAIN], "chosen": [answer(CHOSEN)], "rejected": [answer(REJECTED)]}
    ),
    "one message each": ("preference", {"prompt": [ASKED], "chosen": answer(CHOSEN), "rejected": answer(REJECTED)}),
    "json text": (
        "preference", {"prompt": json.dumps([ASKED]), "chosen": json.dumps([answer(CHOSEN)]), "rejected": REJECTED}
    ),
    "whole conversations": (
        "preference", {"chosen": [*BEFORE, AGAIN, answer(CHOSEN)], "rejected": [*BEFORE, AGAIN, answer(REJECTED)]}
    ),
    "whole conversations beside their prompt": (
        "preference", {"prompt": ASKED["content"], "chosen": [ASKED, answer(CHOSEN)], "rejected": [ASKED, answer(REJECTED)]}
    ),
    "sharegpt": (
        "preference",
        {"prompt": [{"from": "human", "value": ASKED["content"]}], "chosen": {"from": "gpt", "value": CHOSEN},
         "rejected": {"from": "gpt", "value": REJECTED}},
    ),
    "transcripts": ("preference", {"chosen": f"{TRANSCRIPT} {CHOSEN}", "rejected": f"{TRANSCRIPT} {REJECTED}"}),
    "answers to a transcript": ("preference", {"prompt": TRANSCRIPT, "chosen": f" {CHOSEN}", "rejected": f" {REJECTED}"}),
    "openai": (
        "openai_preference",
        {"input": {"messages": [ASKED], "tools": []}, "preferred_output": [answer(CHOSEN)],
         "non_preferred_output": [answer(REJECTED)]},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("layout", "row"), FORMS.values(), ids=FORMS)
def test_every_form_gives_the_chosen_answer_and_keeps_the_rejected_one(ingest, source_of, layout, row):
    source = source_of("rows.jsonl", json.dumps(row) + "\n", columns={}, layout=layout)
    found = ingest(source)
    assert found.quarantine == []
    (example,) = found.examples
    assert (example["answer"], example["rejected"]["content"]) == (CHOSEN, REJECTED)
    assert example["rejected"]["role"] == "assistant"
    roles = [message["role"] for message in example["messages"]]
    assert roles[-2:] == ["user", "assistant"]
    assert len(roles) in {2, 4, 5}
    assert example["prompt"] == (AGAIN if len(roles) > 2 else ASKED)["content"]


def test_another_rejected_answer_makes_another_row_and_is_redacted(ingest, source_of):
    pairs = [{"prompt": "How?", "chosen": "So.", "rejected": text} for text in ("Ask a@b.org", "Ask c@d.org", "No.")]
    found = ingest(source_of("rows.jsonl", "\n".join(map(json.dumps, pairs)), columns={}, layout="preference"))
    assert [row["rejected"]["content"] for row in found.examples] == ["Ask <email>", "No."]
    assert found.counts["duplicates"] == 1
    assert dict(found.examples[0]["pii"]) == {"email": 1}


def test_an_answer_that_is_a_call_can_be_rejected(ingest, source_of):
    call = {"role": "assistant", "tool_calls": [{"id": "x", "function": {"name": "hood", "arguments": "{}"}}]}
    row = {"input": {"messages": [ASKED], "tools": [{"type": "function", "function": {"name": "hood"}}]},
           "preferred_output": [answer(CHOSEN)], "non_preferred_output": [call]}  # fmt: skip
    (example,) = ingest(source_of("a.jsonl", json.dumps(row), columns={}, layout="openai_preference")).examples
    (stored,) = json.loads(example["rejected"]["tool_calls"])
    assert stored["function"] == {"name": "hood", "arguments": {}}
    assert json.loads(example["tools"])[0]["function"]["name"] == "hood"


def test_a_pair_may_have_columns_of_its_own_and_come_as_csv(ingest, source_of):
    columns = Columns(prompt="q", answer="good", rejected="bad")
    (example,) = ingest(source_of("a.csv", "q,good,bad\nHow?,So.,Never.\n", columns=columns)).examples
    assert (example["answer"], example["rejected"]["content"]) == ("So.", "Never.")


@pytest.mark.parametrize("columns", [{"prompt": "p", "rejected": "r"}, {"messages": "m", "rejected": "r"}])
def test_a_rejected_answer_stands_beside_a_chosen_one(columns):
    with pytest.raises(ValidationError, match="`rejected` stands beside `answer`"):
        Columns(**columns)


def test_pairs_that_were_read_as_something_else_are_told_their_layout(ingest, source_of):
    row = json.dumps({"chosen": "a", "rejected": "b"})
    found = ingest(source_of("a.jsonl", row, columns=Columns(prompt="text"))).ingested
    assert found.unusable[0].endswith("it seems to be rows of `layout: preference`")


def test_the_input_of_an_alpaca_pair_continues_its_prompt(ingest, source_of):
    rows = [
        {"instruction": "Translate.", "input": said, "chosen": "Good", "rejected": "Bad"}
        for said in ("Guten Tag", "Gute Nacht")
    ]
    columns = {"answer": "chosen", "rejected": "rejected"}
    found = ingest(source_of("a.jsonl", jsonl(*rows), columns=columns, layout="alpaca")).examples
    assert [row["prompt"] for row in found] == ["Translate.\n\nGuten Tag", "Translate.\n\nGute Nacht"]
