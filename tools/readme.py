"""Write the settings into README.md: `python -m tools.readme`."""

import re
from pathlib import Path

from consumer.settings import settings_table

README = Path(__file__).resolve().parent.parent / "README.md"
_SETTINGS = re.compile(r"(<!-- settings:[^\n]*-->\n).*?(<!-- /settings -->)", re.DOTALL)


def with_settings(text: str) -> str:
    """`text` with the current settings between its two markers."""
    return _SETTINGS.sub(lambda found: f"{found[1]}{settings_table()}\n{found[2]}", text)


if __name__ == "__main__":
    README.write_text(with_settings(README.read_text(encoding="utf-8")), encoding="utf-8")
