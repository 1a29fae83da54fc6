"""Threads: any number gives the same results, engines are shared freely, the GIL is released, Ctrl-C works."""

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from o3bnn import Engine
from o3bnn.model import reference
from tests.engine import networks

NETWORK = networks.build(networks.AWKWARD["overlapping windows"])
PICTURES = networks.images(NETWORK, 37)
TRACE = reference.run(NETWORK, PICTURES)


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("pruning", ["on", "off"])
def test_any_number_of_threads_gives_the_same(threads, pruning):
    engine = Engine(NETWORK, threads=threads, pruning=pruning)
    for _ in range(3):
        np.testing.assert_array_equal(engine.sums(PICTURES), TRACE.sums)
        for found, wanted in zip(engine.activations(PICTURES), TRACE.stages, strict=True):
            np.testing.assert_array_equal(found, wanted.bits)
    assert engine.profile(PICTURES, word=5) == Engine(NETWORK, threads=1).profile(PICTURES, word=5)


@pytest.mark.parametrize("classes", [1, 2, 3, 7])
@pytest.mark.parametrize("threads", [2, 3, 5])
def test_threads_share_the_classes_of_an_image(classes, threads, monkeypatch):
    monkeypatch.setattr("o3bnn.engine.engine._SHARED_EDGES", 0)
    network = networks.build(replace(networks.AWKWARD["overlapping windows"], classes=classes))
    picture = networks.images(network, 1)
    np.testing.assert_array_equal(Engine(network, threads=threads).sums(picture), reference.run(network, picture).sums)


def test_the_default_is_every_usable_cpu():
    assert Engine(NETWORK).threads == len(os.sched_getaffinity(0))


@pytest.mark.parametrize("threads", [1, 2])
def test_python_threads_share_an_engine(threads):
    engine = Engine(NETWORK, threads=threads, pruning="on")
    profile = engine.profile(PICTURES)
    start = threading.Barrier(5)

    def work(index):
        start.wait()
        for turn in range(20):
            first = (index * 7 + turn) % len(PICTURES)
            np.testing.assert_array_equal(engine.sums(PICTURES[first:]), TRACE.sums[first:])
            np.testing.assert_array_equal(
                engine.activations(PICTURES[: first + 1])[1], TRACE.stages[1].bits[: first + 1]
            )
        assert engine.profile(PICTURES) == profile

    with ThreadPoolExecutor(5) as pool:
        list(pool.map(work, range(5)))


def test_python_threads_share_an_engine_whose_threads_share_an_image(monkeypatch):
    monkeypatch.setattr("o3bnn.engine.engine._SHARED_EDGES", 0)
    engine = Engine(NETWORK, threads=3)
    start = threading.Barrier(4)

    def work(index):
        start.wait()
        for turn in range(100):
            image = (index * 11 + turn) % len(PICTURES)
            np.testing.assert_array_equal(engine.sums(PICTURES[image : image + 1])[0], TRACE.sums[image])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))


@pytest.mark.parametrize("call", ["run", "activations", "profile"])
def test_the_gil_is_released(call):
    """With an endless switch interval, this thread runs during the other one's call only if that gives the GIL up."""
    engine = Engine(NETWORK, threads=1)
    pictures = np.repeat(PICTURES, 40, axis=0)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    try:
        assert any(ran_beside(lambda: getattr(engine, call)(pictures)) for _ in range(50))
    finally:
        sys.setswitchinterval(interval)


def ran_beside(call):
    """Whether this thread got to run between the start and the end of `call` in another one.

    It cannot have where `call` holds the GIL. Where `call` releases it, it may still be late: the caller tries again.
    """
    entered = threading.Lock()
    entered.acquire()
    done = []

    def work():
        entered.release()
        call()
        done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    entered.acquire()
    beside = not done
    thread.join()
    return beside


def test_the_measure_of_the_gil_test_can_fail():
    """A call that holds the GIL throughout is never seen running."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    try:
        assert not any(ran_beside(lambda: sum(range(100_000))) for _ in range(10))
    finally:
        sys.setswitchinterval(interval)


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("call", ["run", "profile"])
def test_a_signal_interrupts_a_long_call(call):
    """Some minutes of work, one image seen many times; the handler's exception ends it, and the engine still works."""

    def interrupt(number, frame):
        raise Interrupted

    engine = Engine(NETWORK, threads=2)
    many = np.broadcast_to(PICTURES[:1], (10_000_000, *NETWORK.input.shape))
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(Interrupted):
            getattr(engine, call)(many)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    np.testing.assert_array_equal(engine.sums(PICTURES), TRACE.sums)


FORK = """
import os, warnings
import numpy as np
from o3bnn import Engine
from tests.engine import networks
warnings.simplefilter("ignore", DeprecationWarning)
network = networks.build(networks.AWKWARD["overlapping windows"])
pictures = networks.images(network, 37)
engine = Engine(network, threads=3)
expected = engine.sums(pictures)
child = os.fork()
same = bool((engine.sums(pictures) == expected).all())
del engine
if child == 0:
    os._exit(0 if same else 3)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0 and same
"""


def test_an_engine_survives_a_fork():
    """The child has none of the parent's threads: it starts its own, and ends without waiting for the old ones."""
    subprocess.run([sys.executable, "-c", FORK], check=True, timeout=60)
