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
_ADDRESS = re.compile(r"""([A-Za-z][A-Za-z0-9+.-]*://)([^\s"'<>|\\^`{}]*)""")
_PART = re.compile(r"[^&;]+")
_NO_PORT = re.compile(r"[^@]*:(?!\d*$)")
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
    address = rest.rstrip(").,:;]")  # of the sentence
    place, hash_mark, fragment = address.partition("#")
    place, mark, query = place.partition("?")
    host, slash, path = place.partition("/")
    if _NO_PORT.match(host) and "@" in path:  # a password with a slash
        host, slash, path = place.rpartition("@")[2].partition("/")
        host = f"...@{host}"
    elif "@" in host:
        host = "...@" + host.rpartition("@")[2]
    query = _PART.sub(_bare_part, query)
    shown_address = scheme + host + slash + path + mark + query + hash_mark
    return shown_address + ("..." if fragment else "") + rest[len(address) :]


def _bare_part(found: re.Match) -> str:
    name, mark, _ = found[0].partition("=")
    if not mark:
        return "..."
    return found[0] if unquote(name).lower() in HARMLESS else f"{name}=..."


def shown(text: str) -> str:
    """Give a text as a terminal or a log may show it: without secrets, and with control characters written out."""
    text = _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
    return without_secrets(text)
