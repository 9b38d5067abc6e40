"""Libraries with threads of their own, and some work for each whose result is known."""

from importlib.util import find_spec

import numpy as np


def numpy():
    a = np.ones((600, 600))
    return float((a @ a)[0, 0]) == 600


def torch():
    import torch

    a = torch.ones(600, 600, requires_grad=True)
    (a @ a).sum().backward()
    return float(a.grad[0, 0]) == 1200


def sklearn():
    from sklearn.cluster import KMeans

    x = np.repeat([[0.0, 0.0], [9.0, 9.0]], 3000, axis=0)
    found = KMeans(2, n_init=1, random_state=0).fit(x).cluster_centers_
    return sorted(found[:, 0].round(6)) == [0, 9]


def lightgbm():
    import lightgbm

    x = np.arange(6000.0)[:, None] % 2
    data = lightgbm.Dataset(x, x[:, 0])
    model = lightgbm.train({"verbose": -1, "objective": "regression"}, data, 5)
    return bool((model.predict(x) > 0.5).tolist() == x[:, 0].astype(bool).tolist())


OTHERS = {work.__name__: work for work in (numpy, torch, sklearn, lightgbm)
          if find_spec(work.__name__)}  # fmt: skip
