"""Quantization to int8, by ONNX Runtime and by Intel Neural Compressor."""
