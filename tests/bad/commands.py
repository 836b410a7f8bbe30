"""Command lines that cannot be carried out.

A row's ``given`` is the list of arguments, run in a folder that has what ``lay_out`` puts there. Its ``error`` is the exit
code.
"""

# A row that is a line reads better than one that is broken up.
# ruff: noqa: E501

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import nn

from tests.bad.table import bad

MODELS = """
import sys, torch
from torch import nn

number = 3

def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(3, 4, 3, padding=1), nn.ReLU())

class Does(nn.Module):
    def __init__(self, what):
        super().__init__()
        self.conv, self.what, self.calls = nn.Conv3d(3, 4, 3, padding=1), what, 0

    def forward(self, x):
        return self.what(self, self.conv(x))

def end(code):
    raise SystemExit(code)

def stop(error):
    raise error

def counted(m, y):
    m.calls += 1
    return y * m.calls

def exits(): sys.exit(0)
def raises(): raise ValueError("\\x1b[2J no weights here")
def raises_much(): raise ValueError("long " * 100000)
def recurses(): return recurses()
def no_memory(): raise MemoryError("no room")
def needs(path): return net()
def nothing(): return None
def word(): return "net"
def weights(): return net().state_dict()
def a_class(): return nn.ReLU
def several(): yield net()
def scripted(): return torch.jit.script(net())
def half_made(): return type("Half", (nn.Module,), {"__init__": lambda s: None})()
def branch(): return Does(lambda m, y: y if y.sum() > 0 else -y)
def noisy(): return Does(lambda m, y: y + torch.randn_like(y))
def leaves(): return Does(lambda m, y: end(0))
def interrupted(): return Does(lambda m, y: stop(KeyboardInterrupt()))
def forgetful(): return Does(counted)
def complex_(): return nn.Conv3d(3, 4, 3, padding=1, dtype=torch.complex64)
def hostile():
    made = nn.Sequential()
    made.add_module("\\x1b[2J", net())
    return made
"""


def lay_out(place: Path) -> None:
    """The files that the command lines name."""
    (place / "models.py").write_text(MODELS)
    (place / "wrong.py").write_text("def net(:\n")
    (place / "fails.py").write_text("raise RuntimeError('not today')\n")
    (place / "leaves.py").write_text("import sys; sys.exit(0)\n")
    (place / "needs_more.py").write_text("import no_such_package_at_all\n")
    (place / "binary.py").write_bytes(b"\x00\xff\xfe")
    (place / "text.txt").write_text("hello")
    (place / "folder.py").mkdir()
    (place / "full").mkdir()
    (place / "full" / "mine").write_text("precious")
    (place / "nowhere").symlink_to("there is nothing")
    os.mkfifo(place / "pipe.py")
    torch.save(nn.Conv3d(3, 4, 3).state_dict(), place / "w.pt")
    torch.save(nn.Conv3d(3, 4, 3), place / "m.pt")
    (place / "w.safetensors").write_bytes(b"12345678")
    (place / "w.onnx").write_bytes(b"")


SIZES = ["--input", "1x3x1x8x8"]


def fold(spec: str, *more: str) -> list[str]:
    """A whole command but for what is wrong with it."""
    return ["fold", *SIZES, *more, "--", spec]


def sizes(text: str) -> list[str]:
    return ["fold", f"--input={text}", "models.py:net"]


