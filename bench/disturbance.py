"""Whether other processes held the CPUs while something was measured."""

from pathlib import Path

TASKS = Path("/proc/self/task")


def waited() -> float:
    """Seconds that the threads of this process have been ready to run without a CPU, all together; 0 where the system
    does not tell (Linux does, in `schedstat`).
    """
    total = 0
    for task in TASKS.iterdir() if TASKS.exists() else ():
        try:
            total += int((task / "schedstat").read_text().split()[1])
        except (OSError, IndexError):  # the thread has just ended, or the kernel keeps no such figures
            continue
    return total * 1e-9
