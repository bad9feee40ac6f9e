"""The sentiment of a response by VADER, a lexicon of English words with rules for their context."""

from __future__ import annotations

from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

LANGUAGES = frozenset({"en"})  # the German article "die" is a very sad word of it
MOST_CHARACTERS = 4_000  # of a response that are scored: VADER's time grows faster than linearly


class Sentiment:
    """The lexicon, loaded once."""

    def __init__(self) -> None:
        self._analyzer = SentimentIntensityAnalyzer()

    def score(self, response: str) -> float:
        """Return VADER's compound score of an English response, -1 (negative) to 1 (positive)."""
        return float(self._analyzer.polarity_scores(response[:MOST_CHARACTERS])["compound"])