SPECS = [
    bad("no command", ["frobnicate"], 2, "frobnicate"),
    bad("no model", ["fold"], 2, "SPEC"),
    bad("unknown option", ["fold", "--fast", "models.py:net"], 2, "--fast"),
    bad("option with a terminal code", ["fold", "--fa\x1b[2Jst", "models.py:net"], 2, "No such option"),
    bad("option without its value", ["fold", "models.py:net", "--input"], 2, "--input", "requires"),
    bad("switch with a value", ["fold", "models.py:net", "--json=yes"], 2, "--json"),
    bad("two models", ["fold", "models.py:net", "models.py:net"], 2, "models.py:net"),
    bad("empty name", fold(""), 2, "names no model", "package.module:factory"),
    bad("only a colon", fold(":"), 2, "names no model"),
    bad("no factory", fold("models.py:"), 2, "names no model"),
    bad("no module", fold(":net"), 2, "names no model"),
    bad("file without a factory", fold("models.py"), 2, "models.py:factory"),
    bad("file that is not there", fold("none.py:net"), 2, "there is no file 'none.py'"),
    bad("factory that is not there", fold("models.py:nut"), 2, "has no 'nut'", "net"),
    bad("factory with dots", fold("models.py:net.forward"), 2, "has no 'net.forward'"),
    bad("two colons", fold("models:net:net"), 2, "models:net"),
    bad("package that is not there", fold("no_such_package.deep:net"), 2, "no_such_package.deep", "install"),
    bad("module that is not there", fold("flatconv.nothing:net"), 2, "no module 'flatconv.nothing'"),
    bad("relative module", fold(".models:net"), 2, ".models"),
    bad("a function and no module", fold("os.path.join:net"), 2, "os.path.join"),
    bad("name with a nul", fold("mod\0els:net"), 2, "mod\\x00els"),
    bad("name with a terminal code", fold("\x1b[2J\x07:net"), 2, "\\x1b[2J\\x07"),
    bad("name with markup", fold("[red]x[/blue]:net"), 2, "[red]x[/blue]"),
    bad("name with a direction mark", fold("\u202egpj.py:net"), 2, "\\u202egpj.py"),
    bad("very long name", fold("a" * 5000 + ".py:net"), 2, "aaaa"),
    bad("very long module", fold("a" * 5000 + ":net"), 2, "aaaa"),
    bad("name in other letters", fold("модель.py:сеть"), 2, "there is no file 'модель.py'"),
    bad("file is a folder", fold("folder.py:net"), 2, "is a folder"),
    bad("file is a pipe", fold("pipe.py:net"), 2, "pipe or a device"),
    bad("file is no Python", fold("wrong.py:net"), 2, "SyntaxError"),
    bad("file is no text", fold("binary.py:net"), 2, "binary.py", "failed while it was run"),
    bad("file of another kind", fold("./text.txt:net"), 2, "is no Python file"),
    bad("file that fails", fold("fails.py:net"), 2, "not today"),
    bad("file that leaves", fold("leaves.py:net"), 2, "leaves.py", "SystemExit"),
    bad("module that leaves", fold("leaves:net"), 2, "leaves", "SystemExit"),
    bad("module that needs another", fold("needs_more:net"), 2, "no_such_package_at_all", "not installed"),
    bad("factory leaves", fold("models.py:exits"), 2, "SystemExit"),
    bad("factory raises", fold("models.py:raises"), 2, "\\x1b[2J no weights here"),
    bad("factory raises much", fold("models.py:raises_much"), 2, "long long"),
    bad("factory never ends", fold("models.py:recurses"), 2, "RecursionError"),
    bad("factory without memory", fold("models.py:no_memory"), 2, "MemoryError", "no room"),
    bad("factory needs arguments", fold("models.py:needs"), 2, "missing 1 required positional argument"),
    bad("factory is a number", fold("models.py:number"), 2, "not callable"),
    bad("factory makes nothing", fold("models.py:nothing"), 2, "NoneType", "torch.nn.Module"),
    bad("factory makes a word", fold("models.py:word"), 2, "made a str"),
    bad("factory makes a class", fold("models.py:a_class"), 2, "made a type"),
    bad("factory makes weights", fold("models.py:weights"), 2, "OrderedDict", "--state"),
    bad("factory makes several", fold("models.py:several"), 2, "generator"),
    bad("factory makes half a module", fold("models.py:half_made"), 2, "models.py:half_made"),
    bad("factory makes TorchScript", fold("models.py:scripted"), 3, "TorchScript"),
    bad("folder of diffusers", fold("diffusers:here"), 2, "is no folder", "diffusers has written"),
    bad("folder of transformers", fold("transformers:here"), 2, "is no folder"),
    bad("ONNX", fold("w.onnx"), 2, "w.onnx", "no valid ONNX file"),
    bad("ONNX that is not there", fold("missing.onnx"), 2, "missing.onnx"),
    bad("weights and no model", fold("w.safetensors"), 2, "w.safetensors", "--state"),
    bad("module without trust", fold("m.pt"), 2, "m.pt", "run any code", "--trust"),
    bad("program that is not there", fold("none.pt2", "--trust"), 2, "there is no file 'none.pt2'"),
    bad("weights as a model, with trust", fold("w.pt", "--trust"), 2, "OrderedDict", "--state"),
    bad("audit without trust", ["audit", *SIZES, "m.pt"], 2, "run any code", "--trust"),
    bad("state without trust", fold("models.py:net", "--state", "w.pt"), 2, "w.pt", ".safetensors", "--trust"),
    bad("state that does not fit", fold("models.py:net", "--state", "w.pt", "--trust"), 2, "2 missing (0.weight, 0.bias)", "2 that the model does not have"),
    bad("state that is damaged", fold("models.py:net", "--state", "w.safetensors"), 2, "w.safetensors"),
    bad("state that is not there", fold("models.py:net", "--state", "none.safetensors"), 2, "there is no file"),
    bad("audit with a damaged state", ["audit", *SIZES, "--state", "w.safetensors", "models.py:net"], 2, "w.safetensors"),
    bad("state of another kind", fold("models.py:net", "--state", "text.txt"), 2, "text.txt", ".safetensors"),
]  # fmt: skip

