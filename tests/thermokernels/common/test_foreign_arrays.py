"""Arrays of other libraries: the numbers that they hold, or one sentence that says why they hold none."""

import numpy as np
import pytest
import scipy.sparse

import thermokernels as tk
from thermokernels.common.arguments import as_couplings

W = np.array([[0.5, -0.25], [0.0, 1.0], [2.0, 0.125]])  # exact in bfloat16


class Table:
    """What pandas and polars have in common."""

    columns, index = ["h0", "h1"], ["v0", "v1", "v2"]

    def to_numpy(self):
        return W.copy()


class Unreadable:
    def __array__(self, dtype=None, copy=None):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`.")


@pytest.mark.parametrize(
    "given",
    [
        scipy.sparse.csr_matrix(W),
        scipy.sparse.coo_array(W),
        np.asmatrix(W),
        np.ma.masked_array(W, np.zeros_like(W, dtype=bool)),
        [np.ma.masked_array(row) for row in W],
        Table(),
        W.astype(">f4"),
        W.astype(np.float16),
        memoryview(W),
    ],
)
def test_what_holds_numbers_is_converted(given):
    array = as_couplings(given)
    np.testing.assert_array_equal(array, W)
    assert array.dtype == np.float64
    assert type(array) is np.ndarray


def test_tensors_of_pytorch():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install '.[torch]'")
    tensor = torch.tensor(W)
    for given in (
        torch.nn.Parameter(tensor),
        torch.nn.Parameter(tensor) * 1.0,
        tensor.to(torch.bfloat16),
        tensor.to_sparse(),
        (-tensor)._neg_view(),
        tensor.T.contiguous().T,
        list(torch.nn.Parameter(tensor)),
    ):
        np.testing.assert_array_equal(as_couplings(given), W)
    with pytest.raises(ValueError, match="J must have its numbers; got a tensor on the device meta, which has none"):
        as_couplings(tensor.to("meta"), "J")
    with pytest.raises(ValueError, match=r"W must have its numbers; .* inside of torch.func use thermokernels_bridges.torch"):
        torch.func.grad(lambda weights: tk.kl_divergence(np.full(8, 0.125), weights))(tensor)
    with pytest.raises(ValueError, match="W must be an array of real numbers; got dtype complex128"):
        as_couplings((tensor * 1j).conj())


@pytest.mark.jax
def test_arrays_of_jax():
    import jax
    import jax.numpy as jnp

    for dtype in (jnp.float32, jnp.bfloat16, jnp.float16):
        np.testing.assert_array_equal(as_couplings(jnp.asarray(W, dtype)), W)
    with pytest.raises(ValueError, match="W must have its numbers; got a traced value of JAX: inside of jit, grad and vmap use thermoker"):
        jax.jit(lambda weights: tk.kl_divergence(np.full(8, 0.125), weights))(W)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.ma.masked_array(W, W > 1), r"J must have all its entries; entry \(2, 0\) is masked: fill it"),
        ([[1.0, np.ma.masked]], r"J must have all its entries; entry \(\) is masked"),
        ([np.ma.masked_array([1.0, 2.0], [False, True])], r"J must have all its entries; entry \(1,\) is masked"),
        (Unreadable(), r"J must be an array of real numbers; NumPy cannot read \S+Unreadable \(Implicit conversion .* use `.get\(\)`.\)"),
        (scipy.sparse.csr_array(W * 1j), "J must be an array of real numbers; got dtype complex128"),
        (W.astype(np.longdouble) * np.longdouble(10) ** 400 if np.finfo(np.longdouble).maxexp > 1024 else W * np.inf, "J must be finite"),
    ],
)
def test_what_holds_none_is_named(given, message):
    with pytest.raises(ValueError, match=message):
        as_couplings(given, "J")
