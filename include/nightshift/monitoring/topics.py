"""What prompts are about: topics of the reference's prompts, and how far and in which direction a prompt lies from them.

A prompt becomes a static word embedding (wordllama: the mean of its tokens' vectors, 256 numbers, no network), the
reference's embeddings are grouped by k-means, and every prompt of an interval is held against these groups. The same
texts give the same topics on any machine: seeded, one thread, no clock.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import regex
import wordllama
from safetensors.numpy import load_file, save_file
from scipy.sparse import csr_matrix
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits
from wordllama import WordLlama

Floats = npt.NDArray[np.float32]

TOPIC_VECTORS, TOPIC_NAMES = "topics.safetensors", "topics.json"
NO_WORDS = "(no words)"  # topic of a prompt that the embedding knows no token of: an empty one
DIRECTIONS = 16
DIMENSIONS = 256
MOST_CHARACTERS = 2_000  # of a prompt that are looked at: bounds the memory of a hostile one
MOST_TEXTS = 50_000  # that topics are fitted on: 50 MB
FEWEST_TOPICS, MOST_TOPICS = 8, 32
WORDS_PER_NAME = 3
SEED = 20_261
_WORD = regex.compile(r"\p{L}[\p{L}\p{M}]{1,23}")  # with the marks that are vowels in Hindi, Thai or Burmese


class Embedder:
    """Texts to unit vectors. The vectors ship in wordllama's wheel."""

    def __init__(self) -> None:
        # The wheel has its tokenizer in `tokenizers/`, its loader looks in `tokenizer/`; as a cache folder it is right.
        model = WordLlama.load(dim=DIMENSIONS, cache_dir=Path(wordllama.__file__).parent, disable_download=True)
        self._vectors = model.embedding
        self._tokenizer = model.tokenizer
        self._tokenizer.no_padding()  # a long text would make all others of its batch as long

    def __call__(self, texts: Sequence[str]) -> Floats:
        """Return unit vectors, shape (texts, 256); a text without tokens is the zero vector."""
        encodings = self._tokenizer.encode_batch([text[:MOST_CHARACTERS] for text in texts], add_special_tokens=False)
        tokens = [np.asarray(encoding.ids, np.int32) for encoding in encodings]
        starts = np.concatenate([[0], np.cumsum([len(ids) for ids in tokens], dtype=np.int64)])
        ids = np.concatenate([np.empty(0, np.int32), *tokens])
        shape = (len(texts), len(self._vectors))
        sums = csr_matrix((np.ones(len(ids), np.float32), ids, starts), shape) @ self._vectors
        length = np.linalg.norm(sums, axis=1, keepdims=True)
        return np.asarray(np.divide(sums, length, out=np.zeros_like(sums), where=length > 0), np.float32)


@dataclass(frozen=True)
class Placed:
    """Where prompts lie among the topics."""

    topic: npt.NDArray[np.int32]  # shape (prompts,): index into the names
    novelty: Floats  # shape (prompts,): cosine distance to the topic's centre, 0 to 2
    projections: Floats  # shape (prompts, DIRECTIONS): the embedding along each direction, -1 to 1


@dataclass(frozen=True)
class Topics:
    """Topics of a reference: their centres (topics, 256) and names, and the directions (256, DIRECTIONS) to look along.

    The last name is `NO_WORDS`, which has no centre.
    """

    centres: Floats
    directions: Floats
    names: list[str]

    def place(self, embeddings: Floats) -> Placed:
        """Return the nearest topic, novelty and projections of embedded prompts, shape (prompts, 256)."""
        likeness = embeddings @ self.centres.T
        nearest = likeness.argmax(axis=1)
        empty = ~embeddings.any(axis=1)
        topic = np.where(empty, len(self.names) - 1, nearest).astype(np.int32)
        novelty = np.clip(1 - likeness[np.arange(len(nearest)), nearest], 0, 2).astype(np.float32)
        return Placed(topic, novelty, (embeddings @ self.directions).astype(np.float32))

    def write(self, folder: Path) -> None:
        """Write the two files of the topics."""
        save_file({"centres": self.centres, "directions": self.directions}, folder / TOPIC_VECTORS)
        (folder / TOPIC_NAMES).write_text(json.dumps(self.names, indent=1, ensure_ascii=False))


def read_topics(vectors: Path, names: Path) -> Topics:
    """Return the topics that :meth:`Topics.write` wrote."""
    arrays = load_file(vectors)
    return Topics(arrays["centres"], arrays["directions"], json.loads(names.read_text()))


def fit_topics(texts: Sequence[str], embedder: Embedder) -> Topics:
    """Return the topics of some texts, at most `MOST_TEXTS` and at least one with a word in it.

    The number of topics is the square root of half the number of texts, 8 to 32, a usual first guess (Mardia et al.,
    Multivariate Analysis, 1979, p. 365).

    :raises ValueError: no text has a token.
    """
    embeddings = embedder(texts)
    known: list[int] = np.flatnonzero(embeddings.any(axis=1)).tolist()
    embeddings = embeddings[known]
    if not len(embeddings):
        raise ValueError("no text has a word that topics could be made of")
    wanted = int(np.clip(round((len(embeddings) / 2) ** 0.5), FEWEST_TOPICS, MOST_TOPICS))
    count = min(wanted, len(np.unique(embeddings, axis=0)))
    # Sums of floats depend on how many threads share them.
    with threadpool_limits(1):
        fitted = KMeans(count, n_init=4, max_iter=100, random_state=SEED).fit(embeddings)
    centres = fitted.cluster_centers_.astype(np.float32)
    centres /= np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-12)
    directions = np.random.default_rng(SEED).standard_normal((DIMENSIONS, DIRECTIONS)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=0)
    labels = (embeddings @ centres.T).argmax(axis=1)
    names = _names([texts[place] for place in known], labels, count)
    return Topics(centres, directions, [*names, NO_WORDS])


def _names(texts: list[str], labels: npt.NDArray[np.intp], count: int) -> list[str]:
    """The most telling words of each topic: those with the largest share·log(share in the topic / share of all texts).

    Pointwise Kullback-Leibler divergence (Tomokiyo and Hurst, "A Language Model Approach to Keyphrase Extraction", 2003);
    words that are everywhere tell nothing, in any language.
    """
    by_topic: list[Counter[str]] = [Counter() for _ in range(count)]
    for text, label in zip(texts, labels, strict=True):
        by_topic[label].update(set(_WORD.findall(text[:MOST_CHARACTERS].lower())))
    overall: Counter[str] = Counter()
    for words in by_topic:
        overall.update(words)
    names: list[str] = []
    for number, (words, size) in enumerate(zip(by_topic, np.bincount(labels, minlength=count), strict=True), 1):
        telling = {
            word: found / size * np.log((found / size) / (overall[word] / len(texts))) for word, found in words.items()
        }
        best = sorted(words, key=lambda word: (-telling[word], word))[:WORDS_PER_NAME]
        name = " / ".join(best) or "(signs)"
        names.append(name if name not in names else f"{name} ({number})")
    return names
