from __future__ import annotations

import pytest

from labelhub.differences import MAX_WORDS, compare


def only_in(left: str, right: str) -> tuple[list[str], list[str]]:
    parts = compare(left, right)
    assert parts is not None
    for text, side in zip((left, right), parts, strict=True):
        assert "".join(part.text for part in side) == text, "nothing is lost or moved"
    first, second = (
        [part.text for part in side if part.is_only_here] for side in parts
    )
    return first, second


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ("The quick brown fox.", "The quick red fox.", (["brown"], ["red"])),
        ("same words", "same words", ([], [])),
        ("", "all of it", ([], ["all of it"])),
        ("one two", "three four", (["one two"], ["three four"])),
        ("begin here now", "begin now", (["here"], [])),
        ("a a a a", "a a a", (["a"], [])),
        ("  code:\n\n\tx = 1\n", "  code:\n\n\tx = 2\n", (["1"], ["2"])),
        ("猫は寝る。", "猫は走る。", (["寝"], ["走"])),
        ("שלום עולם", "שלום לכם", (["עולם"], ["לכם"])),
    ],
)
def test_it_names_the_words_that_only_one_has(left, right, expected):
    assert only_in(left, right) == expected


def test_a_text_that_repeats_itself_is_compared_too():
    left = "Ice is frozen water, and it floats on the sea. " * 9
    right = "Ice is frozen water, and it floats on the lake. " * 9
    assert only_in(left, right) == (["sea"] * 9, ["lake"] * 9)


def test_spaces_and_line_ends_are_no_words():
    assert only_in("one  two\nthree", "one two three") == ([], [])


def test_a_moved_sentence_is_told_in_both():
    left, right = only_in(
        "Alpha beta gamma. Delta epsilon zeta.", "Delta epsilon zeta. Alpha beta gamma."
    )
    assert left and right


def test_lone_words_of_unlike_texts_are_not_picked_out():
    left = "Paris has been the capital of France for a thousand years"
    right = "Nobody in Lyon has ever doubted what France calls its seat"
    assert only_in(left, right) == ([left], [right])


def test_texts_that_are_too_long_are_not_compared():
    assert compare("word " * MAX_WORDS, "word") is None


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (range(5000), range(4999, -1, -1)),
        ([0] * 5000, [0, 1] * 2500),
        ([n * n % 97 for n in range(5000)], [n**3 % 89 for n in range(5000)]),
        ([n % 2 for n in range(5000)], [n % 3 for n in range(5000)]),
    ],
)
def test_the_worst_texts_take_work_that_grows_with_their_length(
    left, right, monkeypatch
):
    """Counted, not timed: words looked at by the search for anchors."""
    from labelhub import differences

    looked_at = 0
    search = differences._places_of_single_words

    def counting(words, start, end):
        nonlocal looked_at
        looked_at += end - start
        return search(words, start, end)

    monkeypatch.setattr(differences, "_places_of_single_words", counting)
    compare(" ".join(map(str, left)), " ".join(map(str, right)))
    assert looked_at <= differences.ROUNDS * 10_000
