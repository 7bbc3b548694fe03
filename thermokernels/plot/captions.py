"""The title of every picture and what is seen in it, for the picture itself and for a page around it."""

from __future__ import annotations

CAPTIONS = {
    "disconnectivity": (
        "Disconnectivity graph",
        "Every line is a basin of single-spin flips on {states}: from its lowest energy up to the saddle where it joins a deeper one. "
        "The larger the dot, the more probable the basin below its saddle; the colour is the {colour}. "
        "Numbers are those of the diagnosis' table.",
    ),
    "barriers": (
        "Barriers",
        "Each point is a basin that joins a deeper one: how far the saddle lies above its lowest energy, and its probability below "
        "the saddle. Numbers are those of the diagnosis' table.",
    ),
    "spectrum": (
        "Spectral measure of the gradient",
        "How much of the variance of the gradient observables relaxes at which rate; the slowest modes stand left, and those that "
        "carry less than 1e-8 are left out; a bulk is drawn as its density. Shaded, in diamonds: the modes up to three times as fast "
        "as the slowest, whose weighted harmonic mean is γ_eff.",
    ),
    "autocorrelation": (
        "Autocorrelation of the gradient",
        "ρ(t) of all v_i h_j together, weighted by their variances. A chain that is short against its correlations takes its own mean "
        "for the true one: its estimate falls too early.",
    ),
    "windows": (
        "Q against the window",
        "The squared signal-to-noise ratio of a gradient from one window of samples. Above the grey line at 1 the gradient is louder "
        "than its noise; both straight lines hold for stationary windows that are long against the correlations.",
    ),
    "track": (
        "Q along the training",
        "The squared signal-to-noise ratio of the gradient from {window:g} sweeps of the {kernel} kernel, with its proven bound or its "
        "interval of 95 %. Below the grey line at 1 the noise is louder than the gradient.",
    ),
    "divergences": (
        "Training",
        "The divergence of every code from its teacher; vertical lines are the checkpoints, the dotted line is the limit above which "
        "P4 asks whether a code sits at a stationary point. Steps are linear up to 10, then logarithmic.",
    ),
    "gradient-errors": (
        "The gradient check",
        "Central differences err with h² at large steps and by rounding at small ones; the complex step, left, has no step to choose. "
        "Each line is a direction in the network's parameters; a cross is automatic differentiation.",
    ),
    "qualifying-events": (
        "Crossable multimodality over the grid",
        "N_qual, the merge events of a cell that qualify: both basins probable, a barrier, a crossing that takes not too long, and "
        "seen by the gradient. P2 asks for one in the basis. Hatched: cells without a result.",
    ),
    "q": (
        "Q over the grid",
        "The squared signal-to-noise ratio of the gradient from one window of samples, as its decimal logarithm. Below 0 the noise is "
        "louder than the gradient: where training has converged there is little left to learn. Hatched: cells without a result.",
    ),
    "ranks": (
        "Response along the split",
        "Rank of the network's Jacobian and dimension of the span of its observables, over all checkpoints and codes of a network, on "
        "the number r(2m − r) that W of rank r allows.",
    ),
}


def caption_of(name: str, **facts: object) -> str:
    """The words of a picture, with what they leave open."""
    return CAPTIONS[name][1].format(**facts)
