"""RecLM-gen (Lu et al. 2024): a language model tuned to write lists of titles under control, taught by SASRec.

Read `data` (what it is taught), `prompts` (how that reads), `sft`, `rewards`, `rollouts` and `ppo` (how it learns), `adapter`.
"""
