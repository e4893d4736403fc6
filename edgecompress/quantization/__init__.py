"""What the quantization stages share: weights, activation ranges, and proof of what runs as int8.

The modules here import onnx and onnxruntime at their top; import them inside functions.
"""
