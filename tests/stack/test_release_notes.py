"""A release is refused unless its tag, the version of the package and the changelog say the same."""

import pytest
from release_notes import notes

CHANGELOG = (
    "# Changelog\n\nThe format.\n\n## 0.2.0 - 2026-12-01\n\n### Added\n- More.\n\n## 0.1.0 - 2026-11-01\n\n- Less.\n"
)


def test_the_notes_are_the_section_of_the_release():
    assert notes("v0.2.0", CHANGELOG, "0.2.0") == "### Added\n- More.\n"


@pytest.mark.parametrize(
    ("tag", "changelog", "version"),
    [
        ("v0.3.0", CHANGELOG, "0.2.0"),
        ("v0.3.0", CHANGELOG, "0.3.0"),
        ("v0.2.0", CHANGELOG.replace("0.2.0 - 2026-12-01", "Unreleased"), "0.2.0"),
    ],
)
def test_a_tag_that_does_not_fit_is_refused_with_what_each_says(tag, changelog, version):
    with pytest.raises(
        SystemExit, match=f"the tag is {tag}, the package says {version}, and the changelog begins with"
    ):
        notes(tag, changelog, version)
