"""A torch module as an ONNX graph, and why it cannot be one."""
