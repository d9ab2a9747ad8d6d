"""The web app: `python app.py`, then http://127.0.0.1:7860. Hugging Face Spaces starts this too."""

import sys

import gradio as gr

from cifar_torch.classifier import Classifiers
from cifar_torch.webui import classify, code, inside, results, train
from cifar_torch.webui.options import read_options
from cifar_torch.webui.page import header
from cifar_torch.webui.serve import a_sentence_on_error, launch
from cifar_torch.webui.words import label

with a_sentence_on_error():
    options = read_options(sys.argv[1:] if __name__ == "__main__" else [])
    classifiers = Classifiers(options.checkpoints, options.checkpoint)

with gr.Blocks(title="cifar-torch", analytics_enabled=False, delete_cache=(3600, 3600)) as demo:
    page = header(demo, classifiers)
    with gr.Tabs():
        with gr.Tab(label("tab.classify"), id="classify"):
            picture = classify.tab(page)
        with gr.Tab(label("tab.inside"), id="inside") as tab:
            inside.tab(page, tab, picture)
        with gr.Tab(label("tab.results"), id="results") as tab:
            results.tab(page, tab)
        with gr.Tab(label("tab.train"), id="train") as tab:
            train.tab(page, tab, options.training)
        with gr.Tab(label("tab.code"), id="code") as tab:
            code.tab(page, tab, picture, options.mcp)

if __name__ == "__main__":
    with a_sentence_on_error():
        launch(demo, options)
