"""Many runs at once: a grid file, its cells, and the pools of processes or machines that carry them out."""
