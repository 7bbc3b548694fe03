"""A training that kills its own gradient, caught and mended: scikit-learn's BernoulliRBM on handwritten digits, 64 x 100 units.

The left half looks at a training as it comes: Q at a window of 100 sweeps of the sampler that scikit-learn trains with. The model learns,
its sampler slows down, and what was loud drowns in its own noise; the pseudo-likelihood goes on rising and shows nothing of it. The window
that would be long enough stands beside. The right half is the same training with a floor: whenever Q is below one after an epoch, the
couplings are pushed along the estimated gradient of Q, by two per cent of their norm at a time. Needs scikit-learn; takes a minute or two.
"""

import sys
from collections.abc import Iterator

import numpy as np
from sklearn.datasets import load_digits
from sklearn.neural_network import BernoulliRBM

import adjoints
import thermokernels as tk

UNITS = (load_digits().data > 7.5).astype(float)
SPINS = 2 * UNITS - 1
WINDOW, BATCH, FIRST = 100, 10, 10


def trained(n_epochs: int) -> Iterator[tuple[int, BernoulliRBM]]:
    """The machine after each epoch."""
    rbm = BernoulliRBM(n_components=100, learning_rate=0.05, batch_size=BATCH, random_state=0)
    for epoch in range(1, n_epochs + 1):
        for first in range(0, len(UNITS), BATCH):
            rbm.partial_fit(UNITS[first : first + BATCH])
        yield epoch, rbm


def pushed(rbm: BernoulliRBM) -> None:
    """Move the couplings of the spins along dQ/dW; units 0 and 1 have four times the couplings and other fields."""
    model = tk.from_scikit_learn(rbm)
    _, gradient = adjoints.estimate_q(model, SPINS, WINDOW, n_samples=256, n_replicates=224)
    step = 0.02 * np.linalg.norm(model.W) / np.linalg.norm(gradient.dq_dW) * gradient.dq_dW.T
    rbm.components_ += 4 * step
    rbm.intercept_hidden_ -= 2 * step.sum(axis=1)
    rbm.intercept_visible_ -= 2 * step.sum(axis=0)


def along(n_epochs: int, floor: float | None) -> tuple[tk.Track, dict[int, int]]:
    """Q from the tenth epoch on, and how often the floor had to be restored in each."""
    tracker, pushes = tk.Tracker(SPINS, WINDOW, n_replicates=224), {}
    for epoch, rbm in trained(n_epochs):
        if epoch < FIRST:
            continue
        pushes[epoch] = 0
        row = tracker(tk.from_scikit_learn(rbm), epoch)
        while floor is not None and row.value < floor and pushes[epoch] < 5:
            pushed(rbm)
            pushes[epoch] += 1
            row = tracker(tk.from_scikit_learn(rbm), epoch)
    return tracker.track, pushes


def main() -> None:
    n_epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    (plain, _), (held, pushes) = along(n_epochs, None), along(n_epochs, 1.0)
    last = {row.name: row for row in held.rows}
    print(f"Q at {WINDOW} sweeps     as it comes                                     with a floor of 1")
    print("epoch        Q      95 % from to   window for Q = 1  pseudo-lik.        Q  pushes  pseudo-lik.")
    for row in plain.rows:
        other, (low, high) = last[row.name], row.interval
        left = f"{row.name:>5} {row.value:8.3g} {low:8.3g} {high:8.3g} {row.window_for_unit_q:18.3g} {row.pseudo_likelihood:12.2f}"
        print(f"{left} {other.value:8.3g} {pushes[int(row.name)]:7d} {other.pseudo_likelihood:12.2f}")
    rows = (*plain.rows, *held.rows)
    print(f"trusted: {sum(row.trusted for row in rows)} of {len(rows)} estimates")
    print(f"lowest Q: {min(row.value for row in plain.rows):.3g} as it comes, {min(row.value for row in last.values()):.3g} with the floor")


if __name__ == "__main__":
    main()
