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
    """A model file taken apart: header entries, metadata, the network's JSON, and the tensors' data in file order."""

    entries: dict[str, Any]
    metadata: dict[str, Any]
    network: Any
    data: dict[str, bytes]


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
    return Parts(entries, metadata, json.loads(metadata["network"]), data)


def whole(header: bytes, body: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header + body


def join(p: Parts, place: bool = True, sign: bool = True, text: str | None = None) -> bytes:
    """Put a file together: `place` counts the offsets anew, `sign` the checksum; `text` replaces the JSON text."""
    end = 0
    for name, data in p.data.items() if place else ():
        begin, end = end, end + len(data)
        p.entries[name]["data_offsets"] = [begin, end]
    if "network" in p.metadata:
        p.metadata["network"] = json.dumps(p.network) if text is None else text
    if sign and "sha256" in p.metadata:
        digest = hashlib.sha256(p.metadata.get("network", "").encode())
        for name in sorted(p.data):
            digest.update(p.data[name])
        p.metadata["sha256"] = digest.hexdigest()
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


def network_case(name: str, path: tuple[Any, ...], value: Any, message: str) -> Hostile:
    return Hostile(name, edited(lambda p: replaced(p.network, path, value)), message)


def data_case(name: str, tensor: str, data: bytes, message: str) -> Hostile:
    """Replace a tensor's data; its shape stays."""
    return Hostile(name, edited(lambda p: p.data.update({tensor: data})), message)


def cut(size: int) -> bytes:
    return GOOD[:size]


def container_cases() -> list[Hostile]:
    """Files that are no sound safetensors file."""
    table = b'{"data_offsets":[0,1],"dtype":"U8","shape":[1]}'
    meta = b'"__metadata__":{"format":"o3bnn","format_version":"1","network":"","sha256":""}'
    deep = b"[" * 100_000
    return [
        Hostile("empty", b"", "it is empty"),
        Hostile("seven octets", GOOD[:7], "only 7 octets"),
        Hostile("length only", GOOD[:8], "ends within its header"),
        Hostile("cut header", cut(100), "ends within its header"),
        Hostile("cut data", cut(len(GOOD) - 1), "octets 592..594|follow the header"),
        Hostile("one octet more", GOOD + b"\0", "595 follow the header"),
        Hostile("header of 2^64 - 1 octets", b"\xff" * 8 + GOOD[8:], "header would be 18446744073709551615 octets"),
        Hostile("header of 2^63 octets", (1 << 63).to_bytes(8, "little") + GOOD[8:], "header would be"),
        Hostile("header of no octets", whole(b"", b""), "its header is not valid JSON"),
        Hostile("zeros", bytes(4096), "its header is not valid JSON"),
        Hostile("random text", b"GIF89a" * 100, "header would be"),
        Hostile("a list", whole(b"[]", b""), "not a JSON object"),
        Hostile("null", whole(b"null", b""), "not a JSON object"),
        Hostile("a number of 5000 digits", whole(b"1" * 5000, b""), "not valid JSON"),
        Hostile("two values", whole(b"{} {}", b""), "not valid JSON"),
        Hostile("zeros after the header", whole(b"{}\0\0", b""), "not valid JSON"),
        Hostile("byte order mark", whole(b"\xef\xbb\xbf{}", b""), "not valid JSON"),
        Hostile("UTF-16", whole("{}".encode("utf-16"), b""), "not valid JSON"),
        Hostile("invalid UTF-8", whole(b'{"\xff\xfe":1}', b""), "not valid JSON"),
        Hostile("lone surrogate", whole(b'{"\\ud800":1}', b""), "not valid JSON"),
        Hostile("NaN", whole(b'{"a":NaN}', b""), "not valid JSON"),
        Hostile("deep lists", whole(deep, b""), "not valid JSON"),
        Hostile("deep objects", whole(b'{"a":' * 100_000, b""), "not valid JSON"),
        Hostile("deep and closed", whole(b'{"a":' + deep + b"]" * 100_000 + b"}", b""), "not valid JSON"),
        Hostile("empty object", whole(b"{}", b""), "format None"),
        Hostile("duplicate tensor", whole(b'{%s,"a":%s,"a":%s}' % (meta, table, table), b"\0"), "duplicate key 'a'"),
        Hostile("duplicate metadata", whole(b"{%s,%s}" % (meta, meta), b""), "duplicate key '__metadata__'"),
        Hostile("metadata is a list", whole(b'{"__metadata__":[]}', b""), "the metadata"),
        Hostile("metadata is null", whole(b'{"__metadata__":null}', b""), "the metadata"),
    ]


def bomb_cases() -> list[Hostile]:
    """Headers at the size limit that try to make the parser allocate, or the messages long."""
    room = (4 << 20) - 600
    lists = b'{"a":[' + b",".join([b"[]"] * (room // 3)) + b"]}"
    objects = b'{"a":[' + b",".join([b'{"":0}'] * (room // 7)) + b"]}"
    numbers = ",".join(str(i) for i in range(room // 9))
    keys, few = (",".join(f'"{i}":0' for i in range(room // size)) for size in (12, 20))
    long_name = "\u202e\x1b[31m" + "x" * (room // 2)
    p = parts()
    table = p.entries["input.table"]
    return [
        Hostile("many lists", whole(lists, b""), "format None"),
        Hostile("many objects", whole(objects, b""), "format None"),
        Hostile("many keys", whole(f'{{"__metadata__":{{{keys}}}}}'.encode(), b""), "fields are wrong"),
        Hostile("many equal keys", whole(b"{%s}" % b",".join([b'"":0'] * (room // 5)), b""), "duplicate key ''"),
        Hostile("many class names", join(p, text=f'{{"class_names":[{numbers}]}}'), "fields are wrong"),
        Hostile("many unknown fields", join(parts(), text=f"{{{few}}}"), "fields are wrong"),
        network_case("long name", ("name",), long_name, "'name': String should have at most 256"),
        Hostile("long tensor name", edited(lambda p: p.entries.update({long_name: table})), "lies at octets"),
        Hostile("long header", whole(b"{}" + b" " * (4 << 20), b""), "header would be 4194306 octets"),
    ]


def entry_cases() -> list[Hostile]:
    """Entries of tensors that are wrong, alone or together."""

    def entry(name: str, field: str, value: Any, message: str) -> Hostile:
        change = edited(lambda p: replaced(p.entries, ("stages.0.weights", field), value), place=False)
        return Hostile(f"entry: {name}", change, message)

    def missing(p: Parts) -> None:
        del p.entries["output.scale"], p.data["output.scale"]

    def unknown(p: Parts) -> None:
        p.entries["output.bias"] = {"dtype": "U8", "shape": [1]}
        p.data["output.bias"] = b"\0"

    def swap_dtype(p: Parts) -> None:
        p.entries["output.scale"]["dtype"] = "I32"

    def reshape(p: Parts) -> None:
        p.entries["stages.0.thresholds"]["shape"] = [2, 4]

    def unused(p: Parts) -> None:
        p.entries["input.table"]["unused"] = 1

    return [
        entry("negative size", "shape", [2, -1], r"shape\.1'?: Input should be greater than or equal to 0"),
        entry("oversized shape", "shape", [HUGE, HUGE], "less than or equal to 1073741824"),
        entry("product wraps around", "shape", [1 << 30, 1 << 30, 1 << 7], "lies at octets 16..32"),
        entry("shape of many sizes", "shape", [1] * 100_000, "at most 8 items"),
        entry("shape with a zero", "shape", [2, 0], "lies at octets 16..32"),
        entry("shape of a boolean", "shape", [2, True], "valid integer"),
        entry("shape of a float", "shape", [2.0, 1], "valid integer"),
        entry("shape is a text", "shape", "21", "tuple"),
        entry("shape is null", "shape", None, "tuple"),
        entry("wrong dtype", "dtype", "I64", "Input should be 'F32', 'I16', 'I32', 'U64' or 'U8'"),
        entry("dtype of another size", "dtype", "I32", "lies at octets 16..32"),
        entry("dtype is a number", "dtype", 8, "Input should be"),
        entry("overlap", "data_offsets", [8, 24], "lies at octets 8..24"),
        entry("backwards", "data_offsets", [32, 16], "octets"),
        entry("negative offset", "data_offsets", [-16, 0], "greater than or equal to 0"),
        entry("beyond the file", "data_offsets", [1 << 29, (1 << 29) + 16], "octets"),
        entry("far beyond the file", "data_offsets", [HUGE, HUGE + 16], "less than or equal to 1073741824"),
        entry("three offsets", "data_offsets", [16, 32, 48], "data_offsets"),
        Hostile("entry: unknown field", edited(unused), "unused'?: Extra inputs are not permitted"),
        Hostile("missing tensor", edited(missing), "tensor 'output.scale' is missing"),
        Hostile("unknown tensor", edited(unknown), "tensor 'output.bias' is unknown"),
        Hostile("dtype of the same size", edited(swap_dtype), r"'output.scale' is I32 \[2\], not F32 \[2\]"),
        Hostile("transposed", edited(reshape), r"'stages.0.thresholds' is I32 \[2, 4\], not I32 \[4, 2\]"),
    ]


def metadata_cases() -> list[Hostile]:
    """Wrong format, version, or fields of the metadata."""

    def metadata(name: str, field: str, value: Any, message: str) -> Hostile:
        return Hostile(f"metadata: {name}", edited(lambda p: p.metadata.update({field: value})), message)

    versions = ["0", "01", "-1", "1.0", "", "one", "\u0661", "1\n", "9" * 100_000]
    return [
        metadata("another format", "format", "pt", "format 'pt', not 'o3bnn'"),
        metadata("next version", "format_version", "2", "format version 2 is newer than 1: upgrade o3bnn"),
        metadata("far version", "format_version", "999999", "upgrade o3bnn"),
        *[metadata(f"version {v[:4]!r}", "format_version", v, "format version is") for v in versions],
        metadata("version is a number", "format_version", 1, "format_version'?: Input should be a valid string"),
        metadata("unknown field", "pickle", "cos\nsystem", "unknown field 'pickle'"),
        Hostile("no checksum", edited(lambda p: p.metadata.pop("sha256")), "no field 'sha256'"),
        Hostile("no network", edited(lambda p: p.metadata.pop("network")), "no field 'network'"),
        Hostile("no version", edited(lambda p: p.metadata.pop("format_version")), "format version is ''"),
        Hostile("wrong checksum", edited(lambda p: p.metadata.update(sha256="0" * 64), sign=False), "SHA-256"),
    ]


def network_cases() -> list[Hostile]:
    """Wrong JSON of the network: parsed, typed, or out of range."""
    stage = ("stages", 0)
    good = parts().metadata["network"]
    return [
        Hostile("network is not JSON", join(parts(), text="{"), "the network is not valid JSON"),
        Hostile("network is a list", join(parts(), text="[]"), "the network"),
        Hostile("deep network", join(parts(), text="[" * 100_000), "the network is not valid JSON"),
        Hostile("duplicate field", join(parts(), text='{"name":"a",' + good[1:]), "duplicate key 'name'"),
        network_case("unknown field", ("extra",), 1, "extra'?: Extra inputs"),
        network_case("stages is an object", ("stages",), {}, "stages"),
        network_case("stage is null", stage, None, "stages.0"),
        network_case("unknown kind", (*stage, "kind"), "lstm", "'lstm'|lstm"),
        network_case("kind of control characters", (*stage, "kind"), "\x1b[31m\u202e" * 1000, "kind"),
        network_case("too many stages", ("stages",), [parts().network["stages"][0]] * 1025, "stages"),
        network_case("empty name", ("name",), "", "at least 1 character"),
        network_case("control characters", ("name",), "a\x1b[31m", "is not a name"),
        network_case("negative height", ("input", "height"), -2, "input.height"),
        network_case("zero width", ("input", "width"), 0, "input.width"),
        network_case("huge height", ("input", "height"), HUGE, "input.height"),
        network_case("height as text", ("input", "height"), "2", "valid integer"),
        network_case("height as float", ("input", "height"), 2.0, "valid integer"),
        network_case("height as boolean", ("input", "height"), True, "valid integer"),
        network_case("another height", ("input", "height"), 3, "does not cover|expects a map"),
        network_case("cover too small", ("input", "cover"), [1, 2], "does not cover"),
        network_case("cover of three", ("input", "cover"), [2, 2, 2], "input.cover"),
        network_case("huge channels", (*stage, "out_channels"), 1 << 24, "more than 134217728|stages.0"),
        network_case("oversized channels", (*stage, "out_channels"), HUGE, "out_channels"),
        network_case("huge kernel", (*stage, "kernel"), [65536, 65536], "does not fit"),
        network_case("huge padding", (*stage, "padding"), [65536] * 4, "stage 0"),
        network_case("three paddings", (*stage, "padding"), [1, 1, 1], "padding"),
        network_case("stride of zero", (*stage, "stride"), [0, 1], "stride"),
        network_case("groups do not divide", (*stage, "groups"), 3, "does not divide"),
        network_case("pool does not fit", (*stage, "pooling", "size"), [3, 3], "does not fit"),
        network_case("padding mode", (*stage, "padding_mode"), "reflect", "padding_mode"),
        network_case("bits for integers", (*stage, "integer_input"), False, "integer_input = False"),
        network_case("integer for a boolean", (*stage, "integer_input"), 1, "valid boolean"),
        network_case("two stages of one name", ("output", "name"), "conv", "not unique"),
        network_case("class names", ("class_names",), ["a"], "1 class names for 2 classes"),
        network_case("class name is a number", ("class_names",), [1, 2], "class_names.0"),
        network_case("text is a number", ("metadata",), {"accuracy": 0.5}, "metadata.accuracy"),
        network_case("classes", ("output", "classes"), 3, "output.weights"),
        network_case("features", ("output", "in_features"), 3, "3 inputs for a map|beyond the last edge"),
        network_case("huge features", ("output", "in_features"), 1 << 24, "output.weights"),
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
        data_case("NaN in the scale", "output.scale", nan + bytes(4), "scale is not finite"),
        data_case("infinity in the offset", "output.offset", bytes(4) + infinity, "offset is not finite"),
        data_case("threshold too high", "stages.0.thresholds", b"\xff\xff\xff\x7f" * 8, "threshold"),
        data_case("threshold too low", "stages.0.thresholds", b"\0\0\0\x80" * 8, "threshold"),
        data_case("ones beyond the row", "stages.0.weights", bytes(8) + b"\0\x02" + bytes(6), "beyond the last edge"),
        data_case("ones beyond the output row", "output.weights", b"\x04" + bytes(15), "beyond the last edge"),
        data_case("decisive bit of 2", "stages.0.decisive_bit", b"\0\x02", "decisive bit"),
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
