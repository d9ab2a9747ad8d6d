"""The peer of serve.py: the plainest Gradio app around the same network."""

import sys

import gradio as gr
import numpy as np
import torch
from PIL import Image

from cifar_torch.checkpoint import load_checkpoint

checkpoint = load_checkpoint(sys.argv[1])


@torch.inference_mode()
def classify(picture: Image.Image) -> dict[str, float]:
    pixels = np.array(picture.convert("RGB").resize((32, 32)))
    logits = checkpoint.model(torch.from_numpy(pixels).permute(2, 0, 1)[None])
    return dict(zip(checkpoint.class_names, logits.softmax(1)[0].tolist(), strict=True))


gr.Interface(classify, gr.Image(type="pil"), gr.Label()).launch(server_port=int(sys.argv[2]))
