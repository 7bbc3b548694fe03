"""How much memory a computation takes at its peak, in bytes, known from the numbers of spins alone, before anything is allocated.

``full`` is whether states x and -x are apart: with fields they are, without they usually are one state of the quotient.

Counted are arrays over the states, 8 bytes a state each. What Python and the kernels take (about 0.25 GiB) comes on top.
"""

from __future__ import annotations

from thermokernels.common import memory, threads

# Observables are solved for in chunks of this many bytes, small enough that much of one is in the cache when it is looked at again and that
# its pages are not given back to the system and asked for anew, or of so many rows where the rows are long.
CHUNK_BYTES = 2**24
CHUNK_ROWS = 8

# Sums over observables are made in blocks of so many numbers of right-hand sides, but of no fewer rows than these: a worker returns sums
# for them that are as long as two rows, and fewer solves for as many bytes leave the calling process no time for many workers.
BLOCK_NUMBERS = 2**20
LEAST_BLOCK = 4

# From how many states to how many the solves of many observables have a second level.
LEVELLED_STATES = 2**17, 2**23

# What asks for no more than this is not worth the time to find out how much there is.
SMALL = 2**22

# Of every observable: right-hand side and solution; of a block kernel its residual, too.
ARRAYS_OF_A_ROW = 2


def n_states(n_visible: int, n_hidden: int, full: bool) -> int:
    """States of the full chain, or of that on pairs {x, -x}."""
    return 1 << (n_visible + n_hidden - (not full))


def chain(n_visible: int, n_hidden: int, full: bool, layer: str | None = None) -> int:
    """A chain while it is made: energy, law, its root and escape, the temporaries of exp, and the four tables of each block.

    On one layer it takes the matrix that couples the two, on pairs a quarter of it.
    """
    hidden = 1 << (n_hidden - (not full))
    tables = 4 * (n_visible * hidden + (n_hidden << n_visible))
    if layer is None:
        return 8 * (6 * n_states(n_visible, n_hidden, full) + tables)
    return 8 * ((1 << (n_visible + n_hidden - 2 * (not full))) + 6 * (1 << max(n_visible, n_hidden)) + tables)


def variance_time(n_visible: int, n_hidden: int, full: bool, single_flips: bool = True, gradient: bool = False, rows: int = 1) -> int:
    """T_O by conjugate gradients with ``rows`` observables in memory at a time, the chain included.

    Of length n_states there are the chain's four arrays (two-block: four more of conditional laws), the solver's three tables and those in
    float32, which are one more, three and three quarters a thread (plain conjugate gradients: ten), two arrays a row, and for the
    gradient two sums and two of one block, with a vector of eight for every visible spin and row. Where the solver has a second level, that
    takes two, and fourteen while it is made, when none of the rows is there yet.
    """
    states = n_states(n_visible, n_hidden, full)
    bipartite = single_flips and n_visible >= 4 and (full or (n_visible + n_hidden) % 2 == 0)
    solver = 4 + 3.75 * min(rows, threads.get_threads()) if bipartite else 10 + 4 * (not single_flips)
    levelled = bipartite and LEVELLED_STATES[0] <= states <= LEVELLED_STATES[1]
    arrays = 4 + solver + (ARRAYS_OF_A_ROW + (not single_flips)) * rows + (4 + 16 * n_visible / (1 << n_visible) if gradient else 0)
    arrays = max(arrays + 2, 4 + 5 + 14) if levelled else arrays
    return max(chain(n_visible, n_hidden, full), int(8 * arrays) * states)  # in integers: a float overflows at a thousand spins


def diagnosis(n_visible: int, n_hidden: int, full: bool) -> int:
    """A diagnosis: right-hand sides and solutions of all observables, and what is at work beside them.

    That is T_O with a chunk of observables and a block of them on its way to the others, or, with x and -x one state, the solve on the
    chain where they are two, for the magnetisation, with its functions. An eighth is for what else there is for a moment.
    """
    states, n_rows = n_states(n_visible, n_hidden, full), n_visible * n_hidden
    block = 8 * ARRAYS_OF_A_ROW * min(n_rows, block_rows(states)) * states
    solves = variance_time(n_visible, n_hidden, full, rows=chunk_rows(n_rows, states)) + block
    other = chain(n_visible, n_hidden, full) + variance_time(n_visible, n_hidden, True, rows=3)
    return (8 * ARRAYS_OF_A_ROW * n_rows * states + (solves if full else max(solves, other))) * 9 // 8


def landscape(n_visible: int, n_hidden: int, full: bool) -> int:
    """The merge tree or the spectral gap of a model, the chain included: 24 arrays over the states at the most."""
    return 8 * 24 * n_states(n_visible, n_hidden, full)


def block_rows(states: int) -> int:
    """How many observables a block of sums holds. Every bit of a sum depends on it, and it on nothing but the size of the model."""
    return max(BLOCK_NUMBERS // states, LEAST_BLOCK)


def chunk_rows(n_rows: int, states: int) -> int:
    """How many observables to solve for together where there is memory enough."""
    used = threads.get_threads()
    return min(n_rows, max(CHUNK_BYTES // (8 * ARRAYS_OF_A_ROW * states), 1 if used == 1 else CHUNK_ROWS, used))


def rows_at_once(n_rows: int, states: int) -> int:
    """How many observables to solve for together: a matter of memory and of threads, never of the result."""
    row, rows = 8 * ARRAYS_OF_A_ROW * states, chunk_rows(n_rows, states)
    return rows if rows * row <= SMALL else max(1, min(rows, memory.available() // (4 * row)))


def require_variance_time(n_visible: int, n_hidden: int, full: bool, single_flips: bool = True, gradient: bool = False) -> int:
    """:func:`variance_time` with one observable at a time; where that does not fit, ModelTooLargeError with what it would take."""
    n_bytes = variance_time(n_visible, n_hidden, full, single_flips, gradient)
    if n_bytes <= SMALL:
        return n_bytes
    states = f"{n_visible + n_hidden} spins (2**{n_visible + n_hidden - (not full)} states)"
    memory.require(
        n_bytes,
        f"T_O{' and its gradient' if gradient else ''} of {n_visible * n_hidden} observables of {states}",
        "use fewer spins: each one less halves it; samples can be drawn at any size",
    )
    return n_bytes


def require_solves(n_visible: int, n_hidden: int, full: bool, single_flips: bool = True, gradient: bool = False) -> None:
    """The same for a chain that exists already: only what comes on top of it is asked for."""
    states = n_states(n_visible, n_hidden, full)
    n_bytes = variance_time(n_visible, n_hidden, full, single_flips, gradient) - 24 * states
    if n_bytes <= SMALL:
        return
    what = f"T_O{' and its gradient' if gradient else ''} of {n_visible * n_hidden} observables on {states} states"
    memory.require(n_bytes, what, "use fewer spins: each one less halves it; samples can be drawn at any size")
