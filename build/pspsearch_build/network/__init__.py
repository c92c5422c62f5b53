"""The descriptor network: one idea per module.

`spec` and `onnx_facts` import no torch, so that steps that only pass a network on stay light.
"""
