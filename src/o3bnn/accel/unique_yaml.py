"""YAML in which no mapping has a key twice: of two, YAML's own loaders keep the last, silently."""

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
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            line = key.start_mark.line + 1
            if key.value in lines:
                first = lines[key.value]
                raise ConfigError(f"{key.value!r} is given twice, in lines {first} and {line}: keep one of them")
            lines[key.value] = line
        return super().construct_mapping(node, deep)
