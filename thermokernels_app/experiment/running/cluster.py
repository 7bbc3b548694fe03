"""Workers on other machines: the executor of a Dask scheduler (the extra ``distributed``)."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager


@contextmanager
def dask_executor(address: str, timeout: float = 10.0) -> Iterator[Executor]:
    """The workers of the Dask scheduler at an address, such as ``tcp://10.0.0.1:8786``, as an executor.

    Every worker needs the same version of this package; a task that reaches another one is refused. Dask itself gives the tasks of a
    worker that died to the others. For a scheduler with certificates, make a ``distributed.Client`` and pass on its ``get_executor()``.

    Parameters
    ----------
    address : str
    timeout : float
        Seconds within which the scheduler has to answer.

    Raises
    ------
    ValueError
        ``distributed`` is not installed, no scheduler answers, or it has no workers.
    """
    try:
        from distributed import Client
        from distributed.comm.addressing import parse_address
        from distributed.comm.registry import get_backend
    except ImportError:
        raise ValueError("Dask is not installed: pip install '.[distributed]'") from None
    try:
        get_backend(parse_address(address)[0])  # a client for an address of no known kind could not even be closed
        client = Client(address, timeout=timeout, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"no Dask scheduler answers at {address!r}: {error}") from None
    with client:
        if not client.nthreads():
            raise ValueError(f"the Dask scheduler at {address} has no workers; start some with `dask worker {address}`")
        yield client.get_executor(pure=False)
