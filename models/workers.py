"""Many pieces of work at a time: in processes of this machine, or on the machines of a Ray cluster."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

from models.errors import DeviceError, LinkError, OnboardError

T = TypeVar("T")
R = TypeVar("R")


def in_processes(
    work: Callable[[T], R], tasks: Iterable[T], workers: int, lost: Callable[[T], R] | None = None
) -> Iterator[R]:
    """Yield results as they come, from a pool of processes of this machine that end with this one, however it ends.

    Args:
        work: a function of a module; it, the tasks and the results are sent from process to process.
        tasks: what is to be done; asked for the next one when a process is about to have nothing to do.
        workers: processes.
        lost: what to yield for a task whose process is killed, most likely for want of memory. What was under way at a
            kill is done again, each task in a process of its own, to learn which of them it is; the others go on.
    Raises:
        DeviceError: a process was killed, and `lost` is not given. What `work` raises is raised here.
    """
    waiting = iter(tasks)
    while True:
        under_way: dict[Future[R], T] = {}
        try:
            yield from _from_pool(work, waiting, workers, under_way)
            return
        except BrokenProcessPool as error:
            if lost is None:
                raise DeviceError(
                    f"one of {workers} processes was killed, perhaps for want of memory: start again with fewer of"
                    " them; what was finished and kept is not done again"
                ) from error
        for future, task in under_way.items():
            yield future.result() if _is_finished(future) else _alone(work, task, lost)


def _from_pool(
    work: Callable[[T], R], waiting: Iterator[T], workers: int, under_way: dict[Future[R], T]
) -> Iterator[R]:
    """Yield results of what is taken from `waiting`, at most one more at a time than there are processes.

    Args:
        work: as of `in_processes`.
        waiting: left with what nobody has begun.
        workers: processes.
        under_way: left with what was begun and not yielded.
    Raises:
        BrokenProcessPool: a process was killed.
    """
    with _pool(workers) as pool:
        while True:
            for task in islice(waiting, workers + 1 - len(under_way)):
                under_way[_submitted(pool, work, task)] = task
            if not under_way:
                return
            done, _ = wait(under_way, return_when=FIRST_COMPLETED)
            future = next(iter(done))
            result = future.result()
            del under_way[future]
            yield result


def _submitted(pool: ProcessPoolExecutor, work: Callable[[T], R], task: T) -> Future[R]:
    """Return the future of a task; a pool that breaks at this very moment breaks in the future as well."""
    try:
        return pool.submit(work, task)
    except BrokenProcessPool as error:
        broken: Future[R] = Future()
        broken.set_exception(error)
        return broken


def _is_finished(future: Future[R]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None


def _alone(work: Callable[[T], R], task: T, lost: Callable[[T], R]) -> R:
    """Return what a task comes to in a process of its own, or what stands for it where that is killed too."""
    try:
        with _pool(1) as pool:
            return pool.submit(work, task).result()
    except BrokenProcessPool:
        return lost(task)


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Give processes that end with the context, whatever they are at, or with this process."""
    before = {process.pid for process in multiprocessing.active_children()}
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_end_with_parent)
    try:
        yield pool
    finally:
        for process in multiprocessing.active_children():  # where the loop ended early, work is under way
            if process.pid not in before:
                process.terminate()
        pool.shutdown(wait=True, cancel_futures=True)


def on_cluster(
    work: Callable[[T], R], tasks: Iterable[T], address: str, lost: Callable[[T], R] | None = None
) -> Iterator[R]:
    """Yield results as they come, from the machines of a Ray cluster; each needs this package and the same files.

    Args:
        work: as of `in_processes`.
        tasks: what is to be done.
        address: of the cluster.
        lost: what to yield for a task whose process is killed three times.
    Raises:
        LinkError: no cluster answers, or Ray is not installed.
        DeviceError: a machine of it failed, and `lost` is not given. What `work` raises is raised here.
    """
    try:
        import ray
    except ModuleNotFoundError as error:
        raise LinkError("no cluster without ray: install it with pip install 'uav-fusion-edge[cluster]'") from error
    try:
        ray.init(address=address, log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise LinkError(f"no Ray cluster at {address} ({error}): start one with `ray start --head`") from error
    try:
        remote = ray.remote(num_cpus=1, max_retries=2)(work)
        under_way = {remote.remote(task): task for task in tasks}
        while under_way:
            (done,), _ = ray.wait(list(under_way), num_returns=1)
            task = under_way.pop(done)
            try:
                yield ray.get(done)
            except ray.exceptions.RayError as error:
                yield _failed(error, task, address, lost)
    finally:
        ray.shutdown()


def _failed(error: Exception, task: T, address: str, lost: Callable[[T], R] | None) -> R:
    """Return what stands for a task that a cluster did not do; raise what it raised, or DeviceError."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, OnboardError):
        raise cause from error
    if lost is not None:
        return lost(task)
    raise DeviceError(
        f"the cluster at {address} lost a piece of work ({error}): start again; what was finished and kept is not"
        " done again"
    ) from error


def _end_with_parent() -> None:
    """Watch the process that started this one, and end when it does, however it does."""
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
