"""The challenge's rules written out slowly, one after the other, as an independent reference."""

import numpy as np
from scipy import ndimage


def reference_regions(tumour, pixel_um):
    """Label grown, filled, 8-connected regions and give the major axis of each, in mask pixels."""
    if not np.any(tumour):
        return np.zeros(np.shape(tumour), int), {}
    distance = ndimage.distance_transform_edt(~np.asarray(tumour, bool))
    grown = distance < 75 / (pixel_um * 2)
    labels, n = ndimage.label(ndimage.binary_fill_holes(grown), structure=np.ones((3, 3)))
    return labels, {label: _major_axis(np.argwhere(labels == label)) for label in range(1, n + 1)}


def _major_axis(pixels):
    """Length of the longest axis of the ellipse with the same second moments."""
    return 4 * np.sqrt(max(np.linalg.eigvalsh(np.atleast_2d(np.cov(pixels.T, bias=True))).max(), 0))


def reference_froc(masks, detections, convention="challenge", mpp=0.243, downsample=32):
    """Compute (false positives per slide, sensitivity, average), points from the highest threshold down."""
    false, best, n_lesions = [], [], 0
    for name, listed in detections.items():
        mask = masks[name]
        if mask is None:
            false += [score for score, _, _ in listed]
            continue
        labels, axes = reference_regions(np.asarray(mask) > 0, mpp * downsample)
        itc = {label for label, axis in axes.items() if axis < 275 / (mpp * downsample)}
        n_lesions += len(axes) - len(itc)
        score_of = dict.fromkeys(axes, 0.0)
        for score, x, y in listed:
            place = (y / downsample, x / downsample)
            row, column = (int(p) if convention == "challenge" else round(p) for p in place)
            inside = row < labels.shape[0] and column < labels.shape[1]
            label = labels[row, column] if inside else 0
            if label == 0:
                false.append(score)
            elif label not in itc:
                score_of[label] = max(score_of[label], score)
        best += list(score_of.values())
    thresholds = sorted(set(false + best))
    thresholds = thresholds[1:] if convention == "challenge" else [t for t in thresholds if t != 0]
    rates = [sum(s >= t for s in false) / len(detections) for t in thresholds] + [0.0]
    sensitivity = [sum(s >= t for s in best) / n_lesions for t in thresholds] + [0.0]
    rates, sensitivity = rates[::-1], sensitivity[::-1]
    wanted = [1 / 4, 1 / 2, 1, 2, 4, 8]
    if convention == "challenge":
        at = [np.interp(rate, rates, sensitivity) for rate in wanted]
    else:
        at = [
            next((s for r, s in zip(rates, sensitivity, strict=True) if r >= rate), sensitivity[-1]) for rate in wanted
        ]
    return rates, sensitivity, float(np.mean(at))
