"""Bad configs give one clear error each; YAML there and back."""

import copy
import pickle

import numpy as np
import pytest

from o3bnn.accel import PRESETS, AcceleratorConfig, Simulator, simulate
from o3bnn.accel.config import from_yaml, load
from o3bnn.errors import ConfigError, InputError, SimulationError
from tests.accel.machines import conv, image, machine
from tests.cli.helpers import tiny_network


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pes": 0}, r"pes = 0 is not an integer in 1\.\.4096"),
        ({"pes": True}, r"pes = True is not an integer in 1\.\.4096"),
        ({"pes": 10**30}, r"pes = 1000000000000000000000000000000 is not an integer"),
        ({"word": 48}, r"word = 48 is not a power of two in 1\.\.512"),
        ({"word": 64.0}, r"word = 64\.0 is not an integer"),
        ({"latency": 17}, r"latency = 17 is not an integer in 1\.\.16"),
        ({"policy": "best"}, r"policy = 'best' is not one of oldest, round_robin"),
        ({"bounds": "exact"}, r"bounds = 'exact' is not one of simple, sharp"),
        ({"speculate": 1}, r"speculate = 1 is not true or false"),
        ({"clock_mhz": float("nan")}, r"clock_mhz = nan is not a number in 1\.\.5000"),
        ({"map_bytes": (0, 1)}, r"map_bytes = \(0, 1\) is not a pair of integers"),
        ({"map_bytes": (1,)}, r"not a pair of integers"),
        ({"weight_words": 2}, r"burst_words = 8 does not fit .* weight_words = 2"),
        (
            {"weight_words": 1 << 24, "pes": 4096},
            r"words of 64 bits are .* bytes of memory: use less, 1073741824 at most",
        ),
        ({"stages": 3}, r"unknown field 'stages': the fields are"),
        ({"name": "a b"}, r"name = 'a b' is not a name"),
    ],
)
def test_bad_fields(changes, message):
    for make in (AcceleratorConfig, lambda **fields: AcceleratorConfig.model_validate(fields)):
        with pytest.raises(ConfigError, match=message) as caught:
            make(**changes)
        assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match=message):
        PRESETS["zc706"].replace(**changes)


def test_several_bad_fields_are_named_in_one_line():
    with pytest.raises(
        ConfigError, match=r"^pes = 0 is not .* in 1\.\.4096; word = 'x' is not an integer in 1\.\.512$"
    ):
        AcceleratorConfig(pes=0, word="x")  # type: ignore[arg-type]


def test_copies():
    config = AcceleratorConfig(name="mine", pes=8, map_bytes=(64, 32))
    assert pickle.loads(pickle.dumps(config)) == config
    assert copy.deepcopy(config) == config
    assert config.model_copy(update={"pes": 9}) == config.replace(pes=9) != config
    assert AcceleratorConfig.model_validate_json(config.model_dump_json()) == config


def test_yaml_there_and_back(tmp_path):
    for preset in PRESETS.values():
        assert from_yaml(preset.to_yaml()) == preset
    path = tmp_path / "config.yaml"
    path.write_text("preset: zc706\npes: 128\n")
    assert load(path) == PRESETS["zc706"].replace(name="custom", pes=128)
    assert load("tiny") is PRESETS["tiny"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "is a YAML mapping"),
        ("", "is a YAML mapping"),
        ("1: 2", "is a YAML mapping"),
        ("pes: 3\nname: [", r"not YAML: .*, line 2$"),
        ("pes: 0", r"pes = 0 is not an integer in 1\.\.4096"),
        ("preset: none", "preset = 'none' is not one of zc706"),
        ("preset: zc706\npess: 3", "unknown field 'pess'"),
        ("name: a\npes: 8\n\npes: 9", "'pes' is given twice, in lines 2 and 4: keep one of them"),
        ('preset: tiny\n"preset": tiny', "'preset' is given twice, in lines 1 and 2"),
        ("{1: a, 0x1: b}", "1 is given twice, in lines 1 and 1"),
        ("!!python/object:os.system {}", "not YAML: could not determine a constructor"),
    ],
)
def test_bad_yaml_names_the_file(text, message, tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_config_that_is_no_text(tmp_path):
    (tmp_path / "bad.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"bad\.yaml is not text"):
        load(tmp_path / "bad.yaml")


def test_no_such_config():
    with pytest.raises(ConfigError, match=r"neither a preset \(zc706, pynq_z1, ecp5_85f, tiny\) nor a file"):
        load("zc707")


def test_frozen():
    with pytest.raises(ValueError, match="frozen"):
        PRESETS["tiny"].pes = 3  # type: ignore[misc]


def test_buffers_too_small_for_one_window():
    network = conv((5, 5, 64), 2, kernel=3)
    with pytest.raises(ConfigError, match="slot_words = 8 is too small: a window of conv has 72 words"):
        Simulator(network, machine(slot_words=8))
    message = "weight_words = 71 is too small: a channel of conv has 72 words; use at least 72"
    with pytest.raises(ConfigError, match=message):
        Simulator(network, machine(weight_words=71))
    Simulator(network, machine(weight_words=72)).run(image(network))


def test_the_bank_that_an_error_asks_for_is_enough_for_all_stages():
    network = tiny_network()
    small = machine(weight_words=8)
    with pytest.raises(ConfigError, match=r"weight_words = 8 .*; use at least (\d+)$") as caught:
        Simulator(network, small)
    enough = small.replace(weight_words=int(str(caught.value).split()[-1]))
    Simulator(network, enough).run(np.zeros(network.input.shape, np.uint8))


def test_wrong_images():
    network = conv((5, 5, 8), 2)
    with pytest.raises(InputError, match="expected one uint8 image"):
        simulate(network, image(network)[:4], PRESETS["tiny"])
    with pytest.raises(InputError, match="expected one uint8 image"):
        simulate(network, image(network).astype(float), PRESETS["tiny"])
    with pytest.raises(InputError, match=r"expected uint8 images \(3, 5, 5, 8\), got \(2, 5, 5, 8\)"):
        Simulator(network, PRESETS["tiny"], images=3).run(np.stack([image(network)] * 2))
    for images in (0, 1025):
        with pytest.raises(InputError, match=rf"a batch of {images} images is not in 1\.\.1024"):
            Simulator(network, PRESETS["tiny"], images=images)


def test_machines():
    config = AcceleratorConfig(stations=5, depth=7)
    inorder = config.machine("inorder")
    assert (inorder.lockstep, inorder.stations, inorder.depth, inorder.prune) == (True, 1, 1, True)
    assert config.machine("dense").prune is False
    assert config.machine("o3") is config
    with pytest.raises(ConfigError, match="machine = 'fast'"):
        config.machine("fast")  # type: ignore[arg-type]


def test_a_machine_that_stands_still_says_what_every_unit_waits_for():
    network = conv((1, 1, 64), 2, threshold=60)
    simulator = Simulator(network, machine(weight_words=16, slot_words=1, burst_words=8))
    object.__setattr__(simulator.mapping, "stream_words", 4)
    with pytest.raises(SimulationError) as caught:
        simulator.run(image(network))
    text = str(caught.value)
    for part in ("no progress for 500 cycles", "PE 0:", "loader and scoreboard of group 0", "weights: pass 0"):
        assert part in text
