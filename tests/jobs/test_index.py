"""The index job: what is found in documents, what became of each, and that an index made of an earlier one is the same."""

import json
import sqlite3
from typing import get_args

import matplotlib
import pyarrow.parquet as pq
import pytest
from matplotlib.figure import Figure
from pypdf import PdfWriter
from sentence_models import save
from transformers import BertForSequenceClassification
from upath import UPath

from nightshift.errors import BadEnvironment, BadInput
from nightshift.jobs.index import Spec, run
from nightshift.retrieval import partition as partitions
from nightshift.retrieval.embeddings import WordVectors
from nightshift.retrieval.index import DOCUMENTS
from nightshift.retrieval.newest import newest_index
from nightshift.retrieval.search import Index, fused, relevance
from nightshift.retrieval.sentence_model import PassageReranker, reranker_identity
from nightshift.settings.application import Application
from nightshift.settings.retrieval import Reranker, SearchBy
from nightshift.storage.manifest import require_manifest
from nightshift.storage.partition import fetch
from nightshift.verdict import Verdict

TEXTS = {
    "cards": "A lost card is blocked in the app. A new card arrives by post within five working days.",
    "fees": "Withdrawing cash abroad costs two percent of the amount, at least three euros.",
    "transfers": "A transfer to another bank arrives on the next working day when it is sent before noon.",
    "配达": "新しいカードは五日以内に郵送で届きます。",
}


@pytest.fixture
def indexed(tmp_path, storage, progress):
    """A function that writes rows of documents and runs the job."""

    def run_index(rows, **fields):
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        documents = [{"uri": f"{tmp_path}/rows.jsonl", "columns": {"id": "id", "text": "text"}}]
        application = Application(
            name="app",
            sources=[{"uri": "rows.jsonl", "columns": {"prompt": "text", "answer": "answer"}}],
            retrieval={"documents": documents} | fields,
        )
        return run(Spec(application=application, storage=storage), progress)

    return run_index


def rows_of(texts):
    return [{"id": name, "text": text} for name, text in texts.items()]


def write_pdf(path, text):
    with matplotlib.rc_context({"pdf.fonttype": 42}):
        figure = Figure()
        figure.text(0.1, 0.5, text)
        figure.savefig(path, metadata={"Title": "Lost cards"})


def opened(result, folder, models=None):
    partition = UPath(result.index)
    return Index.open(partition, require_manifest(partition, result.digest), folder, models=models)


@pytest.mark.parametrize("search", ["bm25", "vectors", "hybrid"])
def test_the_passage_that_answers_a_question_is_found_first(indexed, tmp_path, search):
    index = opened(indexed(rows_of(TEXTS)), tmp_path)
    asked = ["When does my new card arrive?", "What does it cost to withdraw cash abroad?"]
    found = index.retrieve(asked, 2, search)
    assert [passages[0].document for passages in found] == [
        "documents/cards",
        "documents/fees",
    ]
    assert found[1][0].text == TEXTS["fees"]
    assert found[0][0].score > found[0][1].score


def test_what_no_document_answers_finds_less_relevant_passages_whatever_the_search(indexed, tmp_path):
    index = opened(indexed(rows_of(TEXTS)), tmp_path)
    asked = ["How much does withdrawing cash cost?", "Which animals by lake Victoria can swim?"]
    best = [[found[0].relevance for found in index.retrieve(asked, 2, search)] for search in get_args(SearchBy)]
    for answered, unanswered in best:
        assert 0 <= unanswered < answered / 2 < answered <= 1
    assert len({answered for answered, _ in best}) == 1  # of the same passage


def test_words_are_found_in_scripts_without_spaces_and_a_question_without_known_words_finds_none(indexed, tmp_path):
    index = opened(indexed(rows_of(TEXTS)), tmp_path)
    found = index.retrieve(["郵送", "xyzzy", "…"], 3, "bm25")
    assert [[passage.document for passage in passages] for passages in found] == [["documents/配达"], [], []]


def test_only_changed_documents_are_embedded_again_and_the_index_is_that_of_a_full_rebuild(
    indexed, tmp_path, monkeypatch
):
    indexed(rows_of(TEXTS))
    embedded = []
    monkeypatch.setattr(
        WordVectors, "embed", lambda self, texts, real=WordVectors.embed: embedded.extend(texts) or real(self, texts)
    )
    changed = {**TEXTS, "fees": "Cash is free.", "limits": "At most a thousand euros a day."}
    del changed["transfers"]
    again = indexed(rows_of(changed))
    assert (again.documents, again.unchanged, again.removed) == (4, 2, 1)
    assert sorted(embedded) == ["At most a thousand euros a day.", "Cash is free."]

    UPath(again.index).fs.rm(UPath(again.index).parent.path, recursive=True)
    rebuilt = indexed(rows_of(changed))
    assert (rebuilt.unchanged, rebuilt.digest) == (0, again.digest)


