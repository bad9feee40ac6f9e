"""What a server that embeds replies with: words in places of their own, so that texts with the same words are near."""

from zlib import crc32

DIMENSIONS = 512


def by_words(body):
    return 200, [vector_of(text) for text in body["input"]]


def vector_of(text):
    vector = [0.0] * DIMENSIONS
    for word in text.lower().replace(".", "").split():
        vector[crc32(word.encode()) % DIMENSIONS] += 2.0
    return vector
