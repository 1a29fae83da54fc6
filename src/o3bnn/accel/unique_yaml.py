"""YAML in which no mapping has a key twice: of two, YAML's own loaders keep the last, silently."""

from collections.abc import Hashable
from typing import Any

import yaml

from o3bnn.errors import ConfigError


def load(text: str) -> Any:
    """Return what the text holds.

    Raises:
        ConfigError: a key is given twice; names it and both lines.
        yaml.YAMLError: the text is no YAML.
    """
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


class _Loader(yaml.SafeLoader):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._checked: set[int] = set()

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Check the keys once, before those of merged mappings are put among them."""
        if id(node) not in self._checked:
            self._checked.add(id(node))
            self._check(node)
        super().flatten_mapping(node)

    def _check(self, node: yaml.MappingNode) -> None:
        lines: dict[Any, int] = {}
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                continue
            name, line = self.construct_object(key, deep=True), key.start_mark.line + 1
            if not isinstance(name, Hashable):
                continue  # the loader refuses it
            if name in lines:
                raise ConfigError(f"{name!r} is given twice, in lines {lines[name]} and {line}: keep one of them")
            lines[name] = line
