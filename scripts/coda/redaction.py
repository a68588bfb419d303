"""What texts may show: no signature or password of an address, and no character that commands a terminal."""

import re
from typing import Any
from urllib.parse import unquote

# Parts of a query that say which file is asked for. Of others it is not known whether they are secret.
HARMLESS = {
    "download",
    "dl",
    "raw",
    "ref",
    "format",
    "version",
    "versionid",
    "file",
    "path",
    "name",
    "id",
}
# A bracket, comma or full stop behind an address belongs to the sentence.
_ADDRESS = re.compile(
    r"""([A-Za-z][A-Za-z0-9+.-]*://)([^\s"'<>|\\^`{}]*?)(?=[).,:;\]]*(?:[\s"'<>|\\^`{}]|$))"""
)
_PAIR = re.compile(r"([^&;=]+)=([^&;]*)")
# Control characters but tab and line end, and marks that turn the direction of text.
_CONTROLS = re.compile(
    "[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u202a-\\u202e\\u2066-\\u2069\\u2028\\u2029\\ud800-\\udfff]"
)


def without_secrets(value: Any) -> Any:
    """Cut users, passwords and the values of queries out of all addresses in a text, list or dictionary.

    Examples
    --------
    >>> without_secrets("https://me:word@host/t.csv?download=1&X-Amz-Signature=ab12")
    'https://...@host/t.csv?download=1&X-Amz-Signature=...'
    """
    if isinstance(value, str):
        return _ADDRESS.sub(_bare, value)
    if isinstance(value, dict):
        return {without_secrets(key): without_secrets(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_secrets(each) for each in value]
    return value


def _bare(found: re.Match) -> str:
    scheme, rest = found.groups()
    place, mark, query = rest.partition("?")
    host, slash, path = place.partition("/")
    if "@" in host:
        host = "...@" + host.rpartition("@")[2]
    path, hash_mark, fragment = path.partition("#") if not mark else (path, "", "")
    if mark:
        query, hash_mark, fragment = query.partition("#")
    if query and "=" not in query:
        query = "..."
    query = _PAIR.sub(
        lambda pair: pair[0] if unquote(pair[1]).lower() in HARMLESS else f"{pair[1]}=...",
        query,
    )
    return scheme + host + slash + path + mark + query + hash_mark + ("..." if fragment else "")


def shown(text: str) -> str:
    """Give a text as a terminal or a log may show it: without secrets, and with control characters written out."""
    text = _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
    return without_secrets(text)
