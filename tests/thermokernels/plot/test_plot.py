"""Pictures show the numbers of the results, stand alone, and can be read on a narrow screen."""

import re
import subprocess
import sys

import numpy as np
import pytest

import thermokernels as tk

pytestmark = pytest.mark.report
pytest.importorskip("matplotlib", reason="needs the extra `report`")

import matplotlib  # noqa: E402

matplotlib.use("agg")

from matplotlib import pyplot  # noqa: E402
from matplotlib.colors import to_hex  # noqa: E402
from matplotlib.text import Annotation, Text  # noqa: E402

from thermokernels.plot import rates, style  # noqa: E402
from thermokernels.plot.correlations import estimated_autocorrelation  # noqa: E402

PIXELS = 500
W = np.array([[1.0, 0.1, 0.0], [0.2, 1.3, -0.1], [0.0, 0.1, 0.9]])
LAW = np.array([0.3, 0.05, 0.05, 0.1, 0.1, 0.05, 0.05, 0.3])


@pytest.fixture(autouse=True)
def closed():
    yield
    pyplot.close("all")


@pytest.fixture(scope="module")
def chain():
    return tk.gibbs_chain(W)


@pytest.fixture(scope="module")
def history():
    data = tk.sample(W, n_chains=60, n_sweeps=3, seed=0).visible.reshape(-1, 3)
    return tk.track({"early": 0.2 * W, "late": W}, data, kernel="single-site")


@pytest.fixture
def pictures(chain, history):
    """Every picture, once."""
    plot = tk.plot
    return {
        "autocorrelation": plot.autocorrelation(chain, 10),
        "barriers": plot.barriers(tk.merge_tree(chain)),
        "counts": plot.counts(np.arange(60.0).reshape(6, 10), [f"m {m}, split 1" for m in range(6)], {"half": "01234", "end": "01234"}),
        "dimensions": plot.dimensions([1, 2], [7, 12], {"rank": [[7], [11, 12]]}),
        "disconnectivity": plot.disconnectivity(chain, "v0h0"),
        "divergences": plot.divergences(np.geomspace(1, 0.01, 20).reshape(10, 2), [4], 0.3),
        "gradient_errors": plot.gradient_errors(
            [{"index": 0, "difference_errors": [1e-4, 1e-6], "complex_error": 1e-15}], [1e-2, 1e-3], {"difference": 1e-5, "complex": 1e-10}
        ),
        "logarithms": plot.logarithms(
            np.geomspace(1e-3, 10, 60).reshape(6, 10), [f"m {m}" for m in range(6)], {"half": "01234", "end": "01234"}
        ),
        "spectrum": plot.spectrum(tk.spectral_measure(chain)),
        "track": plot.track(history),
        "windows": plot.windows(tk.operational_curve(chain, LAW, [1, 10, 100])),
    }


def texts(figure):
    return [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]


def caption_of(ax):
    return " ".join(text.get_text() for text in ax.findobj(Annotation) if text.get_gid() == "caption")


def test_every_picture_stands_alone_and_can_be_read_on_500_pixels(pictures):
    assert pictures.keys() == set(tk.plot.__all__)
    for name, ax in pictures.items():
        figure = ax.get_figure()
        figure.canvas.draw()
        assert ax.get_title(loc="left"), name
        assert caption_of(ax).endswith("."), name
        for text in texts(figure):
            pixels = text.get_fontsize() * PIXELS / (72 * figure.get_figwidth())
            assert pixels >= 9, (name, text.get_text(), pixels)
        box, inches = figure.get_tightbbox(), figure.get_size_inches()
        assert box.x0 >= -0.02, name
        assert box.y0 >= -0.02, name
        assert box.x1 <= inches[0] + 0.02, name
        assert box.y1 <= inches[1] + 0.02, name


def test_axes_of_the_caller_are_drawn_on_and_returned(chain, history):
    _, panels = pyplot.subplots(2, 2, layout="constrained")
    curve = tk.operational_curve(chain, LAW, [1, 10])
    assert tk.plot.windows(curve, ax=panels[0, 0], caption=False) is panels[0, 0]
    assert tk.plot.track(history, ax=panels[0, 1]) is panels[0, 1]
    assert panels[0, 0].get_title(loc="left") == caption_of(panels[0, 0]) == ""
    assert panels[0, 1].get_title(loc="left") == "Q along the training"
    assert matplotlib.rcParams["svg.fonttype"] == matplotlib.rcParamsDefault["svg.fonttype"]


def line(ax, label):
    return next(one for one in ax.lines if one.get_label() == label)


