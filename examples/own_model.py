"""The diagnosis of a model of one's own: couplings W and data samples in, what the sampler can and cannot do out.

Replace ``couplings_and_samples`` by your own arrays: W of shape (n_v, n_h), spins +1 and -1, samples of shape (n, n_v).
"""

import numpy as np

import adjoints
import thermokernels as tk


def couplings_and_samples() -> tuple[np.ndarray, np.ndarray]:
    """A model of three planted patterns, and samples of a noisier one."""
    rng = np.random.default_rng(16)
    visible, hidden = (np.where(rng.random((3, size)) < 0.5, -1.0, 1.0) for size in (6, 5))
    W = 0.4 * (visible.T * [1.2, 1.1, 1.0]) @ hidden
    states = rng.choice(2**6, size=5000, p=tk.visible_law(0.6 * W))
    return W, 1 - 2 * ((states[:, None] >> np.arange(6)) & 1)


def main() -> None:
    W, samples = couplings_and_samples()
    p_data = tk.law_of_samples(samples)
    q, dq_dw = adjoints.q_struct(W, p_data, window=100.0)
    chain = tk.gibbs_chain(W)
    measure = tk.spectral_measure(chain)
    N = chain.n_spins
    print(chain)
    print(f"KL(data || model)        {tk.kl_divergence(p_data, W):.4f} nats")
    print(f"Q at 100 sweeps          {q.value:.3f}   (|g|^2 {q.signal:.4f}, T_O {q.t_obs / N:.2f} sweeps)")
    print(f"sweeps for Q = 1         {100.0 / q.value:.1f}")
    print(f"steepest way to raise Q  |dQ/dW| = {np.linalg.norm(dq_dw):.3f}")
    # With x and -x apart there is one more slow mode, x to -x. No v_i h_j can see it, and it costs the gradient nothing.
    print(f"gap of the full chain    {tk.spectral_gap(tk.gibbs_chain(W, quotient=False)):.3e} per step")
    print(f"gap on pairs {{x, -x}}     {tk.spectral_gap(chain):.3e} per step")
    print(f"gap that f_ij see        {measure.relevant_gap:.3e} per step")
    print()
    print("basin   depth (saddle - minimum)   pi(basin)   relevance   out (sweeps)   back (sweeps)   cut 2 Phi")
    for number, event in enumerate(tk.merge_tree(chain).events, start=1):
        out = tk.mean_first_passage(chain, event.dying, event.surviving) / N
        back = tk.mean_first_passage(chain, event.surviving, event.dying) / N
        print(
            f"{number:5d}   {event.barrier:24.3f}   {event.dying_mass:9.4f}   {tk.relevance(chain, event.dying):9.4f}"
            f"   {out:12.2f}   {back:13.2f}   {2 * tk.conductance(chain, event.dying):9.2e}"
        )


if __name__ == "__main__":
    main()
