"""The network: encoder, decoder, projection and task heads, checkpoints."""
