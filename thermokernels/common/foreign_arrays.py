"""Arrays of other libraries as NumPy arrays: converted without loss of meaning, or refused in one sentence.

None of these libraries is imported: PyTorch, JAX, SciPy's sparse matrices, pandas and the rest are known by what their objects can do.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from thermokernels.common.arrays import Array

# Kept as they are inside a list; anything else that a list holds is converted first.
PLAIN = (int, float, complex, str, bytes, np.generic)


def as_array(value: Any, name: str, wanted: str = "an array of real numbers") -> Array:
    """``value`` as a NumPy array of the dtype that it has; ``np.asarray`` where that keeps the meaning.

    Tensors of PyTorch are taken from their device and their gradient; bfloat16 and its like, which NumPy has no arithmetic for, become
    float64; sparse matrices are filled up with their zeros; of a table with labels the numbers are taken.

    ``wanted`` says in messages what the argument ``name`` has to be.

    Raises
    ------
    ValueError
        Masked entries, rows of different lengths, values inside of a traced or transformed function, tensors without data, or what else
        cannot be read.
    """
    if isinstance(value, list | tuple):
        value = [item if isinstance(item, PLAIN) else as_array(item, name, wanted) for item in value]
    if isinstance(value, np.ma.MaskedArray):
        return _unmasked(value, name)
    try:
        if hasattr(value, "detach") and hasattr(value, "cpu"):
            return _of_tensor(value)
        if hasattr(value, "toarray") and hasattr(value, "tocsr"):
            value = value.toarray()
        elif hasattr(value, "to_numpy"):
            value = value.to_numpy()
        array = np.asarray(value)
    except ValueError:
        raise ValueError(f"{name} must be {wanted}; got rows of different lengths") from None
    except (TypeError, RuntimeError, NotImplementedError, MemoryError) as error:
        raise ValueError(_unreadable(value, name, wanted, error)) from None
    if array.dtype.kind == "V" and array.dtype.type.__module__ == "ml_dtypes":  # bfloat16 and floats of eight bits, as JAX hands them over
        return array.astype(np.float64)
    return array


def labels_of(table: Any) -> tuple[tuple[Any, ...] | None, tuple[Any, ...] | None]:
    """The labels of the rows and columns of a table of pandas or polars, None where they are but counted."""
    found = []
    for axis in ("index", "columns"):
        labels = getattr(table, axis, None) if hasattr(table, "to_numpy") else None
        listed = None if labels is None or callable(labels) else tuple(labels)
        found.append(None if listed is None or listed == tuple(range(len(listed))) else listed)
    return found[0], found[1]


def _unmasked(value: Any, name: str) -> Array:
    hidden = np.ma.getmaskarray(value)
    if hidden.any():
        where = tuple(int(k) for k in np.argwhere(hidden)[0])
        raise ValueError(f"{name} must have all its entries; entry {where} is masked: fill it (x.filled(0.0), say) or take it out")
    return np.asarray(value.data)


def _of_tensor(tensor: Any) -> Array:
    tensor = tensor.detach().cpu()
    if getattr(tensor, "is_quantized", False):
        tensor = tensor.dequantize()
    if "strided" not in str(getattr(tensor, "layout", "strided")):
        tensor = tensor.to_dense()
    if getattr(tensor, "is_floating_point", lambda: False)() and tensor.element_size() < 4:
        tensor = tensor.double()
    if hasattr(tensor, "resolve_neg"):
        tensor = tensor.resolve_conj().resolve_neg()
    return np.asarray(tensor.numpy())


def _unreadable(value: Any, name: str, wanted: str, error: Exception) -> str:
    kind = type(value)
    what = f"{kind.__module__.split('.')[0]}.{kind.__name__}"
    if "Tracer" in {base.__name__ for base in kind.__mro__}:
        return f"{name} must have its numbers; got a traced value of JAX: inside of jit, grad and vmap use thermokernels_bridges.jax"
    if getattr(value, "is_meta", False):
        return f"{name} must have its numbers; got a tensor on the device meta, which has none"
    if hasattr(value, "detach"):
        return f"{name} must have its numbers; got {what}, which has none here: inside of torch.func use thermokernels_bridges.torch"
    reason = str(error).strip().partition("\n")[0]
    return f"{name} must be {wanted}; NumPy cannot read {what}" + (f" ({reason})" if len(reason) < 120 else "")