def test_windows_shows_the_curve_and_both_asymptotes(chain):
    curve = tk.operational_curve(chain, LAW, [100, 1, 10], burn_ins=[0, 5], start="uniform")
    ax, order = tk.plot.windows(curve), [1, 2, 0]
    np.testing.assert_array_equal(line(ax, "K |g|² / (2 T_O)").get_ydata(), curve.q_struct[order])
    np.testing.assert_array_equal(line(ax, "K |g|² / V").get_ydata(), curve.q_limit[order])
    np.testing.assert_array_equal(line(ax, "exact, after 5 sweeps of burn-in").get_xdata(), [1, 10, 100])
    np.testing.assert_array_equal(line(ax, "exact, after 5 sweeps of burn-in").get_ydata(), curve.value[order, 1])


def test_autocorrelation_exact_beside_estimated(chain):
    samples = tk.sample(W, n_chains=50, n_sweeps=400, burn_in=50, thin=2, kernel="single-site", seed=0)
    ax = tk.plot.autocorrelation(chain, 20, samples)
    exact = line(ax, "exact")
    np.testing.assert_array_equal(exact.get_ydata(), tk.autocorrelation_function(chain, 20 * 6))
    np.testing.assert_allclose(exact.get_xdata(), np.arange(121) / 6)
    estimated = line(ax, "estimated, 50 chains of 200 records")
    np.testing.assert_array_equal(estimated.get_xdata(), np.arange(0, 21, 2))
    assert np.abs(estimated.get_ydata() - exact.get_ydata()[::12]).max() < 0.1


def test_the_estimate_is_that_of_the_definition(chain):
    samples = tk.sample(W, n_chains=3, n_sweeps=7, kernel="single-site", seed=1)
    lags, found = estimated_autocorrelation(chain, 3, samples)
    sums = np.zeros(4)
    for c in range(3):
        for i in range(3):
            for j in range(3):
                series = samples.visible[:, c, i].astype(float) * samples.hidden[:, c, j]
                series -= series.mean()
                sums += [sum(series[t] * series[t + lag] for t in range(7 - lag)) for lag in range(4)]
    np.testing.assert_allclose(found, sums / sums[0], atol=1e-14)
    assert lags.tolist() == [0, 1, 2, 3]


def test_track_shows_values_and_intervals(history):
    ax = tk.plot.track(history)
    np.testing.assert_array_equal(line(ax, "exact").get_ydata(), [row.value for row in history.rows])
    assert [label.get_text() for label in ax.get_xticklabels()] == ["early", "late"]
    (ends,) = ax.collections
    np.testing.assert_allclose([segment[:, 1] for segment in ends.get_segments()], [row.interval for row in history.rows])


def test_a_checkpoint_that_is_not_trusted_is_hollow(history):
    from dataclasses import replace

    doubted = replace(history, rows=(history.rows[0], replace(history.rows[1], trusted=False, method="estimated", interval=(-1.0, np.inf))))
    marker = line(tk.plot.track(doubted), "estimated, not to be trusted")
    assert (marker.get_markerfacecolor(), marker.get_xdata().tolist()) == ("none", [1])


def test_barriers_and_their_numbers_are_those_of_the_diagnosis(chain):
    crossings = tk.diagnose(W).crossings
    ax = tk.plot.barriers(tk.merge_tree(chain))
    points = sorted((x, y) for one in ax.lines for x, y in zip(one.get_xdata(), one.get_ydata(), strict=True))
    assert points == sorted((crossing.barrier, crossing.mass) for crossing in crossings)
    shown = {text.get_text(): text.xy for text in ax.texts if text.get_text().isdigit()}
    assert shown == {str(k): (one.barrier, one.mass) for k, one in enumerate(crossings, start=1)}


def test_basins_bear_the_numbers_of_the_table(chain):
    crossings = tk.diagnose(W).crossings
    ax = tk.plot.disconnectivity(chain)
    shown = {text.get_text(): text.xy[1] for text in ax.texts if text.get_text().isdigit()}
    assert shown == pytest.approx({str(k): one.saddle_energy - one.barrier for k, one in enumerate(crossings, start=1)})


def test_few_modes_are_stems_with_their_shares(chain):
    measure = tk.spectral_measure(chain)
    ax = tk.plot.spectrum(measure)
    drawn = {label: line(ax, label) for label in ("other modes", "the cluster C*: up to 3 times the slowest")}
    points = np.concatenate([np.column_stack([one.get_xdata(), one.get_ydata()]) for one in drawn.values()])
    shares = measure.weights / measure.weights.sum()
    expected = np.column_stack([1 - (1 - np.minimum(measure.gaps, 1)) ** 6, shares])[shares > rates.VISIBLE_SHARE]
    np.testing.assert_allclose(points[points[:, 0].argsort()], expected[expected[:, 0].argsort()], rtol=1e-12)


