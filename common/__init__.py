"""What both sides must agree on: studies, tensors, imaging, models, methods, tasks, metrics."""
