"""Resources of a config on an FPGA: AN ESTIMATE from stated coefficients, until synthesis of the RTL replaces them.

Memories are counted exactly from block shapes; logic is coefficient times size. The coefficients below are guesses of
this project from common FPGA arithmetic (a popcount of B bits with its XNORs takes about 1.6 B six-input LUTs), not
measurements, and `Resources.basis` says so.
"""

from dataclasses import dataclass

from o3bnn.accel.config import AcceleratorConfig

LUT_PER_BIT = 1.6
LUT_PER_OPERAND_BIT = 0.5  # halves of an operand word change places (T18): two bits a LUT
LUT_PER_STATION = 60
LUT_PER_PE = 150
LUT_PER_LOADER_BIT = 3
LUT4_FACTOR = 1.6
SHARP_LUT_PER_WORD = 40
MAX_LUT_RAM_WORDS = 128


@dataclass(frozen=True)
class Device:
    """An FPGA: LUTs of its kind, memory blocks, and the (width, depth) shapes of one block."""

    name: str
    luts: int
    blocks: int
    shapes: tuple[tuple[int, int], ...]
    block_name: str
    lut4: bool
    source: str


_XILINX = ((36, 512), (18, 1024), (9, 2048), (4, 4096), (2, 8192), (1, 16384))
DEVICES = {
    "xc7z045": Device("XC7Z045", 218_600, 1090, _XILINX, "BRAM18", False, "AMD DS190: 218,600 LUTs, 545 BRAM36"),
    "xc7z020": Device("XC7Z020", 53_200, 280, _XILINX, "BRAM18", False, "AMD DS190: 53,200 LUTs, 140 BRAM36"),
    "lfe5u_85f": Device("LFE5U-85F", 83_640, 208, _XILINX, "EBR", True, "Lattice FPGA-DS-02012: 84k LUT4, 208 EBR"),
}


@dataclass(frozen=True)
class Resources:
    """Estimated LUTs and memory blocks (18 kbit), and what the device has; fits is None without a device."""

    luts: int
    blocks: int
    device: Device | None
    basis: str = "estimate: stated coefficients, not synthesis"

    @property
    def fits(self) -> bool | None:
        if self.device is None:
            return None
        return self.luts <= self.device.luts and self.blocks <= self.device.blocks


def memory_blocks(width: int, words: int) -> int:
    """Fewest 18-kbit blocks that hold `words` words of `width` bits, one read a cycle."""
    return min(-(-width // w) * -(-words // depth) for w, depth in _XILINX)


def estimate(config: AcceleratorConfig) -> Resources:
    """Resources of a config, an estimate (see the module)."""
    device = DEVICES.get(config.device)
    in_luts = config.slot_words <= MAX_LUT_RAM_WORDS and not (device and device.lut4)
    pe = (LUT_PER_BIT + LUT_PER_OPERAND_BIT) * config.word + LUT_PER_STATION * config.stations + LUT_PER_PE
    if config.bounds == "sharp":
        pe += SHARP_LUT_PER_WORD * config.bounds_words
    if in_luts:
        pe += -(-config.slot_words // 64) * -(-4 * config.word // 3)
    luts = config.pes * pe + LUT_PER_LOADER_BIT * config.loader_words * config.word
    blocks = config.pes * memory_blocks(config.word, config.weight_words)
    blocks += 0 if in_luts else config.pes * memory_blocks(config.word, config.slot_words)
    blocks += sum(-(-8 * octets // 18_432) for octets in config.map_bytes)
    return Resources(round(luts * (LUT4_FACTOR if device and device.lut4 else 1)), blocks, device)
