"""Vectors in a real PostgreSQL with pgvector: it finds what the files find, whoever was killed, and keeps what is searched."""

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from indexed import pinned
from pgvector_server import postgresql
from sqlalchemy import create_engine, text
from upath import UPath

from nightshift.errors import BadEnvironment, BadInput
from nightshift.inference.retrieving import Retriever
from nightshift.jobs.index import Spec, run
from nightshift.retrieval import vector_table
from nightshift.retrieval.index import read_vectors
from nightshift.retrieval.newest import pinned_index
from nightshift.retrieval.search import Index
from nightshift.settings.application import Application
from nightshift.storage.manifest import require_manifest

TOPICS = ("cards", "fees abroad", "a lost phone", "transfers before noon", "savings of children")
DOCUMENTS = [
    (f"d{number:03}", TOPICS[number % 5], f"It is about {TOPICS[number % 7 % 5]}, number {number % 60}.")
    for number in range(80)
]


@pytest.fixture(scope="module")
def server():
    with postgresql() as uri:
        yield uri


@pytest.fixture
def database(server, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_VECTORS", server)
    engine = create_engine(server.replace("postgres://", "postgresql+psycopg2://"))
    yield engine
    for (name,) in execute(engine, "SELECT tablename FROM pg_tables WHERE tablename LIKE 'nightshift%'"):
        execute(engine, f"DROP TABLE {name}")
    engine.dispose()


@pytest.fixture
def opened(tmp_path):
    """A function that indexes documents and opens the index, in the database or from its files."""
    storage = tmp_path.as_uri()

    def open_index(documents=DOCUMENTS, connection="vectors"):
        index = pinned(documents, storage, application="bank")
        return Index.open(UPath(index.uri), require_manifest(UPath(index.uri), index.digest), tmp_path, (), connection)

    return open_index


def tables(database):
    """Each table of vectors, with its rows."""
    found = execute(database, "SELECT tablename FROM pg_tables WHERE tablename LIKE 'nightshift_bank%'")
    return {name: execute(database, f"SELECT count(*) FROM {name}")[0][0] for (name,) in found}  # noqa: S608


def execute(database, statement):
    with database.begin() as connection:
        found = connection.execute(text(statement))
        return found.all() if found.returns_rows else None


@pytest.mark.parametrize("search", ["vectors", "hybrid", "bm25"])
def test_the_database_finds_what_the_files_find(opened, database, search):
    questions = ["what are the fees abroad", "I lost my phone", "number 7", ""] * 17
    here, there = (opened(connection=one).retrieve(questions, 7, search) for one in (None, "vectors"))
    assert [[one.id for one in found] for found in there] == [[one.id for one in found] for found in here]
    for mine, theirs in zip(here, there, strict=True):
        assert [one.score for one in theirs] == pytest.approx([one.score for one in mine], abs=1e-6)
        assert [one.relevance for one in theirs] == pytest.approx([one.relevance for one in mine], abs=2e-6)


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("connection", [None, "vectors"])
def test_a_question_without_a_vector_finds_nothing_by_vectors(opened, connection):
    index = opened(connection=connection)
    assert index.retrieve([""], 7, "vectors") == index.retrieve([""], 7, "hybrid") == [[]]
    assert len(index.retrieve(["fees"], 7, "vectors")[0]) == 7


def killed_at_row_60(path, dimensions, first, count):
    if first == 60:
        raise KeyboardInterrupt
    return read_vectors(path, dimensions, first, count)


def test_a_job_that_was_killed_leaves_no_table_and_the_next_one_doubles_nothing(opened, database, monkeypatch):
    monkeypatch.setattr(vector_table, "AT_ONCE", 30)
    with monkeypatch.context() as killed:
        killed.setattr(vector_table, "read_vectors", killed_at_row_60)
        with pytest.raises(KeyboardInterrupt):
            opened()
    assert tables(database) == {}
    with ThreadPoolExecutor() as jobs:
        list(jobs.map(lambda _: opened(), range(2)))
    assert list(tables(database).values()) == [80]


def test_vectors_that_are_there_stay_in_the_database_and_those_of_documents_that_are_gone_are_not_found(
    opened, database, monkeypatch
):
    opened()
    sent = []
    monkeypatch.setattr(
        vector_table, "_texts", lambda vectors, real=vector_table._texts: sent.extend(vectors) or real(vectors)
    )
    changed = [*DOCUMENTS[1:], ("new", "", "Penguins swim.")]
    index = opened(changed)
    assert len(sent) == 1
    found = index.retrieve(["it is about cards number 0", "penguins"], 100, "vectors")
    assert {one.document for one in found[0]} == {one[0] for one in changed}
    assert found[1][0].document == "new"
    assert sorted(tables(database).values()) == [80, 80]


def test_a_table_that_nobody_searched_for_a_month_is_dropped_and_made_again_by_who_searches_it(opened, database):
    opened()
    (old,) = tables(database)
    execute(database, "UPDATE nightshift_indexes SET used = current_date - 31")
    opened(DOCUMENTS[1:])
    assert tables(database)[old] == 80
    execute(database, f"UPDATE nightshift_indexes SET used = current_date - 32 WHERE name = '{old}'")  # noqa: S608
    opened(DOCUMENTS[1:])
    assert old not in tables(database)
    assert opened().retrieve(["number 7"], 1, "vectors")[0]
    assert tables(database)[old] == 80


@pytest.mark.parametrize("reader", ["a view", "a transaction"])
def test_a_table_that_cannot_be_dropped_keeps_no_job_from_its_work(opened, database, monkeypatch, caplog, reader):
    monkeypatch.setattr(vector_table, "DROP_TIMEOUT", "100ms")
    opened()
    (old,) = tables(database)
    execute(database, "UPDATE nightshift_indexes SET used = current_date - 32")
    if reader == "a view":
        execute(database, f"CREATE VIEW theirs AS SELECT chunk FROM {old}")  # noqa: S608
    with database.begin() as theirs:
        if reader == "a transaction":
            theirs.execute(text(f"SELECT count(*) FROM {old}"))  # noqa: S608
        assert opened(DOCUMENTS[1:]).retrieve(["number 7"], 1, "vectors")[0]
    assert f"{old} was not searched for 31 days, and cannot be dropped" in caplog.text
    execute(database, "DROP VIEW IF EXISTS theirs")
    opened(DOCUMENTS[1:])
    assert old not in tables(database)


def test_a_table_that_somebody_dropped_by_hand_is_made_again(opened, database):
    opened()
    (name,) = tables(database)
    execute(database, f"DROP TABLE {name}")
    opened(DOCUMENTS[1:])
    opened()
    assert tables(database)[name] == 80


def test_vectors_of_other_dimensions_are_never_copied_and_go_when_nobody_searches_them(opened, database):
    opened()
    (first,) = tables(database)
    old = "nightshift_bank_of_an_older_model"
    execute(database, f"CREATE TABLE {old} AS SELECT chunk, passage, digest, '[1]'::halfvec AS embedding FROM {first}")  # noqa: S608
    execute(database, f"INSERT INTO nightshift_indexes VALUES ('{old}', 'bank', 1, current_date + 1)")  # noqa: S608
    assert opened(DOCUMENTS[1:]).retrieve(["number 7"], 1, "vectors")[0]
    execute(database, f"UPDATE nightshift_indexes SET used = current_date - 32 WHERE name = '{old}'")  # noqa: S608
    opened()
    assert old not in tables(database)


@pytest.mark.parametrize(
    ("connection", "error", "told"),
    [
        ("postgres://a:secret@127.0.0.1:9/b", BadEnvironment, "retrieval.database: vectors: connection to server"),
        ("sqlite:////tmp/a.db", BadInput, "is not a PostgreSQL connection"),
        (None, BadEnvironment, "AIRFLOW_CONN_VECTORS is not set"),
    ],
)
def test_what_is_no_database_for_vectors_is_told_without_its_password(opened, monkeypatch, connection, error, told):
    if connection:
        monkeypatch.setenv("AIRFLOW_CONN_VECTORS", connection)
    with pytest.raises(error, match=told) as raised:
        opened()
    assert "secret" not in str(raised.value)


def test_the_job_fills_the_table_that_questions_are_answered_from(database, tmp_path):
    pages = tmp_path / "pages"
    pages.mkdir()
    for name, _, words in DOCUMENTS[:9]:
        (pages / f"{name}.md").write_text(words)
    application = Application(
        name="bank",
        sources=[{"uri": "rows.jsonl", "columns": {"prompt": "text", "answer": "answer"}}],
        retrieval={"documents": [{"uri": f"{pages}/*.md"}], "database": "vectors", "k": 2},
    )
    storage = tmp_path.as_uri()
    result = run(Spec(application=application, storage=storage), SimpleNamespace(report=lambda *_, **__: None))
    assert list(tables(database).values()) == [result.chunks] == [9]
    rows = [{"messages": [{"role": "user", "content": "what about number 7"}]}]
    (row,) = Retriever(application.answering_from(pinned_index(application, storage)), tmp_path).given(rows)
    assert row["retrieved"][0]["document"] == "documents/d007.md"
