"""Files of weights: our checkpoints, the released code's, ImageNet backbones, ONNX."""
