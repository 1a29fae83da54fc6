"""Runs networks on the CPU, natively and exactly, counts the edges that pruning saves, and finds the fastest way."""

from o3bnn.engine.engine import Engine
from o3bnn.engine.plan import StagePlan
from o3bnn.engine.planner import plan_engine
from o3bnn.engine.saved import EnginePlan, load_plan, save_plan

__all__ = ["Engine", "EnginePlan", "StagePlan", "load_plan", "plan_engine", "save_plan"]
