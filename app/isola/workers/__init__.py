"""Code that runs beside requests: see docs/workers.md."""

from isola.workers.engine import Engine, Step
from isola.workers.worker import Inside, Worker

__all__ = ["Engine", "Inside", "Step", "Worker"]
