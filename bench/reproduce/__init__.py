"""Tables of the DPR paper (Lyu et al. 2026): published values, the grid of runs behind each, and what was measured."""
