"""Optional metrics, computed only if `evaluate.extra_metrics` names them."""