INPUTS = [
    bad("no example", ["fold", "models.py:net"], 2, "--input 1x3x1x256x256", "--image"),
    bad("no example for an audit", ["audit", "models.py:net"], 2, "--input 1x3x1x256x256"),
    bad("empty sizes", sizes(""), 2, "is no size"),
    bad("a word as sizes", sizes("big"), 2, "'big' is no size"),
    bad("commas", sizes("1,3,1,8,8"), 2, "is no size", "1x3x1x256x256"),
    bad("brackets", sizes("(1x3x1x8x8)"), 2, "is no size"),
    bad("negative size", sizes("-1x3x1x8x8"), 2, "'-1x3x1x8x8' is no size"),
    bad("negative size inside", sizes("1x3x-1x8x8"), 2, "is no size"),
    bad("broken size", sizes("1x3x1.5x8x8"), 2, "is no size"),
    bad("size with an exponent", sizes("1x3x1e2x8"), 2, "is no size"),
    bad("size in base sixteen", sizes("0xffx1"), 2, "is no size"),
    bad("missing size", sizes("1x3xx8x8"), 2, "is no size"),
    bad("size left open", sizes("1x3x1x8x"), 2, "is no size"),
    bad("digits of another script", sizes("１x３x１x８x８"), 2, "is no size"),
    bad("arabic digits", sizes("١x٣x١x٨x٨"), 2, "is no size"),
    bad("space inside", sizes("1x3 x1x8x8"), 2, "is no size"),
    bad("terminal code in sizes", sizes("1x\x1b[2J3"), 2, "\\x1b[2J"),
    bad("size of thirteen digits", sizes("1x3x1x8x1000000000000"), 2, "is no size"),
    bad("size of 5000 digits", sizes("1x" + "9" * 5000), 2, "(5,002 characters)"),
    bad("more elements than a 64-bit number", sizes("999999999999x999999999999"), 2, "elements", "smaller"),
    bad("2³¹ elements", sizes("2147483648"), 2, "2,147,483,648 elements"),
    bad("elements that wrap to few", sizes("65536x65536x65536x65536"), 2, "elements"),
    bad("two halves of too much", ["fold", *["--input", "1073741824"] * 2, "models.py:net"], 2, "2 inputs have 2,147,483,648 elements together"),
    bad("three thousand inputs", ["fold", *["--input", "1x3x1x8x8"] * 3000, "models.py:net"], 2, "signature"),
    bad("seventeen axes", sizes("x".join("1" * 17)), 2, "17 axes"),
    bad("size of nothing", sizes("1x3x1x0x8"), 2, "(1, 3, 1, 0, 8)"),
    bad("no channels", sizes("1x0x1x8x8"), 2, "(1, 0, 1, 8, 8)"),
    bad("too few axes", sizes("3x16"), 2, "(3, 16)"),
    bad("wrong channels", sizes("1x4x1x8x8"), 2, "(1, 4, 1, 8, 8)"),
    bad("unknown type", sizes("1x3x1x8x8:half2"), 2, "half2", "float32"),
    bad("a module as type", sizes("1x3x1x8x8:nn"), 2, "no dtype 'nn'"),
    bad("a function as type", sizes("1x3x1x8x8:load"), 2, "no dtype 'load'"),
    bad("empty type", sizes("1x3x1x8x8:"), 2, "is no size"),
    bad("type that has no numbers", sizes("1x3x1x8x8:bits8"), 2, "bits8", "Pass an example"),
    bad("quantised type", sizes("1x3x1x8x8:qint8"), 2, "qint8", "cannot be made"),
    bad("type that the model does not take", sizes("1x3x1x8x8:int64"), 2, "int64"),
    bad("complex type", sizes("1x3x1x8x8:complex64"), 3, "complex"),
    bad("unknown argument", sizes("y=1x3x1x8x8"), 2, "signature", "'input'"),
    bad("argument given twice", ["fold", "--input", "x=1x3x1x8x8", "--input", "x=1x3x1x9x9", "models.py:net"], 2, "x=… is given more than once"),
    bad("one argument too many", ["fold", *SIZES, *SIZES, "models.py:net"], 2, "signature"),
    bad("argument with a dot", sizes("a.b=1x3"), 2, "is no size"),
    bad("picture that is none", ["fold", "--image", "text.txt", "models.py:net"], 2, "text.txt", "cannot be read as a picture"),
    bad("picture that is not there", ["fold", "--image", "none.png", "models.py:net"], 2, "there is no file 'none.png'"),
    bad("picture that is a folder", ["fold", "--image", "full", "models.py:net"], 2, "is a folder"),
    bad("unknown method", fold("models.py:net", "--method", "decode"), 2, "no method 'decode'"),
    bad("method with a terminal code", fold("models.py:net", "--method", "\x1b[2J"), 2, "\\x1b[2J"),
    bad("method of Python's own", fold("models.py:net", "--method", "__init__"), 2, "__init__", "name of a method"),
    bad("unknown way of weights", fold("models.py:net", "--weights", "new"), 2, "folded or shared"),
]  # fmt: skip

