"""Many pieces of work at a time: in processes of this machine, or on the machines of a Ray cluster."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from models.errors import DeviceError, OnboardError

T = TypeVar("T")
R = TypeVar("R")


def in_processes(work: Callable[[T], R], tasks: Sequence[T], workers: int) -> Iterator[R]:
    """Yield results as they come, from a pool of processes of this machine that end with this one, however it ends.

    Args:
        work: a function of a module; it, the tasks and the results are sent from process to process.
        tasks: what is to be done.
        workers: processes.
    Raises:
        DeviceError: a process was killed, most likely for want of memory. What `work` raises is raised here.
    """
    before = {process.pid for process in multiprocessing.active_children()}
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_end_with_parent)
    try:
        for future in as_completed([pool.submit(work, task) for task in tasks]):
            yield future.result()
    except BrokenProcessPool as error:
        raise DeviceError(
            f"one of {workers} processes was killed, perhaps for want of memory: start again with fewer of them;"
            " what was finished and kept is not done again"
        ) from error
    finally:
        for process in multiprocessing.active_children():  # where the loop ended early, work is under way
            if process.pid not in before:
                process.terminate()
        pool.shutdown(wait=True, cancel_futures=True)


def on_cluster(work: Callable[[T], R], tasks: Sequence[T], address: str) -> Iterator[R]:
    """Yield results as they come, from the machines of a Ray cluster; each needs this package and the same files.

    Raises:
        DeviceError: no cluster answers, or a machine of it failed. What `work` raises is raised here.
    """
    import ray

    try:
        ray.init(address=address, log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise DeviceError(f"no Ray cluster at {address} ({error}): start one with `ray start --head`") from error
    try:
        remote = ray.remote(num_cpus=1, max_retries=2)(work)
        waiting = [remote.remote(task) for task in tasks]
        while waiting:
            done, waiting = ray.wait(waiting, num_returns=1)
            yield from ray.get(done)
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, OnboardError):
            raise cause from error
        raise DeviceError(
            f"the cluster at {address} lost a piece of work ({error}): start again; what was finished and kept is not"
            " done again"
        ) from error
    finally:
        ray.shutdown()


def _end_with_parent() -> None:
    """Watch the process that started this one, and end when it does, however it does."""
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
