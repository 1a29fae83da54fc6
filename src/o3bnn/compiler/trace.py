"""Reads what a module's `forward` really computes, as a straight line of steps.

`torch.fx` traces the module in eval mode; binary layers and torch.nn modules are leaves. Calls such as
`torch.flatten(x, 1)` or `F.max_pool2d(x, 2)` become the module that computes the same. Arithmetic on shapes
(`x.view(x.size(0), -1)`) is evaluated for a batch of `steps.BATCH` images.
"""

import inspect
import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional

from o3bnn.compiler.steps import BATCH, KINDS, SUPPORTED, Shape, Step, check_kind, describe, flattened, output_shape
from o3bnn.errors import UnsupportedModuleError
from o3bnn.train.layers import Sign, binarize

_ARITHMETIC = (operator.mul, operator.floordiv, operator.add, operator.sub, operator.getitem, getattr)


def read(module: nn.Module, image: tuple[int, int, int]) -> list[Step]:
    """The steps of a module that reads images of (height, width, channels), as it computes in eval mode.

    Raises:
        UnsupportedModuleError: the module cannot be traced, branches, or contains something that does not lower.
    """
    root = getattr(module, "_orig_mod", module)  # the module inside of torch.compile's wrapper
    height, width, channels = image
    with _eval_mode(root):
        if _is_leaf(root):
            name, shape = type(root).__name__, (BATCH, channels, height, width)
            check_kind(name, root)
            return [Step(name, root, shape, output_shape(name, root, shape))]
        return _Reader(root, (BATCH, channels, height, width)).steps(_trace(root))


@contextmanager
def _eval_mode(module: nn.Module) -> Iterator[None]:
    """Everything in eval mode; afterwards as it was."""
    flags = [(part, part.training) for part in module.modules()]
    try:
        for part, _ in flags:
            part.training = False
        yield
    finally:
        for part, training in flags:
            part.training = training


def _is_leaf(module: nn.Module) -> bool:
    if isinstance(module, KINDS):
        return True
    return type(module).__module__.startswith("torch.nn.") and not isinstance(
        module, nn.Sequential | nn.ModuleList | nn.ModuleDict
    )


class _Tracer(fx.Tracer):
    """Binary layers are leaves; remembers the innermost module in which tracing failed."""

    culprit: str | None = None

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return _is_leaf(m)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        try:
            _check_hooks(describe(self.path_of_module(m), m), m)
            return super().call_module(m, forward, args, kwargs)
        except Exception:
            self.culprit = self.culprit or describe(self.path_of_module(m), m)
            raise


def _check_hooks(name: str, module: nn.Module) -> None:
    if module._forward_hooks or module._forward_pre_hooks:
        raise UnsupportedModuleError(f"{name}: its forward hooks may change what it computes: remove them first")


def _trace(root: nn.Module) -> fx.Graph:
    """The graph of a module's forward; its further arguments take their defaults."""
    name = type(root).__name__
    _check_hooks(name, root)
    options = {
        key: parameter.default
        for key, parameter in list(inspect.signature(root.forward).parameters.items())[1:]
        if parameter.default is not parameter.empty
    }
    tracer = _Tracer()
    try:
        return tracer.trace(root, concrete_args=options or None)
    except UnsupportedModuleError:
        raise
    except Exception as error:
        raise UnsupportedModuleError(
            f"{tracer.culprit or name}: its forward cannot be read as a straight line of modules ({error}); {SUPPORTED}"
        ) from error


