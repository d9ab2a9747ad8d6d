"""Where to compute, and how."""

import platform
import subprocess
import sys

import pytest
import torch

from cifar_torch import device
from cifar_torch.errors import UserError

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("can", "dtype", "why"),
    [({"amx_bf16": True}, torch.bfloat16, "has AMX"), ({}, torch.float32, "has no AMX")],
)
def test_auto_takes_bf16_where_the_processor_has_amx(monkeypatch, can, dtype, why):
    monkeypatch.setattr(device, "_cpu_capabilities", lambda: can)
    chosen, said = device.choose_precision("auto", CPU)
    assert chosen is dtype and why in said
    assert device.choose_precision("fp32", CPU)[0] is torch.float32
    asked, said = device.choose_precision("bf16", CPU)
    assert asked is torch.bfloat16 and ("slow" in said) == (dtype is torch.float32)
    with pytest.raises(UserError, match="unknown precision 'fp16'"):
        device.choose_precision("fp16", CPU)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a matter of glibc")
def test_the_c_library_agrees_to_keep_memory_each_time_it_is_asked():
    assert device.keep_memory()
    assert device.keep_memory()


def test_no_thread_computes_with_denormals():
    """In a process of its own: threads take over how their maker computes when they are made."""
    program = """
import torch
from cifar_torch.device import prepare_cpu
torch.set_num_threads(4)
prepare_cpu()
denormals = torch.full((1 << 22,), 1000, dtype=torch.int32).view(torch.float32)
print((denormals * 0.5).view(torch.int32).count_nonzero().item())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "0", done.stderr


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory.")])
def test_too_little_memory_gets_a_sentence(error):
    with pytest.raises(UserError, match="a smaller --batch-size"), device.out_of_memory_told():
        raise error
    with pytest.raises(UserError, match="a smaller --batch-size"), device.out_of_memory_told():
        torch.empty(1 << 60, dtype=torch.uint8)


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match="shapes"), device.out_of_memory_told():
        torch.ones(2, 3) @ torch.ones(2, 3)
