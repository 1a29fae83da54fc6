"""Energy and resources: arithmetic on counted events, complete tables, presets that fit their devices."""

import pytest

from o3bnn.accel import PRESETS, energy, resources, simulate
from o3bnn.errors import ConfigError
from tests.accel.machines import conv, image

NETWORK = conv((4, 4, 16), 8, kernel=3, threshold=70)


def test_energy_is_events_times_the_table():
    config = PRESETS["tiny"]
    result = simulate(NETWORK, image(NETWORK), config)
    table = energy.load_table()
    counted = energy.events(result.total, config)
    assert counted["accumulate"] == result.total.issued
    assert counted["edge"] == result.total.edges.evaluated + result.total.wasted
    totals = [energy.estimate(result.total, config, table, bound) for bound in energy.BOUNDS]
    assert totals[0].total <= totals[1].total <= totals[2].total
    for name, value in totals[1].parts.items():
        assert value == counted[name] * table.entries[name].typical


def test_every_entry_names_its_source():
    for entry in energy.load_table().entries.values():
        assert entry.source
        assert entry.basis in ("published", "derived", "parameter")
        assert entry.basis != "parameter" or entry.low < entry.high, "an unknown has a range"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  edge:", "  edges:", "entries are"),
        ("typical: 0.1\n", "typical: 9\n", "not in order"),
        ("typical: 0.1\n", "typical: -1\n", "greater than or equal"),
        ("name:", "{", "YAML"),
        ("typical: 0.1\n", "typical: 0.1\n    typical: 0.2\n", "'typical' is given twice, in lines"),
    ],
)
def test_bad_energy_tables(tmp_path, old, new, message):
    text = (energy.files("o3bnn.accel") / "energy.yaml").read_text()
    assert old in text
    (tmp_path / "table.yaml").write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigError, match=message):
        energy.load_table(tmp_path / "table.yaml")
    with pytest.raises(ConfigError, match="cannot read"):
        energy.load_table(tmp_path / "none.yaml")


@pytest.mark.parametrize("name", ["zc706", "pynq_z1", "ecp5_85f"])
def test_presets_fit_their_devices(name):
    found = resources.estimate(PRESETS[name])
    assert found.fits is True, found
    assert "estimate" in found.basis


def test_memory_blocks():
    assert resources.memory_blocks(64, 512) == 2
    assert resources.memory_blocks(32, 512) == 1
    assert resources.memory_blocks(32, 1024) == 2
    assert resources.memory_blocks(1, 16384) == 1
