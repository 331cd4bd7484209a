"""YAML without its traps: every scalar is the text that was written, nothing is repeated, tagged or referred to.

So `cpu: 0.1` is exact, `22:22` is no sexagesimal number, `no` is no boolean, `id: 012` keeps its zero, and there is
no way to write a small file that becomes a large document.
"""

import re
from dataclasses import dataclass
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from consumer.catalog.wording import quoted

MAX_TEXT_LENGTH = 256 * 1024
MAX_DEPTH = 20

_NOT_TEXT = re.compile("[\0\ud800-\udfff]")
_NO_REFERENCES = "anchors (&) and aliases (*) are not read: write it out, or put the text in quotes"

Location = tuple[str | int, ...]


class YamlError(ValueError):
    """The text cannot be read. `line` counts from 1 and is None when the text as a whole is wrong."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True, slots=True)
class Document:
    """`value` is made of dict, list, str and None (empty, `~` or `null`); `lines` tells where each part stands."""

    value: Any
    lines: dict[Location, int]

    def line_of(self, location: Location) -> int | None:
        """The line of the part at `location`, or of the nearest part around it."""
        for end in range(len(location), -1, -1):
            if (line := self.lines.get(location[:end])) is not None:
                return line
        return None


def read_yaml(text: str) -> Document:
    """Raises `YamlError`, and nothing else, for whatever text."""
    if len(text) > MAX_TEXT_LENGTH:
        raise YamlError(f"the text is longer than {MAX_TEXT_LENGTH // 1024} KiB; no list of templates is")
    try:
        node = _Loader(text).get_single_node()
    except YamlError:
        raise
    except yaml.MarkedYAMLError as error:
        raise _from_marked(error) from None
    except (yaml.YAMLError, ValueError, OverflowError):
        # PyYAML lets what chr() says about an impossible escape ("\UFFFFFFFF") through.
        raise YamlError("it holds characters or escapes that YAML does not allow") from None
    lines: dict[Location, int] = {}
    return Document(None if node is None else _value(node, (), lines), lines)


class _Loader(yaml.BaseLoader):
    """Composes nodes only: nothing is ever constructed from a tag."""

    _depth = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]  # types-pyyaml leaves the parser untyped
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise YamlError(_NO_REFERENCES, line)
        if getattr(event, "tag", None):
            raise YamlError("tags (!) are not read: leave it out, or put the text in quotes", line)
        if self._depth >= MAX_DEPTH:
            raise YamlError(f"it is nested more than {MAX_DEPTH} levels deep", line)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _from_marked(error: yaml.MarkedYAMLError) -> YamlError:
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark else None
    if error.context in ("while scanning an alias", "while scanning an anchor"):
        # An image pattern such as ** begins like an alias.
        return YamlError(_NO_REFERENCES, line)
    return YamlError(error.problem or "it is not YAML", line)


def _value(node: Node, location: Location, lines: dict[Location, int]) -> Any:
    lines.setdefault(location, node.start_mark.line + 1)
    if isinstance(node, ScalarNode):
        return None if node.style is None and node.value in ("", "~", "null") else _text(node)
    if isinstance(node, SequenceNode):
        return [_value(item, (*location, index), lines) for index, item in enumerate(node.value)]
    assert isinstance(node, MappingNode)  # noqa: S101 - there is no fourth kind of node
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, ScalarNode):
            raise YamlError("a key is not plain text", line)
        key = _text(key_node)
        if key in found:
            raise YamlError(f"the key {quoted(key)} appears twice: keep one", line)
        lines[*location, key] = line
        found[key] = _value(value_node, (*location, key), lines)
    return found


def _text(node: ScalarNode) -> str:
    if _NOT_TEXT.search(node.value):
        raise YamlError("an escape stands for a character that no program can be given", node.start_mark.line + 1)
    return str(node.value)
