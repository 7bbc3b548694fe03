"""What callers hand in: what is converted, what is refused, and in which words."""

import numpy as np
import pytest

import thermokernels as tk
from thermokernels.common import arguments

pytestmark = pytest.mark.small


@pytest.mark.parametrize(
    "given",
    [
        [[1, 2, 3], [4, 5, 6]],
        ((1.0, 2.0, 3.0), (4.0, 5.0, 6.0)),
        np.array([[1, 2, 3], [4, 5, 6]], dtype=np.int8),
        np.array([[1, 2, 3], [4, 5, 6]], dtype=np.uint64),
        np.array([[1, 2, 3], [4, 5, 6]], dtype=np.float16),
        np.array([[1, 2, 3], [4, 5, 6]], dtype=np.longdouble),
        np.array([[1, 2, 3], [4, 5, 6]], dtype=">f8"),
        np.asfortranarray([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]),
        np.arange(1.0, 7.0).repeat(2)[::2].reshape(2, 3),
        np.array([[4.0, 5.0, 6.0], [1.0, 2.0, 3.0]])[::-1],
    ],
)
def test_couplings_become_contiguous_float64(given):
    array = arguments.as_couplings(given)
    np.testing.assert_array_equal(array, [[1, 2, 3], [4, 5, 6]])
    assert array.dtype == np.float64
    assert array.dtype.isnative
    assert array.flags["C_CONTIGUOUS"]
    assert array.flags["ALIGNED"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([[1.0], [2.0, 3.0]], "got rows of different lengths"),
        ([[1j]], "got dtype complex128"),
        ([["x"]], "got dtype <U1"),
        ([[b"x"]], r"got dtype \|S1"),
        ([[True]], "got dtype bool"),
        ([[None]], "got dtype object"),
        ([[10**400]], "got dtype object"),
        ({"W": 1}, "got {.W.: 1}"),
        (np.array([["2020-01-01"]], dtype="M8[D]"), "got dtype datetime64"),
    ],
)
def test_what_is_no_real_array_is_refused(given, message):
    with pytest.raises(ValueError, match=f"^J must be an array of real numbers; {message}"):
        arguments.as_couplings(given, "J")


