"""SRGAN on JAX: from a photograph on disk to a trained generator and a larger image."""
