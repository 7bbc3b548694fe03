"""How close can training come to the data before its own gradient drowns in the noise of the samples?

For each sampling window: the least KL(data || model) among the couplings with Q >= 1, by SLSQP. Value and gradient of both the
objective and the constraint are those of ``adjoints``; scipy takes them as ``fun`` and ``jac``.
"""

import numpy as np
from scipy.optimize import minimize

import adjoints
import thermokernels as tk

N_VISIBLE, N_HIDDEN = 4, 3


def divergence(flat: np.ndarray, p_data: np.ndarray) -> tuple[float, np.ndarray]:
    """KL(data || model) and its gradient."""
    value, gradient = adjoints.kl_divergence(p_data, flat.reshape(N_VISIBLE, N_HIDDEN))
    return value, gradient.ravel()


def log_q(flat: np.ndarray, p_data: np.ndarray, window: float) -> tuple[float, np.ndarray]:
    """log Q and its gradient: Q spans decades, its logarithm is what an optimiser likes."""
    q, gradient = adjoints.q_struct(flat.reshape(N_VISIBLE, N_HIDDEN), p_data, window=window)
    return np.log(q.value), gradient.ravel() / q.value


def main() -> None:
    rng = np.random.default_rng(1)
    p_data = tk.visible_law(rng.standard_normal((N_VISIBLE, N_HIDDEN)))
    couplings = 0.1 * rng.standard_normal(N_VISIBLE * N_HIDDEN)
    bounds = [(-3.0, 3.0)] * couplings.size  # no first step of the line search may freeze the chain
    print("window (sweeps)   least KL with Q >= 1 (nats)       Q   T_O (sweeps)")
    for window in (10.0, 100.0, 1000.0, 10000.0):
        constraint = {
            "type": "ineq",
            "fun": lambda flat, window=window: log_q(flat, p_data, window)[0],
            "jac": lambda flat, window=window: log_q(flat, p_data, window)[1],
        }
        best = minimize(divergence, couplings, args=(p_data,), jac=True, method="SLSQP", bounds=bounds, constraints=[constraint])
        couplings = best.x
        q = tk.q_struct(couplings.reshape(N_VISIBLE, N_HIDDEN), p_data, window=window)
        note = "" if best.success else f"   ({best.message})"
        print(f"{window:15.0f}   {best.fun:27.6f}   {q.value:5.3f}   {q.t_obs / (N_VISIBLE + N_HIDDEN):12.2f}{note}")


if __name__ == "__main__":
    main()
