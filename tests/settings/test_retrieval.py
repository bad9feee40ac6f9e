"""The documents of an application, as its file names them, and what a person is told who names what cannot be read."""

import pytest

from nightshift.settings.applications import BadApplication, read_application

SMALLEST = "sources: [{uri: rows.csv, columns: {prompt: question, answer: reply}}]\n"


@pytest.fixture
def read(tmp_path):
    """A function that reads the settings of an application's retrieval."""

    def read_retrieval(retrieval):
        file = tmp_path / "shop.yaml"
        file.write_text(f"{SMALLEST}retrieval: {retrieval}\n")
        return read_application(file).retrieval

    return read_retrieval


def test_documents_lie_beside_the_file_of_the_application_or_where_their_uri_says(read, tmp_path):
    found = read("{documents: [{uri: manuals/*.md}, {name: faq, uri: 's3://faq/*.csv', columns: {text: answer}}]}")
    assert [one.uri for one in found.documents] == [f"{tmp_path}/manuals/*.md", "s3://faq/*.csv"]


def test_a_model_in_a_folder_beside_the_file_is_found_from_there(read, tmp_path):
    models = "embedder: {model: ./models/e5}, reranker: {model: ../rank}"
    found = read(f"{{documents: [{{uri: a}}], {models}}}")
    assert (found.embedder.model, found.reranker.model) == (f"{tmp_path}/models/e5", f"{tmp_path.parent}/rank")
    assert read("{documents: [{uri: a}], embedder: {model: acme/e5}}").embedder.model == "acme/e5"


def test_an_application_without_documents_is_stored_as_before(tmp_path):
    (tmp_path / "shop.yaml").write_text(SMALLEST)
    assert "retrieval" not in read_application(tmp_path / "shop.yaml").model_dump()


@pytest.mark.parametrize(
    ("retrieval", "told"),
    [
        ("{documents: []}", "documents"),
        ("{documents: [{uri: 'a/{start}.md'}]}", "read as they are today"),
        ("{documents: [{uri: 'nowhere://a'}]}", "no storage is known"),
        ("{documents: [{connection: faq, query: SELECT 1}]}", "`columns` says which column"),
        ("{documents: [{uri: a, connection: faq, query: SELECT 1}]}", "give either `uri`, or"),
        ("{documents: [{connection: faq, query: 'SELECT :start', columns: {text: a}}]}", "read as they are today"),
        ("{documents: [{uri: a}, {uri: b}]}", "the same name"),
        ("{documents: [{uri: a}], chunk: {words: 40, overlap: 30}}", "more than half"),
        ("{documents: [{uri: a}], search: magic}", "search"),
        ("{documents: [{uri: a}], database: 'postgres://me:secret@db/x'}", "database"),
        ("{documents: [{uri: a}], embedder: {question: 'query: '}}", "wordllama wants none"),
        ("{documents: [{uri: a}], embedder: {model: e5, dimensions: 384}}", "`endpoint` needs `dimensions`"),
        (
            "{documents: [{uri: a}], embedder: {model: e5, endpoint: {url: 'http://a/v1'}}}",
            "`endpoint` needs `dimensions`",
        ),
        (
            "{documents: [{uri: a}], embedder: {dimensions: 9, endpoint: {url: 'http://a/v1'}}}",
            "name of a model at the endpoint",
        ),
        *(
            (f"{{documents: [{{uri: a}}], embedder: {{model: e5, dimensions: 9, endpoint: {{url: '{url}'}}}}}}", "url")
            for url in (
                "http://a:b/v1",
                "http://a:99999/v1",
                "http:///v1",
                "http://:80/v1",
                "http://[a]/v1",
                "http://a..b/v1",
            )
        ),
        ("{documents: [{uri: a}], embedder: {model: e5, dimensions: 9, endpoint: {url: 'http://me:key@a/v1'}}}", "url"),
    ],
)
def test_what_cannot_be_read_is_told_by_its_key(read, retrieval, told):
    with pytest.raises(BadApplication, match=told):
        read(retrieval)
