"""Hostile model files, made from a good one: every case has a name, its octets, and what the error must say.

Edited files carry a correct checksum, so that the checks behind the checksum are reached too.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.golden import networks

GOOD = networks.path("tiny").read_bytes()
HUGE = 1 << 62


@dataclass
class Parts:
    """A model file taken apart: header entries, metadata, the document, and the tensors' data in file order."""

    entries: dict[str, Any]
    metadata: dict[str, Any]
    document: Any
    data: dict[str, bytes]

    @property
    def network(self) -> Any:
        return self.document["network"]


@dataclass(frozen=True)
class Hostile:
    name: str
    octets: bytes
    message: str


def parts(octets: bytes = GOOD) -> Parts:
    length = int.from_bytes(octets[:8], "little")
    entries = json.loads(octets[8 : 8 + length])
    metadata = entries.pop("__metadata__")
    body = octets[8 + length :]
    order = sorted(entries, key=lambda name: entries[name]["data_offsets"])
    data = {name: body[slice(*entries[name]["data_offsets"])] for name in order}
    return Parts(entries, metadata, json.loads(metadata["o3bnn"]), data)


def whole(header: bytes, body: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header + body


def canonical(document: Any) -> str:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def join(p: Parts, place: bool = True, sign: bool = True, text: str | None = None) -> bytes:
    """Put a file together: `place` counts the offsets anew, `sign` the checksum; `text` replaces the JSON text."""
    if "o3bnn" in p.metadata:
        p.metadata["o3bnn"] = canonical(p.document) if text is None else text
    if sign and "sha256" in p.data:
        digest = hashlib.sha256(p.metadata.get("o3bnn", "").encode())
        for name in sorted(p.data.keys() - {"sha256"}):
            digest.update(p.data[name])
        p.data["sha256"] = digest.digest()
    end = 0
    for name, data in p.data.items() if place else ():
        begin, end = end, end + len(data)
        p.entries[name]["data_offsets"] = [begin, end]
    return pack(p)


def pack(p: Parts) -> bytes:
    """Put a file together without any care."""
    return whole(json.dumps({"__metadata__": p.metadata, **p.entries}).encode(), b"".join(p.data.values()))


def edited(change: Callable[[Parts], object], **options: Any) -> bytes:
    p = parts()
    change(p)
    return join(p, **options)


def replaced(tree: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Set the value at a path of keys and indices, and return the value that was there."""
    for key in path[:-1]:
        tree = tree[key]
    before = tree.get(path[-1]) if isinstance(tree, dict) else tree[path[-1]]
    tree[path[-1]] = value
    return before


def document_case(name: str, path: tuple[Any, ...], value: Any, message: str) -> Hostile:
    return Hostile(name, edited(lambda p: replaced(p.document, path, value)), message)


def network_case(name: str, path: tuple[Any, ...], value: Any, message: str) -> Hostile:
    return document_case(name, ("network", *path), value, message)


def data_case(name: str, tensor: str, data: bytes, message: str) -> Hostile:
    """Replace a tensor's data; its shape stays."""
    return Hostile(name, edited(lambda p: p.data.update({tensor: data})), message)


def container_cases() -> list[Hostile]:
    """Files that are no sound safetensors file, or not of o3bnn."""
    meta = b'"__metadata__":' + json.dumps(parts().metadata).encode()
    deep = b"[" * 100_000
    header, body = GOOD[9 : 8 + int.from_bytes(GOOD[:8], "little")], GOOD[8 + int.from_bytes(GOOD[:8], "little") :]
    invalid = "its header: Invalid JSON: "
    return [
        Hostile("empty", b"", "it is empty"),
        Hostile("seven octets", GOOD[:7], "only 7 octets"),
        Hostile("length only", GOOD[:8], "ends within its header"),
        Hostile("cut header", GOOD[:100], "ends within its header"),
        Hostile("cut data", GOOD[:-1], "its tensors take 626 octets, but 625 follow the header"),
        Hostile("one octet more", GOOD + b"\0", "its tensors take 626 octets, but 627 follow the header"),
        Hostile("header of 2^64 - 1 octets", b"\xff" * 8 + GOOD[8:], "header would be 18446744073709551615 octets"),
        Hostile("header of 2^63 octets", (1 << 63).to_bytes(8, "little") + GOOD[8:], "header would be"),
        Hostile("header of no octets", whole(b"", b""), invalid + "EOF"),
        Hostile("zeros", bytes(4096), invalid + "EOF"),
        Hostile("random text", b"GIF89a" * 100, "header would be"),
        Hostile("a list", whole(b"[]", b""), "its header: Input should be an object"),
        Hostile("null", whole(b"null", b""), "its header: Input should be an object"),
        Hostile("a number of 5000 digits", whole(b"1" * 5000, b""), invalid + "number out of range"),
        Hostile("two values", whole(b"{} {}", b""), invalid + "trailing characters"),
        Hostile("zeros after the header", whole(b"{}\0\0", b""), invalid + "trailing characters"),
        Hostile("byte order mark", whole(b"\xef\xbb\xbf{}", b""), invalid + "expected value"),
        Hostile("UTF-16", whole("{}".encode("utf-16"), b""), invalid + "expected value"),
        Hostile("invalid UTF-8", whole(b'{"\xff\xfe":1}', b""), invalid + "invalid unicode"),
        Hostile("lone surrogate", whole(b'{"\\ud800":1}', b""), invalid),
        Hostile("NaN", whole(b'{"a":NaN,' + header, body), "its tensors cannot be read .* invalid JSON in header"),
        Hostile("deep lists", whole(deep, b""), invalid + "recursion limit"),
        Hostile("deep objects", whole(b'{"a":' * 100_000, b""), invalid + "recursion limit"),
        Hostile("deep and closed", whole(b'{"a":' + deep + b"]" * 100_000 + b"}", b""), invalid + "recursion limit"),
        Hostile(
            "deep enough", whole(b'{"a":' + b"[" * 150 + b"]" * 150 + b"," + header, body), "cannot be read .* limit"
        ),
        Hostile("empty object", whole(b"{}", b""), "its metadata has no 'o3bnn': it is not an o3bnn model"),
        Hostile("duplicate metadata", whole(b"{%s,%s" % (meta, header), body), "duplicate field `__metadata__`"),
        Hostile("metadata is a list", whole(b'{"__metadata__":[]}', b""), "'__metadata__': Input should be an object"),
        Hostile("metadata is null", whole(b'{"__metadata__":null}', b""), "'__metadata__': Input should be an object"),
        *duplicate_tensors(),
    ]


def duplicate_tensors() -> list[Hostile]:
    """A tensor's name twice, where the last of the two, which the safetensors package takes, is wrong."""

    def twice(name: str, change: dict[str, Any], data: bytes, message: str) -> Hostile:
        """The good entry of `output.scale` comes first, then a changed one; `data` follows the other tensors."""
        p = parts()
        entry = p.entries["output.scale"]
        text = json.dumps({"__metadata__": p.metadata, **p.entries, "second": {**entry, **change}})
        return Hostile(
            f"a tensor twice: {name}",
            whole(text.replace('"second"', '"output.scale"').encode(), b"".join(p.data.values()) + data),
            message,
        )

    return [
        twice("of another type", {"dtype": "I32"}, b"", r"'output.scale' is int32 \[2\], not float32 \[2\]"),
        twice("elsewhere", {"data_offsets": [32, 40]}, b"", "invalid offset for tensor"),
        twice("appended", {"data_offsets": [626, 634]}, bytes(8), "its tensors take 626 octets, but 634 follow"),
        twice("empty", {"shape": [0], "data_offsets": [0, 0]}, b"", "invalid offset for tensor"),
    ]


def bomb_cases() -> list[Hostile]:
    """Headers at the size limit that try to make the parsers allocate, or the messages long."""
    room = (4 << 20) - 2000
    lists = b'{"a":[' + b",".join([b"[]"] * (room // 3)) + b"]}"
    objects = b'{"a":[' + b",".join([b'{"":0}'] * (room // 7)) + b"]}"
    keys, few = (",".join(f'"{i}":0' for i in range(room // size)) for size in (12, 20))
    long_name = "\u202e\x1b[31m" + "x" * (room // 2)
    none = {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}
    missing = "its metadata has no 'o3bnn'"

    def texts(count: int) -> bytes:
        return edited(lambda p: p.network.update(class_names=list(range(count))))

    def entries(more: dict[str, Any]) -> bytes:
        return edited(lambda p: p.entries.update(more))

    return [
        Hostile("many lists", whole(lists, b""), missing),
        Hostile("many objects", whole(objects, b""), missing),
        Hostile("many keys", whole(f'{{"__metadata__":{{{keys}}}}}'.encode(), b""), "349358 fields are wrong"),
        Hostile("many equal keys", whole(b"{%s}" % b",".join([b'"":0'] * (room // 5)), b""), missing),
        Hostile("many class names", texts(room // 9), "465811 fields are wrong"),
        Hostile("many unknown fields", join(parts(), text=f"{{{few}}}"), "'version': Field required"),
        Hostile("many wrong fields", edited(lambda p: p.network.update(json.loads(f"{{{few}}}"))), "fields are wrong"),
        network_case("long name", ("name",), long_name, "'network.name': String should have at most 256"),
        Hostile("long tensor name", entries({long_name: none}), "invalid offset for tensor|is unknown"),
        Hostile("many tensors", entries({str(i): none for i in range(room // 70)}), "tensor '0' is unknown"),
        Hostile("many sizes", entries({"a": {**none, "shape": [0] * (room // 3)}}), "cannot be read|is unknown"),
        Hostile("long header", whole(b"{}" + b" " * (4 << 20), b""), "header would be 4194306 octets"),
    ]


def entry_cases() -> list[Hostile]:
    """Entries of tensors that are wrong, alone or together."""
    shape, offset = "invalid shape, data type, or offset for tensor", "invalid offset for tensor `"
    overflow, number = "overflow computing buffer size", "invalid JSON in header: invalid (value|type)"

    def entry(name: str, field: str, value: Any, message: str) -> Hostile:
        change = edited(lambda p: replaced(p.entries, ("stages.0.weights", field), value), place=False)
        return Hostile(f"entry: {name}", change, message)

    def renamed(p: Parts) -> None:
        p.entries["output.scales"], p.data["output.scales"] = p.entries.pop("output.scale"), p.data.pop("output.scale")

    def missing(p: Parts) -> None:
        del p.entries["output.scale"], p.data["output.scale"]
        p.data["sha256"] += bytes(8)
        p.entries["sha256"]["shape"] = [40]

    def unknown(p: Parts) -> None:
        p.entries["output.bias"] = {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}

    def swap_dtype(p: Parts) -> None:
        p.entries["output.scale"]["dtype"] = "I32"

    def reshape(p: Parts) -> None:
        p.entries["stages.0.thresholds"]["shape"] = [2, 4]

    def swap_names(p: Parts) -> None:
        p.entries["output.scale"], p.entries["output.offset"] = p.entries["output.offset"], p.entries["output.scale"]

    return [
        entry("negative size", "shape", [2, -1], number),
        entry("oversized shape", "shape", [HUGE, HUGE], overflow),
        entry("product wraps around", "shape", [1 << 30, 1 << 30, 1 << 7], overflow),
        entry("shape of many sizes", "shape", [1] * 100_000, shape),
        entry("shape of more sizes than NumPy has", "shape", [2] + [1] * 99, "maximum supported dimension"),
        entry("shape with a zero", "shape", [2, 0], shape),
        entry("shape of a boolean", "shape", [2, True], number),
        entry("shape of a float", "shape", [2.0, 1], number),
        entry("shape is a text", "shape", "21", number),
        entry("shape is null", "shape", None, number),
        entry("flat", "shape", [2], r"tensor 'stages.0.weights' is uint64 \[2\], not uint64 \[2, 1\]"),
        entry("signed", "dtype", "I64", r"tensor 'stages.0.weights' is int64 \[2, 1\], not uint64 \[2, 1\]"),
        entry("dtype of another size", "dtype", "I32", shape),
        entry("dtype without a NumPy type", "dtype", "BF16", shape),
        entry("dtype of half octets", "dtype", "F4", shape),
        entry("unknown dtype", "dtype", "u8", "invalid JSON in header: unknown variant"),
        entry("dtype is a number", "dtype", 8, number),
        entry("overlap", "data_offsets", [8, 24], offset),
        entry("backwards", "data_offsets", [32, 16], offset),
        entry("negative offset", "data_offsets", [-16, 0], number),
        entry("beyond the file", "data_offsets", [1 << 29, (1 << 29) + 16], offset),
        entry("far beyond the file", "data_offsets", [HUGE, HUGE + 16], offset),
        entry("offsets that wrap around", "data_offsets", [(1 << 64) - 1, 15], offset),
        entry("three offsets", "data_offsets", [16, 32, 48], "invalid length 3"),
        Hostile("missing tensor", edited(missing, sign=False), "tensor 'output.scale' is missing"),
        Hostile("unknown tensor", edited(unknown, place=False), "tensor 'output.bias' is unknown"),
        Hostile("renamed tensor", edited(renamed), "tensor 'output.scale' is missing"),
        Hostile("tensor of no NumPy type", no_numpy_type(), "cannot be read .*BF16"),
        Hostile("dtype of the same size", edited(swap_dtype), r"'output.scale' is int32 \[2\], not float32 \[2\]"),
        Hostile("transposed", edited(reshape), r"'stages.0.thresholds' is int32 \[2, 4\], not int32 \[4, 2\]"),
        Hostile("exchanged", edited(swap_names, place=False, sign=False), "SHA-256"),
    ]


def no_numpy_type() -> bytes:
    p = parts()
    p.entries["input.table"]["dtype"] = "BF16"
    return join(p)


def metadata_cases() -> list[Hostile]:
    """Wrong format, version, or fields of the metadata and of the document around the network."""
    good = canonical(parts().document)
    backwards = json.dumps(dict(reversed(parts().document.items())), separators=(",", ":"))
    many = canonical({**parts().document, "format": "x" * 100_000})

    def respelled(name: str, old: str, new: str) -> Hostile:
        assert old in good
        return Hostile(f"spelling: {name}", join(parts(), text=good.replace(old, new, 1)), "not in canonical form")

    def drop_checksum(p: Parts) -> None:
        del p.entries["sha256"], p.data["sha256"]

    def short_checksum(p: Parts) -> None:
        p.entries["sha256"]["shape"], p.data["sha256"] = [31], bytes(31)

    versions = [0, -1, 1.0, "1", True, None, [1], 1 << 200]
    return [
        Hostile("metadata: none", edited(lambda p: p.metadata.clear()), "its metadata has no 'o3bnn'"),
        Hostile("metadata: unknown field", edited(lambda p: p.metadata.update(pt="cos")), "unknown field 'pt'"),
        Hostile("metadata: a number", edited(lambda p: p.metadata.update(pt=1)), "__metadata__.pt'?: Input .* string"),
        Hostile("metadata: empty", join(parts(), text=""), "the document: Invalid JSON: EOF"),
        Hostile("metadata: long format", join(parts(), text=many), "its format is 'x{70}.*, not 'o3bnn'"),
        document_case("another format", ("format",), "o3bnn-checkpoint", "format is 'o3bnn-checkpoint', not 'o3bnn'"),
        document_case("format is null", ("format",), None, "format is None, not 'o3bnn'"),
        Hostile("no format", edited(lambda p: p.document.pop("format")), "format is None, not 'o3bnn'"),
        document_case("next version", ("version",), 2, "format version 2 is newer than 1: upgrade o3bnn"),
        document_case("far version", ("version",), 10**30, "format version 10{30} is newer than 1: upgrade o3bnn"),
        *[document_case(f"version {v}", ("version",), v, "'version': |is newer") for v in versions],
        Hostile("no version", edited(lambda p: p.document.pop("version")), "'version': Field required"),
        Hostile("no network", edited(lambda p: p.document.pop("network")), "'network': Field required"),
        document_case(
            "unknown field of the document", ("pickle",), "cos\nsystem", "'pickle': Extra inputs are not permitted"
        ),
        respelled("a key twice", '{"format":', '{"format":"o3bnn","format":'),
        respelled("a key of the network twice", '"height":2', '"height":3,"height":2'),
        respelled("a space", ",", ", "),
        respelled("an escape", "tiny", "t\\u0069ny"),
        respelled("a list with a space", "[]", "[ ]"),
        Hostile("spelling: order", join(parts(), text=backwards), "not in canonical form"),
        Hostile("spelling: space behind", join(parts(), text=good + " "), "not in canonical form"),
        Hostile("no checksum", edited(drop_checksum), "its tensors take 626 octets, but 594 follow"),
        Hostile("short checksum", edited(short_checksum, sign=False), "its tensors take 626 octets, but 625 follow"),
        Hostile("wrong checksum", edited(lambda p: p.data.update(sha256=bytes(32)), sign=False), "SHA-256"),
    ]


def network_cases() -> list[Hostile]:
    """Wrong JSON of the network: parsed, typed, or out of range."""
    stage = ("stages", 0)
    return [
        Hostile("document is not JSON", join(parts(), text="{"), "the document: Invalid JSON: EOF"),
        Hostile("document is a list", join(parts(), text="[]"), "the document: Input should be an object"),
        Hostile("deep document", join(parts(), text="[" * 100_000), "the document: Invalid JSON: recursion limit"),
        document_case("network is a list", ("network",), [], "'network': Input should be an object"),
        document_case("network is a text", ("network",), "{}", "'network': Input should be an object"),
        network_case("unknown field", ("extra",), 1, "extra'?: Extra inputs"),
        network_case("stages is an object", ("stages",), {}, "stages"),
        network_case("stage is null", stage, None, "stages.0"),
        network_case("unknown kind", (*stage, "kind"), "lstm", "stages.0': Input tag 'lstm'"),
        network_case("kind of control characters", (*stage, "kind"), "\x1b[31m\u202e" * 1000, r"Input tag '\\x1b\[31m"),
        network_case(
            "too many stages",
            ("stages",),
            [parts().network["stages"][0]] * 1025,
            "network.stages': Tuple .* at most 1024",
        ),
        network_case("empty name", ("name",), "", "at least 1 character"),
        network_case("control characters", ("name",), "a\x1b[31m", "is not a name"),
        network_case("negative height", ("input", "height"), -2, "input.height"),
        network_case("zero width", ("input", "width"), 0, "input.width"),
        network_case("huge height", ("input", "height"), HUGE, "input.height"),
        network_case("height as text", ("input", "height"), "2", "valid integer"),
        network_case("height as float", ("input", "height"), 2.0, "valid integer"),
        network_case("height as boolean", ("input", "height"), True, "valid integer"),
        network_case("another height", ("input", "height"), 3, r"cover \(2, 2\) does not cover 3 x 2"),
        network_case("cover too small", ("input", "cover"), [1, 2], r"cover \(1, 2\) does not cover 2 x 2"),
        network_case("cover too large", ("input", "cover"), [65536] * 2, "input cover has 4294967296 elements, more"),
        network_case("cover of three", ("input", "cover"), [2, 2, 2], "input.cover"),
        network_case(
            "huge channels", (*stage, "out_channels"), 1 << 24, "its tensors take 419430976 octets, but 626 follow"
        ),
        network_case("oversized channels", (*stage, "out_channels"), HUGE, "out_channels"),
        network_case("huge kernel", (*stage, "kernel"), [65536, 65536], "does not fit"),
        network_case(
            "huge padding", (*stage, "padding"), [65536] * 4, "stage 0: padded input map has 17180393476 elements"
        ),
        network_case("three paddings", (*stage, "padding"), [1, 1, 1], "padding"),
        network_case("stride of zero", (*stage, "stride"), [0, 1], "stride"),
        network_case("groups do not divide", (*stage, "groups"), 3, "does not divide"),
        network_case("pool does not fit", (*stage, "pooling", "size"), [3, 3], "does not fit"),
        network_case("padding mode", (*stage, "padding_mode"), "reflect", "padding_mode"),
        network_case("bits for integers", (*stage, "integer_input"), False, "integer_input = False"),
        network_case("integer for a boolean", (*stage, "integer_input"), 1, "valid boolean"),
        network_case("two stages of one name", ("output", "name"), "conv", "not unique: 'conv' comes 2 times"),
        network_case("class names", ("class_names",), ["a"], "1 class names for 2 classes"),
        network_case("class name is a number", ("class_names",), [1, 2], "class_names.0"),
        network_case("text is a number", ("metadata",), {"accuracy": 0.5}, "metadata.accuracy"),
        network_case("classes", ("output", "classes"), 3, "its tensors take 642 octets, but 626 follow"),
        network_case("features", ("output", "in_features"), 3, r"output: 3 inputs for a map of \(1, 1, 2\)"),
        network_case(
            "huge features", ("output", "in_features"), 1 << 24, "its tensors take 4194914 octets, but 626 follow"
        ),
        Hostile("positions of many stages", many_positions(), "rows and columns of its stages add up to"),
    ]


def many_positions() -> bytes:
    """A small file whose border-class tables would take gigabytes: a thousand stages of 65536 rows."""
    p = parts()
    column = {"in_height": 65536, "in_width": 1, "kernel": [1, 1], "padding": [0] * 4, "pooling": None}
    p.network["stages"] = [{**p.network["stages"][0], **column, "name": f"stage {i}"} for i in range(1000)]
    return join(p)


def value_cases() -> list[Hostile]:
    """Tensors of the right type and shape with values that no network has."""
    nan, infinity = b"\0\0\xc0\x7f", b"\0\0\x80\x7f"
    return [
        data_case("NaN in the scale", "output.scale", nan + bytes(4), "output: scale of class 0 is nan: it must"),
        data_case(
            "infinity in the offset", "output.offset", bytes(4) + infinity, "output: offset of class 1 is inf: it"
        ),
        data_case(
            "threshold too high",
            "stages.0.thresholds",
            b"\xff\xff\xff\x7f" * 8,
            "conv: threshold 2147483647 of channel 0",
        ),
        data_case(
            "threshold too low", "stages.0.thresholds", b"\0\0\0\x80" * 8, "conv: threshold -2147483648 of channel 0"
        ),
        data_case("ones beyond the row", "stages.0.weights", bytes(8) + b"\0\x02" + bytes(6), "beyond the last edge"),
        data_case("ones beyond the output row", "output.weights", b"\x04" + bytes(15), "beyond the last edge"),
        data_case("decisive bit of 2", "stages.0.decisive_bit", b"\0\x02", "conv: decisive bit 2 of channel 1"),
        data_case("table of bits", "input.table", b"\1\0" * 256, "its input is bits"),
    ]


def cases() -> list[Hostile]:
    return [
        *container_cases(),
        *entry_cases(),
        *metadata_cases(),
        *network_cases(),
        *value_cases(),
        *bomb_cases(),
    ]