@pytest.mark.parametrize(("entry", "shown"), [(np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf")])
def test_the_first_entry_that_is_not_finite_is_shown(entry, shown):
    with pytest.raises(ValueError, match=rf"^W must be finite; entry \(1, 0\) is {shown}$"):
        arguments.as_couplings([[0.0, 1.0], [entry, np.nan]])


@pytest.mark.parametrize("shape", [(), (3,), (0,), (0, 2), (2, 0), (1, 1, 1)])
def test_couplings_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"^W must have shape \(n_v, n_h\) with at least one visible and one hidden spin; got shape \("):
        arguments.as_couplings(np.zeros(shape))


def test_fields():
    np.testing.assert_array_equal(arguments.as_field(None, 3, "b"), np.zeros(3))
    np.testing.assert_array_equal(arguments.as_field([1, 2, 3], 3, "b"), [1.0, 2.0, 3.0])
    for given in (1.0, [1.0, 2.0], [[1.0, 2.0, 3.0]], []):
        with pytest.raises(ValueError, match=r"^b must have shape \(3,\); got shape \("):
            arguments.as_field(given, 3, "b")


def test_laws():
    np.testing.assert_array_equal(arguments.as_law([0, 1], 2), [0.0, 1.0])
    arguments.as_law([0.5, 0.5 + 5e-10], 2)
    arguments.as_law(np.full(8, 0.125, dtype=np.float32), 8)
    with pytest.raises(ValueError, match=r"^p_data must sum to one within 1e-09; it sums to 1.00001"):
        arguments.as_law([0.5, 0.50001], 2)
    with pytest.raises(ValueError, match=r"^p_data must sum to one within 1e-09; it sums to 0.0"):
        arguments.as_law([0.0, 0.0], 2)
    with pytest.raises(ValueError, match=r"^p_data must be nonnegative; entry 1 is -1e-18"):
        arguments.as_law([1.0, -1e-18], 2)
    with pytest.raises(ValueError, match=r"^q must have shape \(2,\); got shape \(3,\)"):
        arguments.as_law([1.0, 0.0, 0.0], 2, "q")


def test_state_functions():
    assert arguments.as_state_functions(np.zeros((4, 0)), 4).shape == (4, 0)
    assert arguments.as_state_functions([1, 2, 3, 4], 4).dtype == np.float64
    for shape in ((), (3,), (1, 4), (4, 1, 1)):
        with pytest.raises(ValueError, match=r"^F must have shape \(4,\) or \(4, k\); got shape"):
            arguments.as_state_functions(np.zeros(shape), 4)


def test_state_sets():
    expected = [False, True, False, True]
    for given in ([1, 3], (3, 1, 1), np.array([1, 3], dtype=np.uint8), expected, np.array(expected)):
        mask = arguments.as_state_set(given, 4, "target")
        assert mask.dtype == np.bool_
        np.testing.assert_array_equal(mask, expected)
    np.testing.assert_array_equal(arguments.as_state_set(2, 4, "target"), [False, False, True, False])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([True, False], r"target must be a mask of shape \(4,\); got shape \(2,\)"),
        ([[True, False, True, False]], r"target must be a mask of shape \(4,\); got shape \(1, 4\)"),
        ([0, 4], "target must hold state numbers from 0 to 3; got 0 to 4"),
        ([-1], "target must hold state numbers from 0 to 3; got -1 to -1"),
        ([1.0, 2.0], r"target must be a boolean mask of shape \(4,\) or a list of state numbers; got dtype float64"),
        ([[0, 1]], "target must be a boolean mask"),
        ([[0], [1, 2]], "target must be a boolean mask or a list of state numbers; got rows of different lengths"),
        ("01", "target must be a boolean mask"),
        (None, "target must be a boolean mask"),
        ([False] * 4, "target must hold at least one state and not all of the 4; it holds 0"),
        ([0, 1, 2, 3], "target must hold at least one state and not all of the 4; it holds 4"),
        (np.array([], dtype=int), "target must hold at least one state and not all of the 4; it holds 0"),
    ],
)
def test_bad_state_sets_are_named(given, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        arguments.as_state_set(given, 4, "target")


def test_positive_numbers():
    for given in (2, 2.0, np.float32(2), np.int64(2)):
        number = arguments.as_positive(given, "window", "sweeps")
        assert number == 2.0
        assert type(number) is float
    for given in (0, -1, -0.0, np.nan, np.inf, -np.inf, 10**400):
        with pytest.raises(ValueError, match=r"^window must be a positive, finite number of sweeps; got "):
            arguments.as_positive(given, "window", "sweeps")
    for given in (True, np.True_, "1", None, 1j, [1.0], np.array(1.0)):
        with pytest.raises(ValueError, match=r"^window must be a positive number of sweeps; got "):
            arguments.as_positive(given, "window", "sweeps")


def test_choices():
    assert arguments.as_choice("a", ("a", "b"), "method") == "a"
    for given in ("c", "", None, 1, ["a"], {}):
        with pytest.raises(ValueError, match=r"^method must be one of 'a', 'b'; got "):
            arguments.as_choice(given, ("a", "b"), "method")


def test_seeds():
    sequence = np.random.SeedSequence(3)
    assert arguments.as_seed(sequence) is sequence
    for given in (7, np.int64(7)):
        assert arguments.as_seed(given).entropy == 7
    assert arguments.as_seed(None, optional=True).entropy != arguments.as_seed(None, optional=True).entropy
    for given in (-1, 1.0, True, "7", [7], None):
        with pytest.raises(ValueError, match=r"^seed must be a nonnegative integer or a numpy.random.SeedSequence; got "):
            arguments.as_seed(given)
    with pytest.raises(ValueError, match=r"^seed must be None, a nonnegative integer or a numpy.random.SeedSequence; got -1$"):
        arguments.as_seed(-1, optional=True)


def test_what_is_too_long_ends_in_three_dots():
    assert arguments.shortened("abcdef", 6) == "abcdef"
    assert arguments.shortened("abcdefg", 6) == "abc..."
    assert len(arguments.in_brief("x" * 500)) == 80


def test_errors_say_whose_fault_it_is():
    assert issubclass(tk.ModelTooLargeError, ValueError)
    for error in (tk.NotConvergedError, tk.UnresolvedError, tk.NotReversibleError):
        assert issubclass(error, tk.NumericalError)
        assert not issubclass(error, ValueError)
    assert issubclass(tk.NumericalError, ArithmeticError)


def test_zero_is_a_seed():
    assert arguments.as_seed(0).entropy == 0


@pytest.mark.parametrize("shape", [(1, 3), (3, 1), (1, 1)])
def test_one_sample_and_one_spin_are_samples(shape):
    np.testing.assert_array_equal(arguments.as_samples(np.ones(shape)), np.ones(shape))


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (3,), (1, 1, 1)])
def test_none_of_either_are_not(shape):
    with pytest.raises(ValueError, match=r"samples must have shape \(n, n_v\) with at least one sample of at least one spin; got shape"):
        arguments.as_samples(np.ones(shape))


def test_counts_fit_into_63_bits():
    for value in (1, 10**6, 2**63 - 1):
        assert arguments.as_count(value, "k") == value
    with pytest.raises(ValueError, match="k must be an integer of at least 1; got 0"):
        arguments.as_count(0, "k")
    with pytest.raises(ValueError, match=r"k must be less than 2\*\*63; got 9223372036854775808"):
        arguments.as_count(2**63, "k")
