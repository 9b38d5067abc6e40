"""Solvers that train a model on a whole data set at once."""
