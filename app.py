"""The web app: `python app.py`, then http://127.0.0.1:7860. Hugging Face Spaces starts this too."""

import sys

from cifar_torch.webui.start import a_sentence_on_error, end_quietly, use_own_temporary_folder

if __name__ == "__main__":
    end_quietly()
with a_sentence_on_error():
    use_own_temporary_folder()  # Gradio looks for it when it is imported

import gradio as gr

from cifar_torch.classifier import Classifiers
from cifar_torch.serving import Batcher
from cifar_torch.webui import classify, code, inside, results, train
from cifar_torch.webui.options import read_options
from cifar_torch.webui.page import header
from cifar_torch.webui.runner import Runner
from cifar_torch.webui.serve import launch

with a_sentence_on_error():
    options = read_options(sys.argv[1:] if __name__ == "__main__" else [])
    classifiers = Classifiers(options.checkpoints, options.checkpoint)
    classifiers.get()  # a damaged checkpoint is known now, not when the first visitor comes
    batcher, runner = Batcher(classifiers), Runner(classifiers)

with gr.Blocks(title="cifar-torch", analytics_enabled=False, delete_cache=(600, 3600)) as demo:
    page = header(demo, classifiers)
    with gr.Tabs():
        with page.tab("classify") as tab:
            picture = classify.tab(page)
            page.opened(tab)
        with page.tab("inside") as tab:
            inside.tab(page, tab, picture)
        with page.tab("results") as tab:
            results.tab(page, tab)
        with page.tab("train") as tab:
            train.tab(page, tab, runner if options.training else None)
        with page.tab("code") as tab:
            code.tab(page, tab, picture, batcher, options)
    page.follow_language(demo)

if __name__ == "__main__":
    with a_sentence_on_error():
        launch(demo, batcher, runner, options)
