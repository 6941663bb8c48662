"""CTRL-Rec (Carroll et al. 2025): what a language model would say of an item under a request, distilled into two towers.

The paper publishes no architecture and no hyper-parameters; what is built here is this project's reading of it.
"""