def test_an_index_of_a_model_takes_over_its_vectors_also_where_a_reranker_is_added(indexed, tmp_path):
    embedder = {"model": str(save(tmp_path / "embedder"))}
    rows = [{"id": name, "text": name} for name in ("a new card arrives by post", "cash is free", "my card is free")]
    plain = indexed(rows, embedder=embedder, search="vectors")
    model = str(save(tmp_path / "reranker", BertForSequenceClassification, seed=1, num_labels=1))
    reranked = indexed(rows, embedder=embedder, reranker={"model": model})
    assert (plain.unchanged, reranked.unchanged) == (0, 3)
    question, folder = "when does my card arrive", tmp_path
    found = [passage.document for passage in opened(plain, folder / "a").retrieve([question], 1, "vectors")[0]]
    (first, second), scorer = opened(reranked, folder / "b").retrieve([question], 2)[0], PassageReranker
    scores = sorted(
        scorer(reranker_identity(Reranker(model=model)), [model]).scores(question, [row["text"] for row in rows])
    )
    assert (len(found), [first.score, second.score]) == (1, scores[:0:-1])


def test_a_model_whose_folder_was_moved_makes_no_other_index_and_goes_on_answering(indexed, tmp_path):
    rows = [{"id": name, "text": name} for name in ("a new card arrives by post", "cash is free")]
    place = save(tmp_path / "embedder")
    made = indexed(rows, embedder={"model": str(place)})
    moved = str(place.rename(tmp_path / "moved"))
    assert indexed(rows, embedder={"model": moved}).index == made.index
    found = opened(made, tmp_path, {"embedder": moved}).retrieve(["is cash free"], 1, "vectors")
    assert found[0][0].document == "documents/cash is free"
    with pytest.raises(BadInput, match="embedder': there is no such folder"):
        opened(made, tmp_path)


def test_an_index_from_when_models_were_named_among_its_inputs_goes_on_answering(indexed, tmp_path):
    models = {"embedder": str(save(tmp_path / "embedder"))}
    models["reranker"] = str(save(tmp_path / "reranker", BertForSequenceClassification, seed=1, num_labels=1))
    made = indexed(rows_of({"a": "a new card"}), **{name: {"model": model} for name, model in models.items()})
    manifest = require_manifest(UPath(made.index))
    inputs = manifest.inputs | {name: manifest.inputs[name] | {"model": model} for name, model in models.items()}
    before = manifest.model_copy(update={"inputs": inputs, "facts": {"unchanged": 0, "removed": 0}})
    assert Index.open(UPath(made.index), before, tmp_path).retrieve(["my card"], 1)[0][0].document == "documents/a"


@pytest.mark.parametrize("storage", ["s3"], indirect=True)
def test_an_index_in_a_bucket_takes_over_vectors_and_is_searched_from_a_copy(indexed, tmp_path):
    indexed(rows_of(TEXTS))
    result = indexed(rows_of({**TEXTS, "fees": "Cash is free."}))
    assert (result.unchanged, result.removed) == (3, 0)
    (tmp_path / "copy").mkdir()
    assert opened(result, tmp_path / "copy").retrieve(["is cash free"], 1)[0][0].document == "documents/fees"


def test_each_row_is_a_document_or_quarantined_with_its_reason(indexed):
    rows = [
        *rows_of(TEXTS),
        {"id": "cards", "text": "Twice."},
        {"id": "e", "text": " "},
        {"text": "x"},
        {"id": "n", "text": 1},
        {"id": "s", "text": "half a pair \ud800"},
    ]
    result = indexed(rows)
    assert result.documents + sum(result.quarantined.values()) == len(rows)
    assert result.quarantined == {
        "duplicate_id": 1, "empty": 1, "lone_surrogate": 1, "missing_id": 1, "not_text": 1
    }  # fmt: skip
    assert "{'duplicate_id': 1, 'empty': 1, 'lone_surrogate': 1," in result.reason


def test_documents_that_say_nearly_the_same_are_marked_with_the_first_of_them(indexed, tmp_path):
    text = " ".join(TEXTS[name] for name in ("cards", "fees", "transfers"))
    texts = {"z": TEXTS["fees"], "b": text.upper(), "a": text, "c": text.replace("noon", "noon on that day")}
    result = indexed(rows_of(texts))
    partition = UPath(result.index)
    manifest = require_manifest(partition, result.digest)
    table = pq.read_table(fetch(partition, manifest, DOCUMENTS, tmp_path))
    assert dict(zip(table["id"].to_pylist(), table["near_duplicate_of"].to_pylist(), strict=True)) == {
        "documents/a": None, "documents/b": "documents/a", "documents/c": "documents/a", "documents/z": None,
    }  # fmt: skip
    assert result.near_duplicates == manifest.counts["near_duplicates"] == 2
    assert "2 near-duplicates" in result.reason


