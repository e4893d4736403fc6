"""Stages that choose how ONNX Runtime runs a model, by measuring."""
