"""The door for programs, beside the Gradio page: `POST /api/classify`, pictures in, JSON out.

A Gradio client needs three requests for one prediction (upload, call, event stream); here one
request has one answer. `demo.launch(app_kwargs=app_kwargs(batcher))` opens it.
"""

from cifar_torch.api.routes import app_kwargs
from cifar_torch.api.uploads import MAX_UPLOAD

__all__ = ["MAX_UPLOAD", "app_kwargs"]
