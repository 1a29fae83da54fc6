"""A second reader of model files, written after docs/format.md with nothing but `struct` and `json`.

It shows that the specification suffices. It imports nothing of o3bnn, and checks only what a friendly file needs.
"""

import hashlib
import json
import struct

CODES = {"F32": "f", "I16": "h", "I32": "i", "U64": "Q", "U8": "B"}


def read(data):
    """The network's description (a dict) and its tensors: name -> (shape, flat list of numbers)."""
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    text = header.pop("__metadata__")["o3bnn"]
    document = json.loads(text)
    assert (document["format"], document["version"]) == ("o3bnn", 1)
    digest = hashlib.sha256(text.encode())
    tensors = {}
    for name in sorted(header):
        begin, end = (8 + length + offset for offset in header[name]["data_offsets"])
        if name != "sha256":
            digest.update(data[begin:end])
        code = CODES[header[name]["dtype"]]
        count = (end - begin) // struct.calcsize(f"<{code}")
        tensors[name] = header[name]["shape"], list(struct.unpack_from(f"<{count}{code}", data, begin))
    assert list(digest.digest()) == tensors.pop("sha256")[1]
    return document["network"], tensors


def rows_of_bits(tensor, width):
    """Packed rows as lists of 0 and 1: bit i of a row is bit i % 64 of its word i // 64."""
    (rows, words), flat = tensor
    return [[flat[row * words + i // 64] >> (i % 64) & 1 for i in range(width)] for row in range(rows)]


def border_classes(size, kernel, stride, before, after):
    """Per output index its border class, and the number of classes along an axis."""
    seen, classes = [], []
    for position in range((size + before + after - kernel) // stride + 1):
        first = position * stride - before
        low = min(max(-first, 0), kernel)
        span = low, max(min(size - first, kernel), low)
        if span not in seen:
            seen.append(span)
        classes.append(seen.index(span))
    return classes, len(seen)


def run(data, image):
    """Classify one image, a nested list [height][width][channels] of 0..255: the list of logits' sums.

    Every stage as docs/format.md defines it, one edge at a time.
    """
    network, tensors = read(data)
    table = tensors["input.table"][1]
    binary = all(abs(value) == 1 for value in table)
    pixels = [[[table[p] for p in pixel] for pixel in row] for row in image]
    maps = [[[int(v > 0) for v in pixel] for pixel in row] for row in pixels] if binary else pixels
    for index, stage in enumerate(network["stages"]):
        if stage["kind"] == "dense":
            stage = as_convolution(stage)
            maps = [[[value for row in maps for pixel in row for value in pixel]]]
        prefix = f"stages.{index}."
        fired = convolve(stage, tensors[prefix + "weights"], tensors[prefix + "thresholds"][1], maps)
        decisive = tensors.get(prefix + "decisive_bit", (None, None))[1]
        maps = fired if stage["pooling"] is None else pool(stage["pooling"], decisive, fired)
    flat = [value for row in maps for pixel in row for value in pixel]
    weights = rows_of_bits(tensors["output.weights"], network["output"]["in_features"])
    return [sum(1 if w == v else -1 for w, v in zip(row, flat, strict=True)) for row in weights]


def as_convolution(stage):
    sizes = {"in_height": 1, "in_width": 1, "kernel": [1, 1], "stride": [1, 1], "padding": [0] * 4, "groups": 1}
    channels = {"in_channels": stage["in_features"], "out_channels": stage["out_features"]}
    return {**sizes, **channels, "pooling": None, "integer_input": stage["integer_input"]}


def convolve(stage, weights, thresholds, maps):
    (top, left, bottom, right), (kernel_rows, kernel_columns) = stage["padding"], stage["kernel"]
    group_in = stage["in_channels"] // stage["groups"]
    group_out = stage["out_channels"] // stage["groups"]
    rows, _ = border_classes(stage["in_height"], kernel_rows, stage["stride"][0], top, bottom)
    columns, column_classes = border_classes(stage["in_width"], kernel_columns, stage["stride"][1], left, right)
    bits = rows_of_bits(weights, kernel_rows * kernel_columns * group_in)
    fired = [[[0] * stage["out_channels"] for _ in columns] for _ in rows]
    for y, row_class in enumerate(rows):
        for x, column_class in enumerate(columns):
            for channel, edges in enumerate(bits):
                score = 0
                for edge, weight in enumerate(edges):
                    down, rest = divmod(edge, kernel_columns * group_in)
                    along, deep = divmod(rest, group_in)
                    r, c = y * stage["stride"][0] - top + down, x * stage["stride"][1] - left + along
                    if not (0 <= r < stage["in_height"] and 0 <= c < stage["in_width"]):
                        continue
                    value = maps[r][c][channel // group_out * group_in + deep]
                    score += (value if weight else -value) if stage["integer_input"] else int(value == weight)
                border = row_class * column_classes + column_class
                fired[y][x][channel] = int(score >= thresholds[border * stage["out_channels"] + channel])
    return fired


def pool(pooling, decisive, maps):
    (rows, columns), (down, right) = pooling["size"], pooling["stride"]
    result = []
    for y in range((len(maps) - rows) // down + 1):
        result.append([])
        for x in range((len(maps[0]) - columns) // right + 1):
            window = [maps[y * down + i][x * right + j] for i in range(rows) for j in range(columns)]
            settle = [any(p[c] == bit for p in window) for c, bit in enumerate(decisive)]
            result[-1].append([bit if hit else 1 - bit for bit, hit in zip(decisive, settle, strict=True)])
    return result
