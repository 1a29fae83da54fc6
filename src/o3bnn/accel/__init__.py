"""The out-of-order accelerator: configuration, mapping, cycle-by-cycle simulation, energy and resources."""

from o3bnn.accel.config import PRESETS, AcceleratorConfig, Machine
from o3bnn.accel.results import SimulationResult, StageResult
from o3bnn.accel.simulator import Simulator, TraceWindow, calibrate, simulate

__all__ = [
    "PRESETS",
    "AcceleratorConfig",
    "Machine",
    "SimulationResult",
    "Simulator",
    "StageResult",
    "TraceWindow",
    "calibrate",
    "simulate",
]
