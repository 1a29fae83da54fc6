"""The input of a graph: from 8-bit pixels to the first layer's operand."""

import json
import re
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from o3bnn.compiler.onnx.graph import Graph, Node
from o3bnn.compiler.onnx.operands import Operand, grid, shifted_grid
from o3bnn.compiler.onnx.preprocessing import Preprocessing
from o3bnn.compiler.onnx.symbolic import MapShape, Source, Symbol, batch_index, lanes_of, planar_index
from o3bnn.errors import InputError, UnsupportedGraphError
from o3bnn.model import InputEncoding, packing

PIXELS = np.arange(256)
COLOURS = (1, 3)


def exported_image(graph: Graph) -> MapShape | None:
    """The image size that `o3bnn export` has written into a file, or None."""
    match = re.fullmatch(r"(\d{1,8})x(\d{1,8})x(\d{1,8})", graph.properties.get("o3bnn.image", ""))
    return None if match is None else (int(match[1]), int(match[2]), int(match[3]))


def exported_classes(graph: Graph) -> tuple[str, ...]:
    """The class names that `o3bnn export` has written into a file, or none."""
    try:
        names = json.loads(graph.properties.get("o3bnn.classes", "[]"))
    except ValueError:
        return ()
    return tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else ()


def image_shape(graph: Graph, image: MapShape | None) -> tuple[MapShape, str]:
    """(height, width, channels) of the image, and the layout of the graph's input: NCHW, NHWC, NHW, NC (flat)."""
    sizes = graph.input_shape
    where = f"input {graph.input!r} of shape [{', '.join('?' if s is None else str(s) for s in sizes)}]"
    if len(sizes) == 4:
        planar = image is None or _fits(sizes[1:], (image[2], image[0], image[1]))
        if planar and (sizes[1] in COLOURS or sizes[3] not in COLOURS or image is not None):
            shape, layout = image or _known(where, sizes[2], sizes[3], sizes[1]), "NCHW"
        else:
            shape, layout = image or _known(where, sizes[1], sizes[2], sizes[3]), "NHWC"
        expected = (shape[2], shape[0], shape[1]) if layout == "NCHW" else shape
        if not _fits(sizes[1:], expected):
            raise UnsupportedGraphError(f"{where} does not fit an image of {shape} (height, width, channels)")
        return shape, layout
    if len(sizes) == 3:
        shape = image or _known(where, sizes[1], sizes[2], 1)
        if shape[2] != 1 or not _fits(sizes[1:], shape[:2]):
            raise UnsupportedGraphError(f"{where} does not fit an image of {shape} (height, width, channels)")
        return shape, "NHW"
    if len(sizes) == 2:
        return image or _guess_flat(where, sizes[1]), "NC"
    raise UnsupportedGraphError(f"{where}: it needs 2 to 4 axes, the first for the images")


def _fits(sizes: tuple[int | None, ...], expected: tuple[int, ...]) -> bool:
    return all(size is None or size == wanted for size, wanted in zip(sizes, expected, strict=True))


def _known(where: str, height: int | None, width: int | None, channels: int | None) -> MapShape:
    if height is None or width is None or channels is None:
        raise UnsupportedGraphError(f"{where} leaves the image size open: give it (--image HEIGHTxWIDTHxCHANNELS)")
    return height, width, channels


def _guess_flat(where: str, features: int | None) -> MapShape:
    """A flat input is a square image of one or three channels, where it can be one."""
    if features is None:
        raise UnsupportedGraphError(f"{where} leaves the image size open: give it (--image HEIGHTxWIDTHxCHANNELS)")
    for channels in COLOURS:
        side = round((features / channels) ** 0.5)
        if side * side * channels == features:
            return side, side, channels
    return 1, features, 1


def pixel_symbol(graph: Graph, shape: MapShape, layout: str) -> Symbol:
    """The graph's input as a symbol. A flat input is in (channel, row, column) order, as PyTorch flattens."""
    height, width, _ = shape
    source = Source(None, shape, np.zeros((height, width), np.int64))
    index = planar_index(shape)
    first = {"NCHW": index, "NHWC": index.transpose(1, 2, 0), "NHW": index[0], "NC": index.reshape(-1)}[layout]
    if layout == "NC" and graph.input_shape[1] not in (None, first.size):
        raise UnsupportedGraphError(
            f"input {graph.input!r} has {graph.input_shape[1]} features, the image {first.size}"
        )
    return Symbol(graph.input, source, 0, 0, batch_index(first, graph.input_shape[0] or 1, first.size))


def pixel_operand(
    symbol: Symbol, reader: Node, padding: float, preprocessing: Preprocessing, dtype: np.dtype[np.generic]
) -> tuple[Operand, npt.NDArray[np.int16]]:
    """The operand of the first layer, and the network's input table, from the 256 values of a pixel."""
    source = symbol.source
    pixels = np.repeat(PIXELS.astype(np.uint8)[:, None], source.channels, axis=1)
    try:
        base = preprocessing.apply(pixels, dtype).T
    except ValueError as error:
        raise InputError(f"{preprocessing}: mean and std need one value or {source.channels}") from error
    values = np.asarray(source.evaluate(symbol.step, base, lanes_of(0, slice(None))))
    if values.dtype != np.float32 or not np.all(np.isfinite(values)):
        raise reader.error(
            f"its input {symbol.name!r} is {values.dtype}, or infinite for some pixel: it must be float32"
        )
    if np.any(values != values[0]):
        raise reader.error("the image's channels are preprocessed differently: a network here has one input table")
    row = values[0]
    distinct = np.unique(row)
    if len(distinct) == 1:
        raise reader.error(
            f"its input is {row[0]:g} for every pixel: check how pixels enter the graph (--input-divisor)"
        )
    if len(distinct) == 2:
        operand = bit_operand(reader, float(distinct[0]), float(distinct[1]), padding)
        return operand, np.where(row == distinct[1], 1, -1).astype(np.int16)
    found = grid(np.append(row, np.float32(padding)))
    if found is None and (shifted := shifted_grid(row)) is not None:
        step, table, shift = shifted
        operand = Operand(Fraction(step), 0, False, table=table, shift=shift, beyond=padding)
        return operand, table.astype(np.int16)
    if found is None:
        raise reader.error(
            f"the values of its input, {distinct[0]:g} to {distinct[-1]:g} in {len(distinct)} steps, are no multiples "
            f"of one number that 16 bits can count: quantize the input (Quant), or change how pixels enter the graph"
        )
    quantum, multiples, exact = found
    table = multiples[:256]
    return Operand(quantum, int(multiples[256]), exact, table=table), table.astype(np.int16)


def bit_operand(reader: Node, low: float, high: float, padding: float) -> Operand:
    """The operand of a layer that reads the values `low` and `high`, with `padding` beyond the border."""
    found = grid(np.array([low, high, padding], np.float32))
    if found is None:
        raise reader.error(
            f"the values {low:g}, {high:g} of its input and {padding:g} of the padding have no common unit"
        )
    quantum, multiples, exact = found
    return Operand(quantum, int(multiples[2]), exact, int(multiples[0]), int(multiples[1]))


def encoding(shape: MapShape, table: npt.NDArray[np.int16], cover: tuple[int, int] | None) -> InputEncoding:
    """The network's input."""
    return InputEncoding(*shape, table=table, cover=cover)


def packed(signs: npt.NDArray[np.int8]) -> npt.NDArray[np.uint64]:
    """Weights -1 and +1 as packed bits."""
    return packing.pack(signs > 0)
