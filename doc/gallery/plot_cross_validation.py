"""
Cross-validation with scikit-learn
==================================

Fit 50 classifiers on all servers with the code that you have.

scikit-learn runs its loops through joblib. Inside ``joblib.parallel_config("pserver")`` these loops run on the workers
of a network. See :doc:`/bridges` for the options, and for other packages that can use a network.
"""

import joblib
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedKFold, validation_curve
from sklearn.svm import SVC

from pconnect import local_network

# %%
# The question
# ------------
# How wide should the kernel of a support vector machine be, to tell handwritten digits apart? ``validation_curve``
# fits it with each width to four fifths of the images, five times, and tries it on the last fifth.

images, digits = load_digits(return_X_y=True)
images, digits = images[:600], digits[:600]
gammas = np.logspace(-5, -2, 10)


# %%
# On the servers
# --------------
# To use your own machines, write ``pconnect(["alpha", "beta"])`` in place of ``local_network(2)``. Each worker
# receives the images once, and then only the row numbers for each fit.

with local_network(2) as net, joblib.parallel_config("pserver", network=net):
    trained, tested = validation_curve(
        SVC(), images, digits, param_name="gamma", param_range=gammas, n_jobs=-1
    )

row = tested.mean(axis=1).argmax()
best = gammas[row]
print(f"best gamma: {best:.1e}, accuracy {tested[row].mean():.1%}")

# %%
# A plain loop on this machine finds the same scores.

for fold, (fitted, other) in enumerate(StratifiedKFold(5).split(images, digits)):
    model = SVC(gamma=best).fit(images[fitted], digits[fitted])
    assert tested[row, fold] == np.mean(model.predict(images[other]) == digits[other])
    assert trained[row, fold] == np.mean(model.predict(images[fitted]) == digits[fitted])

fig, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
for scores, label in [(trained, "images it was fitted to"), (tested, "other images")]:
    mean, spread = 100 * scores.mean(axis=1), 100 * scores.std(axis=1)
    axes.semilogx(gammas, mean, "o-", label=label)
    axes.fill_between(gammas, mean - spread, mean + spread, alpha=0.2)
axes.axvline(best, color="gray", linestyle="--", label=f"best on other images: {best:.1e}")
axes.set(xlabel="gamma of the kernel (1)", ylabel="digits recognised (%)", title="Five-fold cross-validation")
axes.legend(loc="lower center")
plt.show()