class _Reader:
    """Walks a graph; `current` is the node that holds the feature map, `shape` its shape."""

    def __init__(self, root: nn.Module, shape: Shape) -> None:
        self.root = root
        self.shape = shape
        self.current: fx.Node | None = None
        self.shapes: dict[fx.Node, Shape] = {}
        self.numbers: dict[fx.Node, Any] = {}
        self.options: set[fx.Node] = set()
        self.line: list[Step] = []
        self.calls: dict[str, int] = {}

    def steps(self, graph: fx.Graph) -> list[Step]:
        """The steps of the whole graph, in order."""
        for node in graph.nodes:
            if node.op == "placeholder" and self.current is None:
                self._advance(node, self.shape)
            elif node.op == "placeholder" or (node.all_input_nodes and self.options.issuperset(node.all_input_nodes)):
                self.options.add(node)  # a further argument of forward, or a check of its default
            elif node.op == "output":
                self._check_output(node)
            else:
                self._visit(node)
        return self.line

    def _advance(self, node: fx.Node, shape: Shape) -> None:
        self.current, self.shape = node, shape
        self.shapes[node] = shape

    def _visit(self, node: fx.Node) -> None:
        maps = [source for source in node.all_input_nodes if source in self.shapes]
        if self._is_number(node, maps):
            return
        if maps != [self.current] or node.args[:1] != (self.current,):
            raise UnsupportedModuleError(
                f"{self._place(node)}: the forward branches here, or reads something other than the one feature map "
                f"(residual sums and concatenations have no integer form here); {SUPPORTED}"
            )
        if node.op == "call_module":
            path = str(node.target)
            if len(node.args) != 1 or node.kwargs:
                raise UnsupportedModuleError(f"{self._place(node)}: it is called with more than the feature map")
            self._append(node, path, self.root.get_submodule(path))
        else:
            self._visit_call(node)

    def _append(self, node: fx.Node, path: str, module: nn.Module) -> None:
        check_kind(path, module)
        shape = output_shape(path, module, self.shape)
        self.calls[path] = count = self.calls.get(path, 0) + 1
        self.line.append(Step(path if count == 1 else f"{path}#{count}", module, self.shape, shape))
        self._advance(node, shape)

    def _visit_call(self, node: fx.Node) -> None:
        """A function or tensor method on the feature map: as the module that computes the same."""
        args = [self._number(arg) for arg in node.args[1:]]
        kwargs = {key: self._number(value) for key, value in node.kwargs.items()}
        name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
        try:
            module = self._module_of(node, name, args, kwargs)
        except (TypeError, ValueError) as error:
            raise UnsupportedModuleError(f"{self._place(node)}: {error}; {SUPPORTED}") from error
        if module is None:
            raise UnsupportedModuleError(f"{self._place(node)}: this call has no exact integer form; {SUPPORTED}")
        self._append(node, _path(node), module)

    def _module_of(self, node: fx.Node, name: str, args: list[Any], kwargs: dict[str, Any]) -> nn.Module | None:
        if node.target in (functional.max_pool2d, torch.max_pool2d):
            return nn.MaxPool2d(*args, **kwargs)
        if node.target is functional.hardtanh:
            return nn.Hardtanh(*args, **kwargs)
        if node.target is functional.dropout:
            return self._dropout(*args, **kwargs)
        if node.target is binarize:
            return Sign(*args, **kwargs)
        if node.target is torch.flatten or (node.op == "call_method" and name == "flatten"):
            return nn.Flatten(*(args or [0]), **kwargs) if "start_dim" not in kwargs else nn.Flatten(*args, **kwargs)
        if node.op == "call_method" and name in ("view", "reshape"):
            return self._reshape(args, **kwargs)
        if node.op == "call_method" and name in ("contiguous", "float"):
            return nn.Identity()
        return None

    def _dropout(self, p: float = 0.5, training: bool = True, inplace: bool = False) -> nn.Module:
        if training:
            raise ValueError("it drops in eval mode too: call F.dropout(x, p, self.training)")
        return nn.Identity()

    def _reshape(self, sizes: list[Any]) -> nn.Module:
        wanted = list(sizes[0] if sizes and isinstance(sizes[0], tuple | list) else sizes)
        flat = flattened(self.shape)
        if wanted in ([flat[0], -1], [-1, flat[1]], list(flat)):
            return nn.Flatten()
        if wanted == list(self.shape):
            return nn.Identity()
        raise ValueError("only the flattening of a whole map, as in x.view(x.size(0), -1), is supported")

    def _is_number(self, node: fx.Node, maps: list[fx.Node]) -> bool:
        """Whether a node is arithmetic on shapes; if so, its value is kept."""
        args = [self._number(arg) for arg in node.args]
        if node.op == "call_method" and node.target in ("size", "dim") and maps:
            shape = self.shapes[maps[0]]
            self.numbers[node] = len(shape) if node.target == "dim" else shape[args[1]] if len(args) > 1 else shape
            return True
        if node.op != "call_function" or node.target not in _ARITHMETIC:
            return False
        if node.target is getattr and maps and args[1] in ("shape", "ndim"):
            self.numbers[node] = self.shapes[maps[0]] if args[1] == "shape" else len(self.shapes[maps[0]])
            return True
        if maps or node.target is getattr:
            return False
        assert callable(node.target)
        self.numbers[node] = node.target(*args)
        return True

    def _number(self, value: Any) -> Any:
        """An argument with its shape arithmetic resolved."""
        if isinstance(value, fx.Node):
            return self.numbers.get(value, value)
        return type(value)(self._number(item) for item in value) if isinstance(value, tuple | list) else value

    def _place(self, node: fx.Node) -> str:
        """How errors name a node: a module by its path, a call by its name and the module that makes it."""
        if node.op == "call_module":
            return describe(str(node.target), self.root.get_submodule(str(node.target)))
        target = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", node.target)
        return f"{_path(node)!r} ({target})"

    def _check_output(self, node: fx.Node) -> None:
        if node.args != (self.current,):
            raise UnsupportedModuleError(
                f"{type(self.root).__name__}: its forward must return one tensor, the last feature map; it returns "
                f"{node.args[0]}"
            )


def _path(node: fx.Node) -> str:
    """Dotted path of the module whose forward makes a call, and the call's name."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    inside = f"{stack[-1][0]}." if stack and stack[-1][0] else ""
    return f"{inside}{node.name}"
