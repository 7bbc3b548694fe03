"""What a comparison found: a row an observable, with the exact time and what each estimator makes of the trace."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from thermokernels.common.digits import certified
from thermokernels.common.results import UNPROVEN, Result, html_table

# A trace of the model and the kernel that are named is doubted in one of so many comparisons, by Bonferroni over all that is looked at.
FALSE_ALARMS = 1000
# An estimate that is too uncertain may be right, within this factor, by luck.
LUCK = 1.5


@dataclass(frozen=True, repr=False)
class Estimate:
    """One estimator's time of one observable.

    Attributes
    ----------
    estimator : "emcee" or "ArviZ"
    steps : its tau in steps, None where it has none
    factor : estimate / exact, or None
    expected_steps : what it is on average for chains of that length, no less and no more; or None
    relative_error : its standard error, as a share
    deviation : how many standard errors it is outside of what is expected, on the scale of the logarithm
    fits : another kernel with which it would agree, where that of the comparison does not fit, or None
    verdict : the comparison in words
    """

    estimator: str
    steps: float | None
    factor: float | None
    expected_steps: tuple[float, float] | None
    relative_error: float | None
    deviation: float | None
    fits: str | None
    verdict: str

    def __repr__(self) -> str:
        return f"Estimate({self.estimator}, {self.verdict})"


@dataclass(frozen=True, repr=False)
class Row:
    """One observable of the trace.

    Attributes
    ----------
    observable : its name
    exact_steps, exact_error_steps : tau of the recorded series and a bound on its error, in steps
    exact_records : the same time in records
    length : records of one chain, in exact autocorrelation times
    reason : why there is no exact time, in words, or None; then these four are None and there are no estimates
    constant : whether it is that the observable does not vary in the model
    r_hat : ArviZ's rank-normalised split R-hat, None where it has none
    looks_healthy : whether the usual rules pass: each estimate is at most a 50th of a chain, R-hat is at most 1.01; None without estimates
    estimates : of the estimators that are installed
    """

    observable: str
    exact_steps: float | None
    exact_error_steps: float | None
    exact_records: float | None
    length: float | None
    reason: str | None
    constant: bool
    r_hat: float | None
    looks_healthy: bool | None
    estimates: tuple[Estimate, ...]

    def __repr__(self) -> str:
        exact = self.reason if self.exact_steps is None else f"{certified(self.exact_steps, self.exact_error_steps)} steps"
        return f"Row({self.observable}, {exact}, {len(self.estimates)} estimates)"

    @property
    def misleads(self) -> bool:
        """Whether the trace looks healthy and an estimate is off by more than half, with any kernel."""
        factors = [estimate.factor for estimate in self.estimates if estimate.factor is not None and estimate.fits is None]
        return self.looks_healthy is True and any(not 1 / LUCK <= factor <= LUCK for factor in factors)


@dataclass(frozen=True, repr=False)
class Comparison(Result):
    """Made by :func:`compare`.

    Attributes
    ----------
    n_chains, n_records : shape of the trace
    kernel, every_steps, steps_per_sweep : how it was made
    rows : one an observable
    visited_mass : the probability of the states that the trace met, None where it does not hold all spins
    missing : packages of estimators that are not installed
    chance : standard errors up to which an estimate agrees, so that one comparison in 1000 doubts a right trace
    """

    n_chains: int
    n_records: int
    kernel: str
    every_steps: int
    steps_per_sweep: int
    rows: tuple[Row, ...]
    visited_mass: float | None
    missing: tuple[str, ...]
    chance: float

    def as_dict(self) -> dict[str, Any]:
        """All of it for JSON, times in steps."""
        return {"convention": "tau = 1 + 2 sum_(t > 0) rho(t)", "false_alarms": f"one comparison in {FALSE_ALARMS}", **asdict(self)}

    def _columns(self) -> tuple[dict[str, Any], list[str]]:
        """A row an observable and estimator."""
        pairs = [(row, estimate) for row in self.rows for estimate in row.estimates]
        of_row, of_estimate = (
            ("observable", "exact_steps", "exact_error_steps", "length", "r_hat"),
            ("estimator", "steps", "factor", "verdict"),
        )
        columns = {name: [getattr(row, name) for row, _ in pairs] for name in of_row}
        return columns | {name: [getattr(estimate, name) for _, estimate in pairs] for name in of_estimate}, ["observable", "estimator"]

    def __repr__(self) -> str:
        names = ", ".join(row.observable for row in self.rows)
        return f"Comparison({names}: {self.n_chains} chains of {self.n_records} records, {self.kernel})"

    def _repr_html_(self) -> str:
        rows = []
        for row in self.rows:
            exact, error = row.exact_steps, row.exact_error_steps
            known = "-" if exact is None else certified(exact, error)
            rows += [[row.observable, known, "-", "-", row.reason]] if row.reason else []
            for estimate in row.estimates:
                steps = "-" if estimate.steps is None else certified(estimate.steps, None, UNPROVEN)
                rows.append([row.observable, known, estimate.estimator, steps, estimate.verdict])
        return html_table(("observable", "exact tau (steps)", "estimator", "its tau", "verdict"), rows)
