"""A diagnosis in words: its plain sentences, its rows, one line, and the HTML table of notebooks."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from thermokernels.common import memory, thresholds
from thermokernels.common.digits import certified
from thermokernels.common.results import html_table
from thermokernels.diagnosis.result import Findings, Number
from thermokernels.model.kernels.registry import KERNELS

Row = tuple[str, ...]

CONVENTION = "tau = 1 + 2 sum_(t > 0) rho(t) over steps, the convention of emcee and ArviZ; in sweeps it is divided by N"
HEADER: Row = ("quantity", "value", "unit", "in sweeps", "how exact")
CROSSINGS_HEADER: Row = (
    "basin", "pi(basin)", "pi(deeper)", "barrier", "out (sweeps)", "back (sweeps)", "relevance", "crossable", "seen",
)  # fmt: skip

# Correlations over more sweeps than this are called slow; a window has to be this many relaxation times long to be called long.
LONG = 10.0


def short(value: float, error: float | None = None) -> str:
    """Three significant digits, or as many as are certain."""
    return certified(value, error, 3)


def states(diagnosis: Findings) -> str:
    """What a state is, and how many there are."""
    return f"{diagnosis.n_states} {'pairs {x, -x}' if diagnosis.quotient else 'states'}"


def model(n_visible: int, n_hidden: int, has_fields: bool, n_bytes: int, kernel: str = "single-site") -> str:
    """The first line: what is about to be computed, and what it takes."""
    n_spins = n_visible + n_hidden
    sweep = f"a sweep is {n_spins} steps" if KERNELS[kernel].single_flips else f"{kernel} kernel, a step is a sweep"
    what = f"2**{n_spins} states" if has_fields else f"2**{n_spins - 1} pairs {{x, -x}}"
    return f"{n_visible} visible + {n_hidden} hidden spins: {what}, about {memory.readable(n_bytes)} of memory; {sweep}"


def one_line(diagnosis: Findings) -> str:
    """The repr."""
    crossable, n_basins = sum(crossing.crossable is True for crossing in diagnosis.crossings), len(diagnosis.crossings)
    basins = f"{crossable} of {n_basins} basins crossable" if KERNELS[diagnosis.kernel].single_flips else f"{n_basins} more basins"
    q = f"Q {_value(diagnosis.q)} at {diagnosis.window:g} sweeps" if diagnosis.has_data else "Q needs a data law"
    return (
        f"Diagnosis({diagnosis.n_visible} + {diagnosis.n_hidden} spins, {states(diagnosis)}: "
        f"relevant gap {_value(diagnosis.relevant_gap)} per step, T_O {_sweeps(diagnosis.t_obs, diagnosis.steps_per_sweep)} sweeps, {q}, "
        f"{basins})"
    )


def rows(diagnosis: Findings) -> list[Row]:
    """One row a quantity: name, value, unit, the same in sweeps (a relaxation time for a gap), how exact."""
    d = diagnosis
    slowest = (
        "of the slowest observable" if d.slowest_observable is None else "of v{} h{}, the slowest observable".format(*d.slowest_observable)
    )
    chain = " (on the full chain: it is odd)" if d.quotient else ""
    named: list[tuple[str, Number]] = [("gap of the sampler" + (", x and -x apart" if d.quotient else ""), d.gap)]
    if d.quotient:
        named.append(("gap on pairs {x, -x}", d.gap_of_pairs))
    named += [
        ("  it is at least", d.gap_bound),
        ("relevant gap, seen by the gradient", d.relevant_gap),
        ("gamma_eff, of its cluster", d.gamma_eff),
        ("tau of the energy", d.tau_energy),
        (f"tau {slowest}", d.tau_observable),
        ("tau of all v_i h_j, weighted", d.tau_gradient),
        (f"tau of the magnetisation{chain}", d.tau_magnetisation),
        ("T_O", d.t_obs),
        ("asymptotic variance V = 2 T_O - sum Var", d.asymptotic_variance),
        ("signal |g|^2", d.signal),
        (f"Q at {d.window:g} sweeps", d.q),
        ("  in the limit of long windows, K |g|^2 / V", d.q_limit),
        ("  exact for this window", d.q_operational),
        ("window for Q = 1", d.window_for_unit_q),
    ]
    return [(name, _value(number), number.unit, _sweeps(number, d.steps_per_sweep), certainty(number)) for name, number in named]


def crossing_rows(diagnosis: Findings) -> list[Row]:
    """One row a basin, by falling mass."""
    return [
        (
            str(number),
            short(crossing.mass),
            short(crossing.deeper_mass),
            short(crossing.barrier, crossing.barrier_error),
            _sweeps(crossing.out, diagnosis.steps_per_sweep),
            _sweeps(crossing.back, diagnosis.steps_per_sweep),
            _value(crossing.relevance),
            _yes(crossing.crossable),
            _yes(crossing.seen),
        )
        for number, crossing in enumerate(diagnosis.crossings, start=1)
    ]


def crossing_notes(diagnosis: Findings) -> list[str]:
    """What the table of basins needs to be read."""
    d = diagnosis
    if d.landscape_reason is not None:
        return [f"landscape {d.landscape_reason}"]
    notes = [f"local minima: {d.n_minima}, saddles that join three basins or more: {d.n_multiway_saddles}"]
    if d.n_crossings_left_out:
        notes.append(f"{d.n_crossings_left_out} more basins, each with less probability than these, are left out")
    unresolved = {number.certainty for crossing in d.crossings for number in (crossing.out, crossing.back) if number.value is None}
    notes += sorted(unresolved)
    errors = [number.error / number.value for c in d.crossings for number in (c.out, c.back) if number.value and number.error is not None]
    if d.crossings:
        notes.append(
            f"crossable: both passages within {d.budget:g} sweeps; seen: relevance at least {thresholds.RELEVANCE:g}; "
            f"masses, barriers and relevance are exact to rounding (barriers to {d.crossings[0].barrier_error:.1g})"
            + (f", passages to a relative {max(errors):.1g} (proven)" if errors else "")
        )
    return notes


def sentences(diagnosis: Findings) -> tuple[str, ...]:
    """What matters, the answer first."""
    return (*_answer(diagnosis), *_modes(diagnosis), *_basins(diagnosis), *_limits(diagnosis))


def _answer(d: Findings) -> Iterator[str]:
    q, needed, tau = d.q.value, d.window_for_unit_q.value, d.tau_gradient.value
    if not d.has_data:
        yield "Whether it can be trained needs a data law, since Q does; what the sampler does with it follows."
        return
    if q is None:
        yield f"Whether it can be trained is {d.q.certainty}."
        return
    if needed is None:
        yield "There is nothing left to learn: the model has the correlations v_i h_j of the data, up to rounding."
        return
    if q >= 1:
        yield (
            f"Yes, it can be trained: a window of {d.window:g} sweeps is long enough for the gradient, {_value(d.q)} times as long as "
            f"Q = 1 needs ({_in_sweeps(d.window_for_unit_q, d)} sweeps)."
        )
    else:
        yield (
            f"No, not with this window: the noise is louder than the gradient (Q = {_value(d.q)}). {d.window:g} sweeps are too short by a "
            f"factor of {_derived(1 / q, d.q)}: {_in_sweeps(d.window_for_unit_q, d)} sweeps are needed."
        )
        if tau is not None:
            independent = q * (tau + 1) / d.steps_per_sweep
            if independent >= 1:
                yield (
                    f"What stops it is the sampler: its samples stay correlated for {_in_sweeps(d.tau_gradient, d)} sweeps, and an "
                    f"independent one at every sweep would give Q = {_derived(independent, d.q, d.tau_gradient)}."
                )
            else:
                alone = _derived(independent, d.q, d.tau_gradient)
                yield f"What stops it is the signal: even an independent sample at every sweep would give Q = {alone} only."
    gap, exact = d.relevant_gap.value, d.q_operational.value
    if gap is not None and exact is not None and d.window * d.steps_per_sweep * gap < LONG:
        yield (
            f"The window is not long against the slowest mode that the gradient sees ({_in_sweeps(d.relevant_gap, d)} sweeps), "
            f"which Q assumes; the exact value for this window is {_value(d.q_operational)}."
        )


def _modes(d: Findings) -> Iterator[str]:
    gap, pairs, relevant = d.gap.value, d.gap_of_pairs.value, d.relevant_gap.value
    if gap is not None and relevant is not None and gap < 0.5 * relevant:
        odd = " (it tells x from -x)" if d.quotient and (pairs is None or gap < 0.999 * pairs) else ""
        yield (
            f"The slowest mode{odd} is invisible to the gradient: it relaxes in {_in_sweeps(d.gap, d)} sweeps, the slowest one that "
            f"the gradient sees in {_in_sweeps(d.relevant_gap, d)}."
        )
    magnetisation, observable, energy = d.tau_magnetisation.value, d.tau_observable.value, d.tau_energy.value
    if magnetisation is None or observable is None:
        return
    if magnetisation > 3 * observable:
        yield (
            f"Do not judge by the magnetisation: it stays correlated for {_in_sweeps(d.tau_magnetisation, d)} sweeps, and no "
            f"observable of the gradient for more than {_in_sweeps(d.tau_observable, d)}."
        )
    if energy is not None and observable > 3 * max(magnetisation, energy):
        longer = d.tau_magnetisation if magnetisation > energy else d.tau_energy
        yield (
            f"Do not judge by energy and magnetisation: the slowest observable of the gradient stays correlated for "
            f"{_in_sweeps(d.tau_observable, d)} sweeps, these for no more than {_sweeps(longer, d.steps_per_sweep)}."
        )


def _basins(d: Findings) -> Iterator[str]:
    if d.n_minima is None:
        return
    if d.n_minima == 1:
        yield "The energy has one basin only" + (", up to x and -x" if d.quotient else "") + ": there is no barrier to cross."
        return
    large = [crossing for crossing in d.crossings if min(crossing.mass, crossing.deeper_mass) >= thresholds.MASS]
    if not large:
        times = [crossing.out for crossing in d.crossings if crossing.out.value is not None]
        longest = max(times, key=lambda out: out.value or 0.0, default=None)
        leave = f"; a run that starts in one takes up to {_sweeps(longest, d.steps_per_sweep)} sweeps to leave it" if longest else ""
        yield f"No second basin holds {thresholds.MASS:g} of the probability{leave}."
        return
    if not KERNELS[d.kernel].single_flips:  # passages are those of single spins
        n_seen = sum(crossing.seen is True for crossing in large)
        yield f"{len(large)} more basins hold at least {thresholds.MASS:g} of the probability, of which the gradient sees {n_seen}."
        return
    crossable = [crossing for crossing in large if crossing.crossable is True]
    yield (
        f"{len(crossable)} of {len(large)} basins with at least {thresholds.MASS:g} of the probability can be crossed both ways within "
        f"{d.budget:g} sweeps; the gradient sees {sum(crossing.seen is True for crossing in crossable)} of these."
    )
    for crossing in large:  # the most probable of those that cannot
        if crossing.crossable is True:
            continue
        hold = f"Two basins hold {short(crossing.mass + crossing.deeper_mass)} of the probability"
        if crossing.crossable is None:
            yield f"{hold}; how long they take to cross is not resolved."
        else:
            seen = {True: ", and the gradient sees it", False: ", but the gradient hardly sees it", None: ""}[crossing.seen]
            out, back = _sweeps(crossing.out, d.steps_per_sweep), _sweeps(crossing.back, d.steps_per_sweep)
            yield f"{hold}; to cross takes {out} sweeps one way and {back} back, more than the budget of {d.budget:g}{seen}."
        return


def _limits(d: Findings) -> Iterator[str]:
    names = {
        "the gap": d.gap, "the relevant gap": d.relevant_gap, "the autocorrelation time of the energy": d.tau_energy,
        "that of the observables": d.tau_observable, "that of the magnetisation": d.tau_magnetisation, "T_O": d.t_obs,
    }  # fmt: skip
    missing = [name for name, number in names.items() if number.certainty.startswith("not resolved")]
    constant = [name for name, number in names.items() if number.certainty.startswith("not defined: ") and "under pi" in number.certainty]
    if constant:
        yield f"Constant under pi, to float64, so that nothing is correlated: {', '.join(constant)}."
    if missing:
        yield f"Not resolved in float64: {', '.join(missing)}. The chain is very slow; smaller couplings (a higher temperature) help."
    yield from d.misreadings
    if d.has_fields:
        yield "T_O, signal and Q are those of W; the gradients of the fields b and c are not in them."


def html(diagnosis: Findings) -> str:
    """The same screen as tables for notebooks."""
    d = diagnosis
    parts = [f"<p>{escape(model(d.n_visible, d.n_hidden, d.has_fields, d.n_bytes, d.kernel))}</p>"]
    parts.append("<ul>" + "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences(d)) + "</ul>")
    parts.append(html_table(HEADER, rows(d)) + f"<p>{escape(CONVENTION)}</p>")
    if d.crossings:
        parts.append(html_table(CROSSINGS_HEADER, crossing_rows(d)))
    return "".join([*parts, *(f"<p>{escape(note)}</p>" for note in crossing_notes(d))])


def certainty(number: Number) -> str:
    """How exact a number is."""
    return number.certainty if number.error is None else f"error at most {number.error:.1g} ({number.certainty})"


def _value(number: Number) -> str:
    return "-" if number.value is None else short(number.value, number.error)


def _derived(value: float, *sources: Number) -> str:
    """A number that is made of others by products and quotients: their relative errors add up."""
    shares = [source.error / abs(source.value) for source in sources if source.error is not None and source.value]
    share = sum(shares)
    if not shares:
        return short(value)
    return short(value, abs(value) * share / (1 - share)) if share < 1 else f"about {value:.1g}"


def _in_sweeps(number: Number, d: Findings) -> str:
    return _sweeps(number, d.steps_per_sweep)


def _sweeps(number: Number, steps_per_sweep: int) -> str:
    """A time, or the relaxation time of a gap, in sweeps."""
    if number.value is None:
        return "-" if number.unit else ""
    times = {"steps": 1 / steps_per_sweep, "sweeps": 1.0}
    if number.unit in times:
        scale = times[number.unit]
        return short(number.value * scale, None if number.error is None else number.error * scale)
    gaps = {"per step": steps_per_sweep, "per sweep": 1}
    if number.unit not in gaps:
        return ""
    time = 1 / (number.value * gaps[number.unit])
    if number.error is None:
        return short(time)
    return short(time, number.error * time / (number.value - number.error)) if number.error < number.value else "-"


def _yes(answer: bool | None) -> str:
    return "-" if answer is None else "yes" if answer else "no"
