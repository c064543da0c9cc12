"""A model bundle: what a run or a site exports and a hospital predicts with.

A MONAI bundle, so that MONAI's own tools read it, with a record of ours beside it:

NAME/
  prostafed.json            the study, the stage, thresholds, the SHA-256 of every other file; see `record`
  configs/metadata.json     what MONAI asks for: versions, shape and meaning of input and output
  configs/inference.json    network and inferer in MONAI's bundle syntax; `python -m monai.bundle run` predicts
  models/model.safetensors  the weights `prostafed-site predict` reads
  models/model.pt           the same weights, as MONAI's specification wants them
  models/model.onnx         the network, images -> logits, checked against PyTorch
  docs/README.md            the model card
"""
