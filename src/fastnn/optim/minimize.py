"""Optimizers for functions of arrays, by themselves or through SciPy."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastnn._door.arrays import as_array, describe
from fastnn._door.numbers import at_least_0, choice, positive, value_and_gradient
from fastnn._typing import Array
from fastnn.optim.base import Optimizer

__all__ = ["MinimizeResult", "minimize", "scipy_method"]

Schedule = Callable[[int], float]


@dataclass
class MinimizeResult:
    """What :func:`minimize` has found.

    Attributes
    ----------
    x : ndarray or dict of str to ndarray
        Where it has ended, shaped like `x0`.
    fun : float
        The value there.
    n_iter : int
        Steps taken.
    converged : bool
        Whether no element of the gradient there is larger than `tol`.
    """

    x: Any
    fun: float
    n_iter: int
    converged: bool


def minimize(
    fun: Callable[[Any], tuple[float, Any]],
    x0: ArrayLike | Mapping[str, ArrayLike],
    *,
    optimizer: str | type[Optimizer] = "adam",
    lr: float | Schedule | None = None,
    max_iter: int = 1000,
    tol: float = 0.0,
    callback: Callable[[int, float], bool | None] | None = None,
    **options: Any,
) -> MinimizeResult:
    """Minimize a function of arrays with an optimizer.

    Parameters
    ----------
    fun : callable
        ``fun(x) -> (value, gradient)``, the gradient shaped like x, with the same keys where x is a
        dict. x is changed in place from call to call; copy what is to be kept.
    x0 : array_like, or dict of str to array_like
        Where to start; it stays as it is. float32 stays float32, all else becomes float64.
    optimizer : str or class
        "sgd", "adam", ...: a class of :mod:`fastnn.optim`, or its name in any case.
    lr : float or schedule, optional
        Learning rate; by default the optimizer's own, where it has one.
    max_iter : int
        Largest number of steps.
    tol : float
        It stops when no element of the gradient is larger; with 0 the gradient is not looked at.
    callback : callable, optional
        ``callback(iteration, value)`` after each step, from 1, with the value before it; True ends
        the minimization.
    **options
        Further arguments of the optimizer.

    Returns
    -------
    MinimizeResult
        With ``x``, ``fun``, ``n_iter`` and ``converged``.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind, or `lr` is missing for an optimizer that has none.
    ValueError
        If one is out of range, there is no optimizer of that name, or gradients do not fit.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> def f(x):
    ...     return float(((x - 3) ** 2).sum()), 2 * (x - 3)
    >>> result = fastnn.optim.minimize(f, np.zeros(2), optimizer="adam", lr=0.1, tol=1e-6)
    >>> result.x.round(4), result.converged
    (array([3., 3.]), True)
    """
    max_iter, tol = positive("max_iter", max_iter), at_least_0("tol", tol)
    keys = list(x0) if isinstance(x0, Mapping) else None
    if keys is None:
        arrays = [_start(x0, "x0")]
    else:
        arrays = [_start(x0[key], f"x0[{key!r}]") for key in keys]  # type: ignore[index,call-overload]
    x: Any = arrays[0] if keys is None else dict(zip(keys, arrays, strict=True))

    def evaluate() -> tuple[float, list[Any]]:
        value, gradient = value_and_gradient("fun", fun(x))
        return value, [gradient] if keys is None else _by_key(gradient, keys)

    made = _made(optimizer, arrays, lr, options)
    value, _, n_iter, converged = _descend(evaluate, made, max_iter, tol, callback)
    return MinimizeResult(x, value, n_iter, converged)


def _descend(
    evaluate: Callable[[], tuple[float, list[Any]]],
    optimizer: Optimizer,
    max_iter: int,
    tol: float,
    callback: Callable[[int, float], bool | None] | None,
) -> tuple[float, list[Any], int, bool]:
    """Take the steps; returns value and gradients at the end, the number of steps, convergence."""
    step, n_iter, ended = optimizer.step, 0, False
    while True:
        value, gradients = evaluate()
        if tol and _largest(gradients) <= tol:
            return float(value), gradients, n_iter, True
        if ended or n_iter == max_iter:
            return float(value), gradients, n_iter, False
        step(gradients)
        n_iter += 1
        if callback is not None:
            ended = callback(n_iter, float(value)) is True


def scipy_method(
    optimizer: str | type[Optimizer] = "adam", *, lr: float | Schedule | None = None, **options: Any
) -> Callable[..., Any]:
    """Return an optimizer as a ``method=`` for :func:`scipy.optimize.minimize`.

    Parameters
    ----------
    optimizer, lr, **options
        As of :func:`minimize`.

    Returns
    -------
    callable
        It needs ``jac``, and takes the options ``maxiter`` (1000 by default) and ``tol``, the
        largest element of the gradient at which it stops; ``success`` says whether it did, True
        where there is no `tol`. A callback gets ``x``, or by the name ``intermediate_result`` the
        value too, after each step; it ends the minimization with ``StopIteration``.

    Raises
    ------
    TypeError, ValueError
        As :func:`minimize`; when it runs also for bounds or constraints, or without ``jac``.

    Examples
    --------
    >>> import numpy as np, fastnn, scipy.optimize
    >>> from scipy.optimize import rosen, rosen_der
    >>> found = scipy.optimize.minimize(
    ...     rosen, np.zeros(3), jac=rosen_der, method=fastnn.optim.scipy_method("adam", lr=0.01),
    ...     tol=1e-6, options={"maxiter": 5000},
    ... )
    >>> found.x.round(3), found.success
    (array([1., 1., 1.]), True)
    """
    _made(optimizer, [np.zeros(1)], lr, options)  # whatever is wrong with it is told here

    def method(
        fun: Callable[..., float],
        x0: Array,
        args: tuple[Any, ...] = (),
        *,
        jac: Any = None,
        hess: Any = None,
        hessp: Any = None,
        bounds: Any = None,
        constraints: Any = (),
        callback: Any = None,
        maxiter: int = 1000,
        tol: float | None = None,
    ) -> Any:
        from scipy.optimize import OptimizeResult

        if not callable(jac):
            raise ValueError(
                "jac: expected a function, or True for one that returns value and gradient, "
                f"got {jac!r}"
            )
        for name, given in (("bounds", bounds), ("constraints", constraints)):
            if given is not None and given != ():
                raise ValueError(f"{name}: expected none, for {optimizer} knows of none")
        x = _start(x0, "x0")

        def evaluate() -> tuple[float, list[Array]]:
            value = float(np.asarray(fun(x, *args)).item())
            return value, [np.asarray(jac(x, *args)).reshape(x.shape)]

        made = _made(optimizer, [x], lr, options)
        value, (gradient,), n_iter, converged = _descend(
            evaluate, made, positive("maxiter", maxiter), at_least_0("tol", tol or 0),
            None if callback is None else _told(callback, x),
        )  # fmt: skip
        message = "no element of the gradient is larger than tol" if converged else (
            "the largest number of iterations is reached" if n_iter == maxiter
            else "the callback has ended it"
        )  # fmt: skip
        return OptimizeResult(
            x=x, fun=value, jac=gradient, nit=n_iter, nfev=n_iter + 1, njev=n_iter + 1,
            success=converged or not tol, status=int(not converged), message=message,
        )  # fmt: skip

    return method


def _told(callback: Callable[..., Any], x: Array) -> Callable[[int, float], bool]:
    """Return what tells SciPy's kind of callback of a step, and whether that ended it."""
    by_name = set(inspect.signature(callback).parameters) == {"intermediate_result"}

    def tell(_: int, value: float) -> bool:
        from scipy.optimize import OptimizeResult

        try:
            if by_name:
                callback(intermediate_result=OptimizeResult(x=x.copy(), fun=value))
            else:
                callback(x.copy())
        except StopIteration:
            return True
        return False

    return tell


