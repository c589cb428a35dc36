"""Separation of objects: the foreground-restricted Rand score of the ISBI 2012 challenge.

Arganda-Carreras et al. 2015, "Crowdsourcing the creation of image segmentation algorithms for
connectomics".
"""

import cv2
import numpy as np

from segbench.images import IGNORE
from segbench.metrics.definition import Definition, Evidence

DEFINITIONS = {
    "v_rand": Definition(
        "F score of pairs of pixels that lie in one object, objects being 4-connected foreground: "
        "2 sum(p_ij^2) / (sum(s_i^2) + sum(t_j^2)), over the pixels of true objects "
        "(Arganda-Carreras et al. 2015)",
        "left out where the truth is empty; what is predicted as background counts as objects of "
        "one pixel",
    )
}


def of_image(evidence: Evidence) -> dict[str, float]:
    """Rand score of an image, averaged over the classes in its truth."""
    scores = []
    counted = evidence.mask != IGNORE
    for class_id in evidence.class_ids:
        truth, pred = (
            cv2.connectedComponents(((mask == class_id) & counted).view(np.uint8), connectivity=4)
            for mask in (evidence.mask, evidence.pred_mask)
        )
        inside = truth[1] > 0
        if not inside.any():
            continue
        cells = np.ravel_multi_index((truth[1][inside], pred[1][inside]), (truth[0], pred[0]))
        table = np.bincount(cells, minlength=truth[0] * pred[0]).reshape(truth[0], pred[0])
        table = table.astype(float)
        alone = table[:, 0].sum()  # each pixel its own object
        joint = (table[:, 1:] ** 2).sum() + alone
        found = (table[:, 1:].sum(axis=0) ** 2).sum() + alone
        true = (table.sum(axis=1) ** 2).sum()
        scores.append(2 * joint / (found + true))
    return {"v_rand": float(np.mean(scores)) if scores else np.nan}
