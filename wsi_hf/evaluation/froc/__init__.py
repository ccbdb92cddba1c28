"""FROC by the challenge's rules: lesions and detections in, the curve and its score out."""

from wsi_hf.evaluation.froc.scoring import froc as froc