def test_without_a_document_the_index_that_is_there_stays(indexed, storage):
    first = indexed(rows_of(TEXTS))
    assert indexed([]).verdict is Verdict.INSUFFICIENT_DATA
    assert newest_index(storage, "app").digest == first.digest


def test_a_job_that_ended_before_it_named_its_index_finds_it_again(indexed, storage, monkeypatch):
    def die(*_):
        raise BadEnvironment("killed")

    with monkeypatch.context() as patched:
        patched.setattr("nightshift.retrieval.newest.name_newest", die)
        with pytest.raises(BadEnvironment):
            indexed(rows_of(TEXTS))
    monkeypatch.setattr(partitions, "make", die)
    assert indexed(rows_of(TEXTS)).digest == newest_index(storage, "app").digest


def test_whole_files_are_documents_with_the_text_that_readers_see(tmp_path, storage, progress):
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "a.html").write_text("<title>Fees</title><style>p {}</style><p>Cash is&nbsp;free.</p>")
    (tmp_path / "pages" / "b.md").write_bytes("Größe".encode("latin-1"))
    (tmp_path / "pages" / "odd.html").write_text("<![sort of a page]> Gold is dear." + "<a " * 50_000)
    write_pdf(tmp_path / "pages" / "c.pdf", "A lost card is blocked in the app.")
    (tmp_path / "pages" / "damaged.pdf").write_bytes((tmp_path / "pages" / "c.pdf").read_bytes()[:300])
    write_pdf(tmp_path / "pages" / "scanned.pdf", "")
    secret = PdfWriter(clone_from=tmp_path / "pages" / "c.pdf")
    secret.encrypt("only for some", algorithm="RC4-128")
    secret.write(tmp_path / "pages" / "secret.pdf")
    application = Application(
        name="app",
        sources=[{"uri": "rows.jsonl", "columns": {"prompt": "text", "answer": "answer"}}],
        retrieval={"documents": [{"uri": f"{tmp_path}/pages/*"}]},
    )
    result = run(Spec(application=application, storage=storage), progress)
    (passage,) = opened(result, tmp_path).retrieve(["is cash free"], 1)[0]
    assert (passage.document, passage.title, passage.text.split()) == (
        "documents/a.html",
        "Fees",
        ["Cash", "is", "free."],
    )
    (passage,) = opened(result, tmp_path).retrieve(["who blocks a lost card"], 1)[0]
    assert (passage.document, passage.title, passage.text) == (
        "documents/c.pdf",
        "Lost cards",
        "A lost card is blocked in the app.",
    )
    assert result.quarantined == {"empty": 1, "encrypted": 1, "not_pdf": 1, "not_utf8": 1}


def test_documents_of_a_database_are_those_that_its_query_finds_today(indexed, tmp_path, monkeypatch):
    with sqlite3.connect(tmp_path / "faq.db") as database:
        database.execute("CREATE TABLE faq (id TEXT, body TEXT, live INTEGER)")
        database.executemany("INSERT INTO faq VALUES (?, ?, ?)", [(*one, one[0] != "fees") for one in TEXTS.items()])
    monkeypatch.setenv("AIRFLOW_CONN_FAQ", f"sqlite:///{tmp_path}/faq.db")
    columns = {"id": "id", "text": "body"}
    query = {"name": "faq", "connection": "faq", "query": "SELECT * FROM faq WHERE live", "columns": columns}
    result = indexed([], documents=[query])
    found = opened(result, tmp_path).retrieve(["a new card arrives", "cash abroad"], 5, "bm25")
    assert {passage.document for passages in found for passage in passages} == {"faq/cards", "faq/transfers"}
    assert result.documents == 3


def test_rare_words_of_a_question_weigh_more_and_a_question_without_words_is_judged_by_vectors_alone():
    asked = {"the": 0.1, "overdraft": 2.9}
    assert relevance(asked, {"overdraft"}, 0.4) > relevance(asked, {"the"}, 0.4)
    assert relevance(asked, {"the", "overdraft"}, 1.0) == 1
    assert (relevance({}, {"the"}, 0.5), relevance(asked, (), -0.2)) == (0.25, 0)


def test_rankings_are_fused_by_rank_alone():
    assert [number for number, _ in fused([[(1, 9.0), (2, 8.0)], [(2, 0.2), (3, 0.1)]])] == [2, 1, 3]
