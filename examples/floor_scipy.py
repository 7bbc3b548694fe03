"""How close can training come to the data before its own gradient drowns in the noise of the samples?

For each sampling window: the least KL(data || model) among the couplings with Q >= 1, by SLSQP; and without the floor. Then real samples:
1000 chains in equilibrium each give one gradient from one window, and the last column is the share of them that points downhill at all.
"""

import numpy as np
from scipy.optimize import NonlinearConstraint, minimize

import adjoints
import thermokernels as tk
from thermokernels_bridges.scipy import kl_divergence, q_struct

SHAPE = N_VISIBLE, N_HIDDEN = 4, 3


def share_downhill(W: np.ndarray, p_data: np.ndarray, window: int) -> float:
    """Share of gradients sampled from one window whose inner product with the exact gradient is positive."""
    s = tk.sample(W, n_chains=1000, n_sweeps=window, burn_in=2000, kernel="single-site", seed=0)
    of_model = np.einsum("tci,tcj->cij", s.visible.astype(float), s.hidden.astype(float)) / window
    exact = adjoints.kl_divergence(p_data, W)[1]
    chain = tk.gibbs_chain(W)
    mean = np.einsum("x,xi,xj->ij", chain.law, chain.spins()[:, :N_VISIBLE], chain.spins()[:, N_VISIBLE:])
    sampled = exact + of_model - mean  # the data's correlations are known exactly, so only the model's are sampled
    return float((np.einsum("cij,ij->c", sampled, exact) > 0).mean())


def main() -> None:
    rng = np.random.default_rng(1)
    p_data = tk.visible_law(rng.standard_normal(SHAPE))
    couplings = 0.1 * rng.standard_normal(N_VISIBLE * N_HIDDEN)
    divergence = kl_divergence(p_data, SHAPE)
    bounds = [(-3.0, 3.0)] * couplings.size  # no first step of the line search may stop the chain
    free = minimize(divergence, couplings, jac=True, method="SLSQP", bounds=bounds, options={"ftol": 1e-9})
    print("window (sweeps)   floor   least KL (nats)        Q   T_O (sweeps)   sampled gradients downhill")
    for window in (10, 100, 1000):
        log_q = q_struct(p_data, SHAPE, window=window, logarithm=True)  # Q spans decades, its logarithm is what an optimiser likes
        above = NonlinearConstraint(log_q.fun, 0.0, np.inf, jac=log_q.jac)
        best = minimize(divergence, couplings, jac=True, method="SLSQP", bounds=bounds, constraints=[above])
        couplings = best.x
        for floor, x in (("1", best.x), ("none", free.x)):
            W = x.reshape(SHAPE)
            q = tk.q_struct(W, p_data, window=window)
            share = share_downhill(W, p_data, window)
            time = q.t_obs / (N_VISIBLE + N_HIDDEN)
            print(f"{window:15d}   {floor:>5}   {divergence.fun(x):15.6f}   {q.value:6.3f}   {time:12.2f}   {share:26.1%}")


if __name__ == "__main__":
    main()
