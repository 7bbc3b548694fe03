"""One BLAS thread a call: how a sum is cut then depends on the shapes of a product alone, and threads of this package share the cores."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

_lock = threading.Lock()
_inside = 0
_limit = ExitStack()


@cache
def _controller() -> Any:
    # take a while: not at import. SciPy's BLAS is another library than NumPy's, and a controller knows none that is loaded later
    import scipy.linalg  # noqa: F401
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


@contextmanager
def one_thread() -> Iterator[None]:
    """One BLAS thread for every call of this process until the last of those inside has left."""
    global _inside
    with _lock:
        _inside += 1
        if _inside == 1:
            _limit.enter_context(_controller().limit(limits=1, user_api="blas"))
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _limit.close()
