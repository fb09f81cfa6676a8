"""Whatever comes in: redacting twice changes nothing, spans are right, hostile text costs linear work."""

import string

from hypothesis import example, given, settings
from hypothesis import strategies as st

from detectors.redaction import ALL, Redactor

REDACTOR = Redactor()
PIECES = st.sampled_from(
    [
        "ada@example.org",
        "+1 (415) 555-0132",
        "415-555-0132",
        "4111 1111 1111 1111",
        "DE89 3704 0044 0532 0130 00",
        "536-22-1234",
        "192.0.2.17",
        "2001:db8::1",
        "AKIAIOSFODNN7EXAMPLE",
        "password: ",
        "hunter2",
        "Bearer ",
        "abcdefghijklmnop1234",
        "-----BEGIN PRIVATE KEY-----",
        "-----END PRIVATE KEY-----",
        "[EMAIL]",
        "[",
        "]",
        "call ",
        " ",
        "-",
        ".",
        "@",
        ":",
        "+",
        "1",
        "42",
        "\u200b",
        "\ud800",
        "＠",
        "é",
        "\n",
    ]
)
TEXTS = st.one_of(st.lists(PIECES, max_size=12).map("".join), st.text(max_size=80))


@settings(max_examples=400, deadline=None)
@given(TEXTS)
@example("x@y.co@z.org")
@example("4111 1111 1111 1111 4155550132")
def test_redacting_twice_changes_nothing(text):
    once, redactions = REDACTOR.redact(text, "prompt")
    assert REDACTOR.redact(once, "prompt") == (once, ())
    ends = 0
    for redaction in redactions:
        assert redaction.kind in ALL
        assert once[redaction.start : redaction.end] == f"[{redaction.kind}]"
        assert redaction.start >= ends
        ends = redaction.end


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=string.ascii_letters + " ,;!?\n'\"é–’", max_size=300))
def test_text_without_digits_or_marks_is_unchanged(text):
    assert REDACTOR.redact(text, "prompt") == (text, ())


@settings(max_examples=100, deadline=None)
@given(before=st.text(alphabet="abc xyz\n", max_size=40), after=st.text(alphabet=" abc\n", max_size=40))
def test_an_address_among_words_is_always_found(before, after):
    text, redactions = REDACTOR.redact(f"{before} ada@example.org {after}", "prompt")
    assert text == f"{before} [EMAIL] {after}"
    assert len(redactions) == 1