def _made(
    optimizer: Any, arrays: Sequence[Any], lr: float | Schedule | None, options: Mapping[str, Any]
) -> Optimizer:
    """Return an optimizer of that class or name over the arrays."""
    if isinstance(optimizer, str):
        from fastnn import optim

        known = {name.lower(): getattr(optim, name) for name in optim.__all__}
        names = [
            name for name, kind in known.items()
            if isinstance(kind, type) and issubclass(kind, Optimizer) and kind is not Optimizer
        ]  # fmt: skip
        optimizer = known[choice("optimizer", optimizer.lower(), names)]
    if not isinstance(optimizer, type) or not issubclass(optimizer, Optimizer):
        raise TypeError(
            f"optimizer: expected a name or a class of fastnn.optim, got {describe(optimizer)}"
        )
    rate = {} if lr is None else {"lr": lr}
    if lr is None and inspect.signature(optimizer).parameters["lr"].default is inspect._empty:
        raise TypeError(f"lr: expected a learning rate, which {optimizer.__name__} needs, got None")
    made: Optimizer = optimizer(arrays, **rate, **options)  # type: ignore[arg-type]
    return made


def _start(x0: Any, name: str) -> Array:
    """Return a copy to work on."""
    given = as_array(x0, name)
    dtype = np.float32 if given.dtype == np.float32 else np.float64
    return np.array(given, dtype, order="C")


def _by_key(gradient: Any, keys: list[str]) -> list[Any]:
    if not isinstance(gradient, Mapping):
        raise TypeError(f"fun: expected a dict of gradients, as x is one, got {describe(gradient)}")
    if gradient.keys() != set(keys):
        raise ValueError(f"fun: expected gradients for {sorted(keys)}, got {sorted(gradient)}")
    return [gradient[key] for key in keys]


def _largest(gradients: list[Any]) -> float:
    return max(float(np.abs(gradient).max(initial=0)) for gradient in gradients)