MODELS_AND_PLACES = [
    bad("branch on the data", fold("models.py:branch"), 3, "cannot be captured"),
    bad("random numbers", fold("models.py:noisy"), 3, "random numbers"),
    bad("complex weights", fold("models.py:complex_"), 3, "complex"),
    bad("hostile module name", fold("models.py:hostile"), 3, "\\x1b[2J", "rename it"),
    bad("model ends the process", fold("models.py:leaves"), 2, "ended the process", "SystemExit"),
    bad("model remembers", fold("models.py:forgetful"), 4, "Nothing was written"),
    bad("output is a file", fold("models.py:net", "-o", "text.txt"), 2, "text.txt", "is a file"),
    bad("output under a file", fold("models.py:net", "-o", "text.txt/out"), 2, "cannot be written to"),
    bad("output has files in it", fold("models.py:net", "-o", "full"), 2, "not empty", "--force"),
    bad("output is a device", fold("models.py:net", "-o", "/dev/null"), 2, "/dev/null", "is a file"),
    bad("output under a device", fold("models.py:net", "-o", "/dev/null/out"), 2, "cannot be written to"),
    bad("output is a link to nothing", fold("models.py:net", "-o", "nowhere"), 2, "link to nothing"),
    bad("output is a pipe", fold("models.py:net", "-o", "pipe.py", "--force"), 2, "pipe.py"),
    bad("output with a very long name", fold("models.py:net", "-o", "o" * 300), 2, "cannot be written to", "too long"),
    bad("output with a nul", fold("models.py:net", "-o", "o\0ut"), 2, "--output", "null"),
    bad("output where nothing can be", fold("models.py:net", "-o", "/proc/flatconv"), 2, "/proc/flatconv", "cannot be written to"),
]  # fmt: skip

TABLE = [*SPECS, *INPUTS, *MODELS_AND_PLACES]
