"""Names that a module or parameter cannot have, because Python or every PyTorch module already uses them."""

from __future__ import annotations

import builtins
import keyword

MODULE_ATTRIBUTES = frozenset(
    [
        "T_destination",
        "add_module",
        "apply",
        "bfloat16",
        "buffers",
        "call_super_init",
        "children",
        "compile",
        "cpu",
        "cuda",
        "double",
        "dump_patches",
        "eval",
        "extra_repr",
        "float",
        "forward",
        "get_buffer",
        "get_extra_state",
        "get_parameter",
        "get_submodule",
        "half",
        "ipu",
        "load_state_dict",
        "modules",
        "mtia",
        "named_buffers",
        "named_children",
        "named_modules",
        "named_parameters",
        "parameters",
        "register_backward_hook",
        "register_buffer",
        "register_forward_hook",
        "register_forward_pre_hook",
        "register_full_backward_hook",
        "register_full_backward_pre_hook",
        "register_load_state_dict_post_hook",
        "register_load_state_dict_pre_hook",
        "register_module",
        "register_parameter",
        "register_state_dict_post_hook",
        "register_state_dict_pre_hook",
        "requires_grad_",
        "set_extra_state",
        "set_submodule",
        "share_memory",
        "state_dict",
        "to",
        "to_empty",
        "train",
        "training",
        "type",
        "xpu",
        "zero_grad",
    ]
)
"""The attributes of `torch.nn.Module`; a test compares the list with the installed PyTorch."""

_TAKEN = frozenset(
    {"self", "torch", "nn", "F", "Tensor", "x", "i", "j", "build_model", "init_weights", "model", "main"}
    | {"dist", "Sequence", "Iterator", "Any", "DeviceMesh", "draw_column", "DropPath"}
)


def label_problem(name: str) -> str | None:
    """Why a module cannot have a name, or None."""
    if keyword.iskeyword(name):
        return f"`{name}` is a word of Python"
    if name.startswith("_"):
        return f"`{name}` starts with an underscore, which PyTorch keeps for itself"
    if name in MODULE_ATTRIBUTES:
        return f"every PyTorch module has a `{name}` of its own"
    return None


def is_taken(name: str) -> bool:
    """Whether a variable, function or class of a generated file cannot have a name."""
    return name in _TAKEN or keyword.iskeyword(name) or keyword.issoftkeyword(name) or hasattr(builtins, name)


def spelled(name: str, fallback: str) -> str:
    """A name of the spec as one of a generated file: without underscores at its ends, to which Python gives a meaning.

    >>> spelled("__init__", "block"), spelled("_1", "block")
    ('init', 'block1')
    """
    name = name.strip("_")
    return name if name[:1].isalpha() else f"{fallback}{name}"
