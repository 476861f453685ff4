"""Secrets: where they come from, and how they stay out of messages and reprs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from sensor_hub.config.problems import Problems
from sensor_hub.readings import Json
from sensor_hub.regular_file import read_regular

_SECRET_KEY = re.compile(
    r"passw|token|secret|credential|api[_-]?key|authorization|cookie|^auth$", re.IGNORECASE
)
_MARK = "__SECRET__"
_PLACEHOLDER = re.compile(r"__SECRET__(.+?)__(?!_)", re.DOTALL)
_WHOLE = re.compile(r"__SECRET__(.+)__", re.DOTALL)
_URL_PASSWORD = re.compile(r"(?<=://)([^/?#\s@:]*):([^/?#\s]*)@")
_URL_PARAMETER = re.compile(r"([?&][^=&#]*(?:passw|token|secret|api_?key)[^=&#]*=)([^&#\s]+)", re.IGNORECASE)


class SecretText(str):
    """A text whose repr is `***` (or `masked`). Everything else about it is the text itself."""

    masked: str

    def __new__(cls, value: str, masked: str = "***") -> SecretText:
        """The secret `value`, shown as `masked`."""
        self = super().__new__(cls, value)
        self.masked = masked
        return self

    def __repr__(self) -> str:
        return repr(self.masked)

    def strip(self, chars: str | None = None, /) -> SecretText:
        """As of str, and still a secret."""
        return SecretText(super().strip(chars), self.masked)


def is_secret_key(key: str) -> bool:
    """Whether a value under this key counts as a secret."""
    return _SECRET_KEY.search(key) is not None


def protect(text: str, *, secret: bool) -> str:
    """The same text, but with a repr that hides it (or the password in it, when it is a URL)."""
    if isinstance(text, SecretText):
        return text
    if secret:
        return SecretText(text)
    masked = mask_url(text)
    return text if masked == text else SecretText(text, masked)


def mask_url(text: str) -> str:
    """A URL without its password and secret parameters; any other text unchanged."""
    return _URL_PARAMETER.sub(r"\1***", _URL_PASSWORD.sub(r"\1:***@", text))


def secrets_in(value: Json) -> Iterator[str]:
    """Every secret text inside a protected JSON value, also the passwords in its URLs."""
    if isinstance(value, SecretText):
        if value.masked == "***":
            yield str(value)
        yield from url_secrets(value)
    elif isinstance(value, dict):
        for item in value.values():
            yield from secrets_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from secrets_in(item)


def url_secrets(text: str) -> Iterator[str]:
    """The password and the secret parameters of a URL."""
    for pattern in (_URL_PASSWORD, _URL_PARAMETER):
        for match in pattern.finditer(text):
            yield match.group(2)


def read_secret_lines(path: Path, problems: Problems) -> dict[str, SecretText]:
    """The KEY=VALUE lines of a secrets file; a missing file is empty, an unreadable one a problem."""
    try:
        content = read_regular(path).decode("utf-8")
    except FileNotFoundError:
        return {}
    except OSError as error:
        problems.add(str(path), f"cannot be read: {error.strerror or type(error).__name__}")
        return {}
    except UnicodeDecodeError:
        problems.add(str(path), "must be UTF-8 text with lines KEY=VALUE")
        return {}
    found: dict[str, SecretText] = {}
    for index, line in enumerate(content.removeprefix("\ufeff").splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        key, equals, value = line.partition("=")
        if not equals or not key.strip():
            problems.add(str(path), f"line {index}: must be KEY=VALUE")
        elif value.strip():
            found[key.strip()] = SecretText(value.strip())
    return found


class Vault:
    """The secrets of one instance, looked up by the dotted path that a placeholder names."""

    def __init__(self, creds: Mapping[str, SecretText], environ: Mapping[str, str], creds_path: Path) -> None:
        self._creds = {_dotted(key): value for key, value in creds.items()}
        self._environ = environ
        self._creds_path = creds_path

    def find(self, dotted_path: str) -> SecretText | None:
        """The secret for a path: `_creds` by full path or last part, else the environment."""
        full = _dotted(dotted_path)
        for key in (full, full.rpartition(".")[2]):
            if key in self._creds:
                return self._creds[key]
        value = self._environ.get(self.variable(dotted_path), "")
        return SecretText(value) if value else None

    @staticmethod
    def variable(dotted_path: str) -> str:
        """Name of the environment variable for a path: SECRET_ and the path in capitals."""
        return "SECRET_" + re.sub(r"[^A-Z0-9]", "_", dotted_path.upper())

    def resolve(self, text: str, where: str, problems: Problems) -> str | None:
        """`text` with its placeholders replaced; None after a problem (a placeholder is never used)."""
        if _MARK not in text:
            return text
        # A text that is one placeholder as a whole may have a double underscore in its path.
        whole = text.count(_MARK) == 1 and text.startswith(_MARK) and text.endswith("__")
        pattern = _WHOLE if whole else _PLACEHOLDER
        names = [match.group(1) for match in pattern.finditer(text)] or [text.partition(_MARK)[2]]
        missing = [name for name in names if self.find(name) is None]
        if missing:
            name = missing[0]
            problems.add_flaw(
                where,
                f"no secret for {name[:200]!r}: give it in {self._creds_path}"
                f" or as {self.variable(name[:200])} in the environment",
            )
            return None
        return SecretText(pattern.sub(lambda match: str(self.find(match.group(1))), text))


def _dotted(path: str) -> str:
    return re.sub(r"\[(\d+)\]", r".\1", path)
