"""Groundedness: the share of a response's words that occur in its context, a lexical score.

It detects responses about something else, but not contradictions in the context's own words; docs/scorers.md has the
measurements of both, by language.
"""

from __future__ import annotations

from itertools import groupby, pairwise

from nightshift.data.words import UNSPACED, words

# English function words: any context has them, so they say nothing about where a response comes from.
FUNCTION_WORDS = """
    a about above after again against all also am an and any are aren't as at be because been before being below
    between both but by can can't cannot could couldn't did didn't do does doesn't doing don't down during each either
    else even ever every few for from further get had hadn't has hasn't have haven't having he her here hers herself
    him himself his how however i i'd i'll i'm i've if in into is isn't it it's its itself just least less let's like
    many may me might more most much must my myself neither no nor not now of off often on once only onto or other our
    ours ourselves out over own per perhaps please quite rather really same shall she should shouldn't since so some
    still such than that that's the their theirs them themselves then there there's therefore these they they're this
    those though through thus to too under until up upon us very was wasn't we we're well were weren't what what's when
    where whether which while who whom whose why will with within without won't would wouldn't yes yet you you'd you'll
    you're you've your yours yourself yourselves
"""
_FUNCTION_WORDS = frozenset(FUNCTION_WORDS.split())


def groundedness(response: str, context: str) -> float | None:
    """Return the share of the response's different content words that the context has, 0 to 1.

    Words are compared in lower case after NFKC, English function words left out and a plural or genitive ending taken away.
    Where a script writes no spaces, two neighbouring characters are a word: single ones are in any context.

    :param context: must be in the language of the response.
    :return: None if the response has no content word.
    """
    content = _content_words(response)
    if not content:
        return None
    return len(content & _content_words(context)) / len(content)


def _content_words(text: str) -> set[str]:
    found: set[str] = set()
    for unspaced, several in groupby(words(text), lambda word: UNSPACED.fullmatch(word) is not None):
        run = list(several)
        if unspaced and len(run) > 1:
            found.update(one + other for one, other in pairwise(run))
        else:
            found.update(_without_ending(word) for word in run if word not in _FUNCTION_WORDS)
    return found


def _without_ending(word: str) -> str:
    word = word.removesuffix("'s")
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