@pytest.mark.parametrize("scale", [0.7, 1.7])
def test_a_bulk_is_drawn_as_its_density(scale):
    generator = np.random.default_rng(0)
    measure = tk.spectral_measure(tk.gibbs_chain(scale * generator.normal(size=(4, 4))))
    ax = tk.plot.spectrum(measure)
    (bulk,) = [patch for patch in ax.patches if patch.get_label().startswith("density of the other")]
    values, edges, _ = bulk.get_data()
    widths = np.diff(np.log10(edges)) if ax.get_xscale() == "log" else np.diff(edges)
    of_cluster = line(ax, "the cluster C*: up to 3 times the slowest").get_ydata().sum()
    assert (values * widths).sum() + of_cluster == pytest.approx(1.0, abs=1e-6)
    assert ("per decade" in bulk.get_label()) is (ax.get_xscale() == "log")


def test_counts_write_every_number_and_hatch_what_is_missing():
    ax = tk.plot.counts([[0, 2], [1, np.nan]], ["m 4", "m 6"], {"half": ["0", "1"]})
    assert sorted(text.get_text() for text in ax.texts if text.get_text().isdigit()) == ["0", "1", "2"]
    assert [patch.get_hatch() for patch in ax.patches if patch.get_hatch()] == ["////"]
    shaded = [patch for patch in ax.patches if not patch.get_hatch()]
    assert {to_hex(patch.get_facecolor()) for patch in shaded} == {style.COLOURS[0]}
    assert len(shaded) == 2


@pytest.mark.parametrize(("low", "high"), [(-6.2, 0.3), (-1.0, 1.0), (-0.4, 3.7), (-12, 12)])
def test_the_colour_bar_of_q_has_more_than_two_ticks(low, high):
    ax = tk.plot.logarithms([[10.0**low, 10.0**high]], ["m 4"], {"half": ["0", "1"]})
    figure = ax.get_figure()
    figure.canvas.draw()
    bar = figure.axes[1]
    bottom, top = bar.get_ylim()
    ticks = [tick for tick in bar.get_yticks() if bottom - 1e-9 <= tick <= top + 1e-9]
    assert 3 <= len(ticks) <= 9
    assert 0.0 in ticks
    shown = [text.get_text() for text in ax.texts if re.fullmatch(r"−?\d+\.\d", text.get_text())]
    assert shown == [f"{value:.1f}".replace("-", "−") for value in (low, high)]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda chain: tk.plot.windows(chain), "curve must be an OperationalCurve"),
        (lambda chain: tk.plot.spectrum(chain), "measure must be a SpectralMeasure"),
        (lambda chain: tk.plot.barriers(chain), "tree must be a MergeTree"),
        (lambda chain: tk.plot.barriers(tk.merge_tree(tk.gibbs_chain([[0.5]]))), "tree must have two basins or more"),
        (lambda chain: tk.plot.track([1]), "history must be a Track"),
        (lambda chain: tk.plot.divergences([1.0]), r"curves must have shape \(n_steps \+ 1, n_codes\); got shape \(1,\)"),
        (lambda chain: tk.plot.counts([[1]], ["a"], {"b": "01"}), r"values must have shape \(1, 2\)"),
        (lambda chain: tk.plot.dimensions([1, 2], [7, 12], {"rank": [[7]]}), "rank must have what was found at each of 2 splits"),
        (
            lambda chain: tk.plot.gradient_errors([{"index": 0, "difference_errors": [1.0]}], [1, 2], {}),
            "difference_errors must hold an error for each of 2 steps",
        ),
        (lambda chain: tk.plot.disconnectivity(chain, "v0"), "without fields x and -x are one state"),
        (lambda chain: tk.plot.autocorrelation(chain, 5, "trace"), "samples must be Samples"),
        (lambda chain: tk.plot.autocorrelation(chain, 0), "sweeps must be"),
        (
            lambda chain: tk.plot.autocorrelation(chain, 5, tk.sample(W, n_chains=2, n_sweeps=5)),
            "samples must be of the single-site kernel",
        ),
        (
            lambda chain: tk.plot.autocorrelation(chain, 5, tk.sample([[1.0]], n_chains=2, n_sweeps=5, kernel="single-site")),
            r"samples must be of a model of shape \(3, 3\); they are of \(1, 1\)",
        ),
        (
            lambda chain: tk.plot.autocorrelation(chain, 5, tk.sample(W, n_chains=2, n_sweeps=1, kernel="single-site")),
            "samples must have two records a chain at least",
        ),
        (
            lambda chain: tk.plot.autocorrelation(
                chain, 5, tk.sample(W + 40, n_chains=2, n_sweeps=5, kernel="single-site", seed=0, start=np.ones(6, int))
            ),
            "samples must vary",
        ),
    ],
)
def test_what_cannot_be_drawn_is_one_sentence(chain, call, message):
    with pytest.raises(ValueError, match=message):
        call(chain)


def test_matplotlib_is_imported_when_a_picture_is_drawn(monkeypatch, chain):
    code = "import sys, thermokernels; print('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ModuleNotFoundError, match="a picture needs matplotlib, which is not installed: pip install"):
        tk.plot.barriers(tk.merge_tree(chain))
