"""LANCER (Jiang et al. 2023, arXiv 2309.10435): sequential recommendation as text, with learned knowledge and reasoning prompts."""
