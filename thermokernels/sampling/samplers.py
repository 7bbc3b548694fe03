"""Samples of restricted Boltzmann machines of any size: many independent chains, compiled, the same for every number of threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thermokernels.common import arguments, memory
from thermokernels.common.arrays import Floats
from thermokernels.common.error_state import default_error_state
from thermokernels.common.foreign_arrays import as_array
from thermokernels.common.threads import get_threads
from thermokernels.compiled.simd_chains import LANES, aligned_rows
from thermokernels.model.kernels.registry import KERNELS, as_kernel
from thermokernels.model.model import Model, ModelLike, as_model
from thermokernels.sampling import scans
from thermokernels.sampling.samples import Samples, unpack

# Local fields are float32 in the block scans: beyond this their sums could overflow.
MAX_FIELD = 1e30
# Products of a coupling and a spin in one call of a kernel: some 20 ms, after which progress is told and an interrupt is heard.
PRODUCTS_PER_CALL = 2**29

BLOCK_ORDERS = {"alternating": scans.ALTERNATING, "random-blocks": scans.RANDOM_BLOCKS, "random-order": scans.RANDOM_ORDER}


@default_error_state
def sample(
    W: ModelLike,
    b: ArrayLike | None = None,
    c: ArrayLike | None = None,
    *,
    n_chains: int,
    n_sweeps: int,
    kernel: str = "two-block",
    burn_in: int = 0,
    thin: int = 1,
    seed: int | np.random.SeedSequence | None = None,
    start: ArrayLike | None = None,
    packed: bool = False,
    threads: int | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Samples:
    """Samples of the RBM with E(v, h) = -v'W h - b'v - c'h from independent Gibbs chains; the model may have any size.

    One sweep resamples each spin once on average: N steps of "single-site" (one spin, chosen uniformly), two steps of "two-block"
    (all visible or all hidden spins, with probability 1/2 each), one step of "alternating" (all visible given hidden, then all hidden
    given visible) or of "symmetrised-alternating" (the same in random order). The kernels are those of :func:`gibbs_chain`; those on one
    layer are drawn as the alternating scan that they are seen in, the spins of the other layer beside them.

    Chain k draws from a xoshiro128++ generator of its own, whose state (and start) are words of ``seed.generate_state``: its path is the
    same whatever the number of threads and of chains beside it. Chains are computed in groups of 64 (16 without AVX-512), fewer
    take as long. Block kernels add up the local fields in float32, which rounds them by at most (n + 1) 6e-8 sum_j |W_ij|;
    the single-site kernel uses float64. Flip probabilities are resolved to 2**-32: rarer flips never happen.

    Parameters
    ----------
    W : (n_v, n_h) couplings, or a Model; b : (n_v,) and c : (n_h,) fields, None for zero
    n_chains : number of independent chains
    n_sweeps : sweeps after the burn-in; n_sweeps // thin records are kept, and none is run after the last record
    kernel : "two-block", "alternating", "single-site", "symmetrised-alternating", "alternating-visible" or "alternating-hidden"
    burn_in : sweeps before the first interval, not recorded
    thin : sweeps between records
    seed : int >= 0, SeedSequence, or None for fresh entropy, which ``Samples.seed`` keeps
    start : (N,) or (n_chains, N) spins +1 and -1, visible spins first; None for independent fair coins
    packed : keep eight spins a byte
    threads : threads to use; None for as many as :func:`get_threads` says
    progress : called as ``progress(done, total)``, in sweeps, from the calling thread, every 20 ms or so of work on 64 chains

    Raises
    ------
    ValueError
        Bad arguments.
    ModelTooLargeError
        The samples do not fit into memory; the message says what they would take.

    Examples
    --------
    >>> import thermokernels as tk
    >>> samples = tk.sample([[0.5, -0.2], [0.1, 0.3]], n_chains=1000, n_sweeps=100, burn_in=10, seed=0)
    >>> samples
    Samples(100 records of 1000 chains, 2 visible + 2 hidden spins, two-block)
    >>> samples.visible.shape, samples.visible[-1, 0].tolist()
    ((100, 1000, 2), [-1, 1])
    """
    model = as_model(W, b, c)
    n_visible, n_hidden = model.W.shape
    kernel = as_kernel(kernel).name
    n_chains = arguments.as_count(n_chains, "n_chains")
    n_sweeps = arguments.as_count(n_sweeps, "n_sweeps")
    burn_in = arguments.as_count(burn_in, "burn_in", least=0)
    thin = arguments.as_count(thin, "thin")
    packed = arguments.as_flag(packed, "packed")
    if progress is not None and not callable(progress):
        raise ValueError(f"progress must be None or a function of two integers; got {arguments.in_brief(progress)}")
    n_threads = get_threads() if threads is None else arguments.as_count(threads, "threads")
    if n_sweeps < thin:
        raise ValueError(f"n_sweeps must be at least thin, or nothing is recorded; got n_sweeps={n_sweeps} and thin={thin}")
    if burn_in + n_sweeps >= 2**63:
        raise ValueError(f"burn_in and n_sweeps must add up to less than 2**63 sweeps; got {burn_in} and {n_sweeps}")
    require_moderate(model)
    sequence = arguments.as_seed(seed, optional=True)

    n_spins, n_records, n_bundles = n_visible + n_hidden, n_sweeps // thin, -(-n_chains // LANES)
    # the packed records twice (the chains of whole bundles, and without them), the unpacked ones, and the bundles
    n_bytes = n_records * n_bundles * LANES * (n_spins // 4 + 16 + (0 if packed else n_spins)) + n_bundles * LANES * (8 * n_spins + 64)
    memory.require(
        n_bytes, f"{n_records} records of {n_chains} chains of {n_spins} spins", "use a larger thin, fewer chains or packed=True"
    )

    # Bundles before records: what was asked for is checked before the large arrays are made.
    bundles = _bundles(n_visible, n_hidden, n_chains, sequence, start)
    visible = np.empty((n_records, n_bundles * LANES, -(-n_visible // 32)), np.uint32)
    hidden = np.empty((n_records, n_bundles * LANES, -(-n_hidden // 32)), np.uint32)
    order = KERNELS[kernel].scan
    if order == "random-spins":
        scan = partial(scans._single_site_scans, _flip_model(model))
    else:
        scan = partial(_block_scan, block_model(model), BLOCK_ORDERS[order])
    with ThreadPoolExecutor(n_threads) as pool:
        each_bundle = map if n_threads == 1 else pool.map
        done, total = 0, burn_in + n_records * thin
        sweeps_per_call = max(1, PRODUCTS_PER_CALL // (128 * n_visible * n_hidden))
        while done < total:
            if done < burn_in:
                # Burn-in is a record that is written over. Whole coin words of the kernels at random, so that calls leave no trace.
                sweeps, first, last = min(-(-sweeps_per_call // 16) * 16, burn_in - done), 0, 1
            else:
                sweeps, first = thin, (done - burn_in) // thin
                last = min(n_records, first + max(1, sweeps_per_call // thin))
            run = partial(_run, scan, sweeps, visible[first:last], hidden[first:last])
            list(each_bundle(run, bundles, range(0, n_bundles * LANES, LANES)))
            done += sweeps * (last - first)
            if progress is not None:
                progress(done, total)
    return Samples(
        visible=_finish(visible, n_chains, n_visible, packed),
        hidden=_finish(hidden, n_chains, n_hidden, packed),
        sweeps=burn_in + thin * np.arange(1, n_records + 1),
        seed=sequence,
        kernel=kernel,
        n_visible=n_visible,
        n_hidden=n_hidden,
        packed=packed,
    )


def alternating_bundle(
    model: Model, n_chains: int, number: int, n_sweeps: int, burn_in: int, sequence: np.random.SeedSequence, check: Callable[[], None]
) -> Samples:
    """Bundle ``number`` of the ``n_chains`` chains of :func:`sample` with the alternating kernel, packed, on this thread, same bits.

    ``check`` is called every 20 ms or so, and may raise.
    """
    n_visible, n_hidden = model.W.shape
    bundle, table = _bundles(n_visible, n_hidden, n_chains, sequence, None)[number], block_model(model)
    visible, hidden = (np.empty((n_sweeps, LANES, -(-n // 32)), np.uint32) for n in (n_visible, n_hidden))
    sweeps_per_call = max(1, PRODUCTS_PER_CALL // (128 * n_visible * n_hidden))
    for done in range(0, burn_in, sweeps_per_call):  # a record that is written over
        check()
        scans._block_scans(table, bundle, scans.ALTERNATING, min(sweeps_per_call, burn_in - done), 0, visible[:1], hidden[:1])
    for done in range(0, n_sweeps, sweeps_per_call):
        check()
        rows = slice(done, done + sweeps_per_call)
        scans._block_scans(table, bundle, scans.ALTERNATING, 1, 0, visible[rows], hidden[rows])
    return Samples(
        visible=_finish(visible, LANES, n_visible, True),
        hidden=_finish(hidden, LANES, n_hidden, True),
        sweeps=burn_in + np.arange(1, n_sweeps + 1),
        seed=sequence,
        kernel="alternating",
        n_visible=n_visible,
        n_hidden=n_hidden,
        packed=True,
    )


def _run(
    scan: Callable[..., None], sweeps: int, visible: NDArray[np.uint32], hidden: NDArray[np.uint32], bundle: scans.Bundle, first: int
) -> None:
    scan(bundle, sweeps, first, visible, hidden)


def _block_scan(model: scans.Model, order: int, bundle: scans.Bundle, *rest: Any) -> None:
    scans._block_scans(model, bundle, order, *rest)


def require_moderate(model: Model) -> None:
    """Raise ValueError where a local field could leave the range of float32."""
    with np.errstate(over="ignore"):
        magnitudes = np.abs(model.W)
        largest = max((magnitudes.sum(axis=1) + np.abs(model.b)).max(), (magnitudes.sum(axis=0) + np.abs(model.c)).max())
    if largest > MAX_FIELD:
        raise ValueError(f"W, b and c must give local fields of at most {MAX_FIELD:g} in absolute value; they reach {largest:g}")


def _bundles(n_visible: int, n_hidden: int, n_chains: int, sequence: np.random.SeedSequence, start: ArrayLike | None) -> list[scans.Bundle]:
    """Generators and first spins of all chains; the last bundle is filled up with chains that nobody asked for."""
    n_spins, n_bundles = n_visible + n_hidden, -(-n_chains // LANES)
    words = 4 + -(-n_spins // 32)
    drawn = sequence.generate_state(n_bundles * LANES * words, np.uint32).astype(np.uint32).reshape(-1, words)
    drawn[~drawn[:, :4].any(axis=1), 0] = 1  # the one state that xoshiro never leaves
    spins = np.ones((n_bundles * LANES, n_spins), np.float32)
    if start is None:
        spins[:] = unpack(_to_bytes(drawn[:, 4:], n_spins), n_spins)
    else:
        spins[:n_chains] = _as_spins(start, n_chains, n_spins)
    bundles = []
    for first in range(0, n_bundles * LANES, LANES):
        rows = aligned_rows(np.float32, n_spins)
        rows[:] = spins[first : first + LANES].T
        generators = aligned_rows(np.uint32, 4)
        generators[:] = drawn[first : first + LANES, :4].T
        moving = aligned_rows(np.uint32, 1)
        bundles.append(scans.Bundle(rows[:n_visible], rows[n_visible:], generators, moving))
    return bundles


def _as_spins(start: ArrayLike, n_chains: int, n_spins: int) -> NDArray[np.int8]:
    spins = as_array(start, "start", "an array of spins")
    if spins.shape not in ((n_spins,), (n_chains, n_spins)):
        raise ValueError(f"start must have shape ({n_spins},) or ({n_chains}, {n_spins}), visible spins first; got shape {spins.shape}")
    return arguments.as_spins(spins, "start")


def _padded(matrix: Floats, multiple: int, axis: int) -> Floats:
    """The matrix, or vector, with zeros appended until the axis has a multiple of this length."""
    widths = [(0, -matrix.shape[k] % multiple if k == axis else 0) for k in range(matrix.ndim)]
    return np.ascontiguousarray(np.pad(matrix, widths))


def block_model(model: Model) -> scans.Model:
    arrays = (model.W, model.W.T, model.b, model.c)
    return scans.Model(*(_padded(array, scans.ROWS, 0).astype(np.float32) for array in arrays))


def _flip_model(model: Model) -> scans.FlipModel:
    flips = np.concatenate([_padded(model.W, 8, 1).ravel(), _padded(model.W.T, 8, 1).ravel()])
    return scans.FlipModel(flips, _padded(model.b, 8, 0), _padded(model.c, 8, 0))


def _to_bytes(words: NDArray[np.uint32], n_spins: int) -> NDArray[np.uint8]:
    """Bit i of the 32-bit words of a row as bit i % 8 of byte i // 8."""
    octets = np.ascontiguousarray(words).astype("<u4", copy=False).view(np.uint8)
    return np.ascontiguousarray(octets[..., : -(-n_spins // 8)])


def _finish(words: NDArray[np.uint32], n_chains: int, n_spins: int, packed: bool) -> NDArray[Any]:
    octets = _to_bytes(words[:, :n_chains], n_spins)
    return octets if packed else unpack(octets, n_spins)
