"""What users write is text on every page, in every log and in every note."""

from nightshift.shown import in_markdown, shown, shown_lines, storable


def test_a_long_text_is_cut():
    assert shown("x" * 1_000_000, 10) == "xxxxxxxxx…"
    assert shown("x" * 10, 10) == "x" * 10


def test_what_cannot_be_seen_is_named():
    assert shown("a\x1b[31mred\x07", 99) == "a⟨U+001B⟩[31mred⟨U+0007⟩"
    assert shown("pay\u202eexe.txt\u2066", 99) == "pay⟨U+202E⟩exe.txt⟨U+2066⟩"
    assert shown("one\ntwo\r\n\tthree\u2028four", 99) == "one two three⟨U+2028⟩four"


def test_lines_keep_their_spaces_and_tabs_and_a_cut_text_says_so():
    assert shown_lines("if x:\r\n\treturn  1 \n    pass\x1b") == "if x:\n\treturn  1\n    pass⟨U+001B⟩"
    assert shown_lines("x" * 10, 5) == "xxxx…"


def test_writing_that_needs_its_joiners_keeps_them():
    family, i_want = "\U0001f468\u200d\U0001f469", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"
    assert shown(f"{family} {i_want}", 99) == f"{family} {i_want}"


def test_a_note_shows_markdown_as_it_was_typed():
    assert in_markdown("![x](http://a/b) <img src=x>") == r"\!\[x\]\(http://a/b\) \<img src=x\>"


def test_what_is_kept_of_a_text_can_be_written_everywhere():
    assert storable("one\n\ttwo \u2028\u202e caf\u00e9 \U0001f468") == "one\n\ttwo \u2028\u202e caf\u00e9 \U0001f468"
    assert storable("a\x00b\ud800c\x1b") == "a⟨U+0000⟩b⟨U+D800⟩c⟨U+001B⟩"
