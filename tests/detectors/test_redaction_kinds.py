"""Every kind is found in its variants, and its neighbours are left alone."""

import re

import pytest

from detectors.redaction import ALL, PERSONAL, SECRET, Redactor, key_id, keyed_hash

REDACTOR = Redactor()


def redacted(text):
    return REDACTOR.redact(text, "prompt")[0]


@pytest.mark.parametrize(
    ("kind", "hidden"),
    [
        ("EMAIL", "ada@example.org"),
        ("EMAIL", "ada.lovelace+news@mail.example.co.uk"),
        ("EMAIL", "ａｄａ＠ｅｘａｍｐｌｅ．ｏｒｇ"),
        ("EMAIL", "jörg@müller.de"),
        ("EMAIL", "a\u200bda@example.org"),
        ("PHONE", "+1 (415) 555-0132"),
        ("PHONE", "415-555-0132"),
        ("PHONE", "(415) 555-0132"),
        ("PHONE", "+44 20 7946 0958"),
        ("PHONE", "+49 30 901820"),
        ("PHONE", "+33 1 70 18 99 00"),
        ("PHONE", "+１ ４１５ ５５５ ０１３２"),
        ("CARD", "4111 1111 1111 1111"),
        ("CARD", "4111-1111-1111-1111"),
        ("CARD", "5500005555555559"),
        ("CARD", "378282246310005"),
        ("IBAN", "DE89 3704 0044 0532 0130 00"),
        ("IBAN", "GB29NWBK60161331926819"),
        ("SSN", "536-22-1234"),
        ("IP", "192.0.2.17"),
        ("IP", "2001:db8::8a2e:370:7334"),
        ("API_KEY", "AKIAIOSFODNN7EXAMPLE"),
        ("API_KEY", "ghp_" + "a1B2" * 9),
        ("API_KEY", "xoxb-" + "1234567890-abcdef"),
        ("API_KEY", "sk_" + "live_" + "4eC39HqLyjWDarjtT1zdp7dc"),
        ("API_KEY", "AIza" + "SyA-1234567890abcdefghijklmnopqrstu"),
        ("API_KEY", "sk-" + "proj-abcdefghijklmnop1234567890"),
        ("API_KEY", "sk-" + "ant-api03-abcdefghijklmnop1234567890"),
        ("TOKEN", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N"),
        ("PRIVATE_KEY", "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nIBAAK=\n-----END RSA PRIVATE KEY-----"),
    ],
)
@pytest.mark.parametrize("frame", ["{}", "It is {} now.", "({})", "see:\n{}\nthanks"])
def test_kinds(kind, hidden, frame):
    text, redactions = REDACTOR.redact(frame.format(hidden), "prompt")
    assert text == frame.format(f"[{kind}]")
    assert [(r.kind, r.field, text[r.start : r.end]) for r in redactions] == [(kind, "prompt", f"[{kind}]")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Authorization: Bearer abcdefghijklmnop1234567890", "Authorization: Bearer [TOKEN]"),
        ("password: hunter2!", "password: [PASSWORD]!"),
        ('{"api_key": "f81d4fae7dec11d0"}', '{"api_key": "[PASSWORD]"}'),
        ("my password is Tr0ub4dor", "my password is [PASSWORD]"),
        ("call me at 5550132", "call me at [PHONE]"),
    ],
)
def test_what_is_announced(text, expected):
    assert redacted(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "Order 4155550132 was shipped",
        "order number 415-555-0132",
        "Invoice 2024-000123-77",
        "on 2024-01-15 at 12:30:45",
        "between 15/01/2024 and 16.01.2024",
        "version 1.2.3.4 of the app",
        "release 10.0.17763.1",
        "it costs $1,234,567.89 or 12,400,000 dollars",
        "1234-5678-9012-3456",
        "tracking 1Z999AA10123456784",
        "ISBN 978-3-16-148410-0",
        "the password is wrong",
        "Password reset: click the link",
        "meet @ noon, see std::vector and a::b",
        "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15",
        "ratio 3.14159265358979",
        "[EMAIL] and [PHONE]",
        "",
    ],
)
def test_neighbours_are_left_alone(text):
    assert REDACTOR.redact(text, "response") == (text, ())


def test_only_the_kinds_asked_for():
    text = "ada@example.org AKIAIOSFODNN7EXAMPLE"
    assert Redactor(kinds=SECRET).redact(text, "x")[0] == "ada@example.org [API_KEY]"
    assert Redactor(kinds=PERSONAL).redact(text, "x")[0] == "[EMAIL] AKIAIOSFODNN7EXAMPLE"
    with pytest.raises(ValueError, match="unknown kinds NAME"):
        Redactor(kinds=("NAME",))


def test_kinds_are_told_apart():
    assert set(SECRET) | set(PERSONAL) == set(ALL)
    assert not set(SECRET) & set(PERSONAL)


def test_keyed_hash():
    key, other = b"k" * 16, b"o" * 16
    assert re.fullmatch("[0-9a-f]{32}", keyed_hash("user", key))
    assert keyed_hash("user", key) == keyed_hash("user", key)
    assert len({keyed_hash("user", key), keyed_hash("user", other), keyed_hash("user2", key)}) == 3
    assert keyed_hash("\ud800", key)
    assert re.fullmatch("[0-9a-f]{8}", key_id(key))
    assert key_id(key) != key_id(other)
    with pytest.raises(ValueError, match="at least 16 bytes"):
        keyed_hash("user", b"short")


def test_two_numbers_side_by_side_are_both_replaced():
    for text in ("415-555-0132 415-555-0133", "(415) 555-0132 (415) 555-0133", "+14155550132 +14155550133"):
        assert Redactor().redact(text, "prompt")[0] == "[PHONE] [PHONE]"


def test_a_private_key_behind_a_password_word_goes_whole():
    key = "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA7bq1kQ9l\n-----END RSA PRIVATE KEY-----"
    redacted, _ = Redactor().redact(f"password: {key}", "prompt")
    assert "MIIE" not in redacted
    assert "[PRIVATE_KEY]" in redacted
