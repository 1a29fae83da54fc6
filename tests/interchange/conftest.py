"""These tests need the extra `onnx`; without it they are not collected."""

from importlib.util import find_spec

collect_ignore_glob = [] if all(map(find_spec, ("onnx", "onnxruntime", "qonnx"))) else ["test_*.py"]
