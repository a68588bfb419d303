"""What an address carries as password or signature is shown nowhere, and no control character reaches a terminal."""

import pytest
from coda.redaction import shown, without_secrets


@pytest.mark.parametrize(
    ("address", "bare"),
    [
        ("https://host/t.csv", "https://host/t.csv"),
        ("https://host/t.csv?download=1", "https://host/t.csv?download=1"),
        ("https://me:word@host:80/t.csv", "https://...@host:80/t.csv"),
        ("https://token@host/t.csv", "https://...@host/t.csv"),
        ("https://me:w@rd@host/t.csv", "https://...@host/t.csv"),
        (
            "https://b.s3.amazonaws.com/t.csv?X-Amz-Credential=AKIA%2F1&X-Amz-Signature=ab12",
            "https://b.s3.amazonaws.com/t.csv?X-Amz-Credential=...&X-Amz-Signature=...",
        ),
        (
            "https://a.blob.core.windows.net/c/t.csv?sp=r&sv=2022&sig=a%2Fb%3D",
            "https://a.blob.core.windows.net/c/t.csv?sp=...&sv=...&sig=...",
        ),
        ("s3://key:word@bucket/folder", "s3://...@bucket/folder"),
        ("results/a@b/c?d=e", "results/a@b/c?d=e"),
        ("of 2 tables (https://h/t?k=word): cut", "of 2 tables (https://h/t?k=...): cut"),
        ("https://h/t?word", "https://h/t?..."),
        ("https://u:pa/ss@h/x", "https://...@h/x"),
        ("https://h:80/a@1/x", "https://h:80/a@1/x"),
        ("https://h/t?a=1;sig=2&x", "https://h/t?a=...;sig=...&..."),
        ("https://h/t.csv#sig=word", "https://h/t.csv#..."),
    ],
)
def test_secrets_of_addresses_are_cut_out(address, bare):
    assert without_secrets(address) == bare


def test_everywhere_within_a_config():
    config = {
        "tables": {"drugs": "https://h/t?key=word"},
        "seeds": [0, 1],
        "roots": ["s3://u:p@b"],
        "no": None,
    }
    assert without_secrets(config) == {
        "tables": {"drugs": "https://h/t?key=..."},
        "seeds": [0, 1],
        "roots": ["s3://...@b"],
        "no": None,
    }


def test_control_characters_are_written_out():
    text = "\x1b]0;owned\x07 a\rb \u202egnp\u2066 \x9b2J\ttab é 細胞\n"
    told = shown(text)
    assert told == "\\x1b]0;owned\\x07 a\\rb \\u202egnp\\u2066 \\x9b2J\ttab é 細胞\n"


def test_long_texts_come_to_an_end():
    """A pattern that goes back and forth would take days for this."""
    long = "https://" + "." * 10**6 + "x" + "https://" + "a:" * 10**6 + "@h?" + "x=1&" * 10**5
    assert shown(long).startswith("https://....") and "x=1" not in shown(long)
