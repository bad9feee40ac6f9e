"""Documents as an index that a version may pin, without a job."""

from upath import UPath

from nightshift.retrieval.documents import Document
from nightshift.retrieval.embeddings import WordVectors
from nightshift.retrieval.index import build, stage
from nightshift.retrieval.partition import inputs_of
from nightshift.settings.pinned_index import PinnedIndex
from nightshift.settings.retrieval import Chunk, Retrieval
from nightshift.storage.files import scratch
from nightshift.storage.partition import partition_of, publish


def pinned(documents, storage, *, application="app", search="hybrid", k=5):
    """Index documents (id, title, text)."""
    work = scratch(UPath(storage))
    staged, made = stage([Document(*one) for one in documents], work / "staged"), work / "made"
    made.mkdir()
    counts = {"chunks": build(staged, Chunk(), WordVectors(), made, work).chunks}
    at = partition_of(storage, application, "indexes", staged.digest[:16])
    inputs = inputs_of(staged.digest, Retrieval(documents=[{"uri": "faq/*.md"}]))
    manifest = publish(at, made, kind="index", application=application, inputs=inputs, counts=counts)
    return PinnedIndex(uri=str(at), digest=manifest.digest, search=search, k=k)
