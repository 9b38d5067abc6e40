"""What a solver has found."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Result"]


@dataclass
class Result:
    """What a solver has found; the parameters are in the model.

    Attributes
    ----------
    loss : float
        At the end, the penalty included.
    n_iter : int
        Iterations.
    n_evaluations : int
        Passes over the data that computed the loss.
    converged : bool
        Whether no element of the gradient is larger than `tol`.
    message : str
        Why it stopped.
    history : list of float
        The loss before the first iteration and after each.
    alpha, beta, effective_parameters : float or None
        Of Bayesian regularization: the precisions of parameters and residuals, and how many
        parameters the data determine.
    """

    loss: float
    n_iter: int
    n_evaluations: int
    converged: bool
    message: str
    history: list[float] = field(repr=False)
    alpha: float | None = None
    beta: float | None = None
    effective_parameters: float | None = None
