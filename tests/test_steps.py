"""The step of the generated train.py: what a GPU demands of it, held on a machine without one."""

from __future__ import annotations

import csv
import sys
import types
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from support import succeed
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from archdsl.driver import load

SMALL = """
net small on digits {{
  Conv(8, 3, 2) -> BatchNorm -> ReLU -> Dropout(0.1) -> GlobalAvgPool -> Linear(classes)
  train {{ epochs 3; batch_size 100; {} }}
}}
"""


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """The module of a train.py, with its arguments and, if torchrun starts it, its place among the processes."""

    def make(spec: str, *arguments: str, place: str | None = None, torchrun: bool = False) -> Any:
        if "\n" in spec:
            (tmp_path / "spec.arch").write_text(spec, encoding="utf-8")
            spec = str(tmp_path / "spec.arch")
        (compiled,) = load(spec, place)
        for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}.items():
            monkeypatch.setenv(name, value) if torchrun else monkeypatch.delenv(name, raising=False)
        model, train = types.ModuleType("model"), types.ModuleType("train")
        exec(compiled.model(), model.__dict__)
        monkeypatch.setitem(sys.modules, "model", model)
        train.__file__ = str(tmp_path / "train.py")
        exec(compiled.train(), train.__dict__)
        monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
        return train

    return make


# ---- devices


class Cuda:
    """Two GPUs that are not there: torch.cuda itself refuses what it refuses; only what would touch a card is apart."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.current: list[int] = []
        zeros = torch.zeros

        def made(*size: int, device: Any = "cpu", **rest: Any) -> Tensor:
            device = torch.device(device)
            if device.type == "cuda" and (device.index or 0) > 1:
                raise RuntimeError("CUDA error: invalid device ordinal\nCUDA kernel errors might be reported later.")
            return zeros(*size, **rest)

        monkeypatch.setattr(torch, "zeros", made)
        monkeypatch.setattr(torch._C, "_cuda_setDevice", self.current.append, raising=False)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        monkeypatch.setattr(torch.cuda, "Stream", lambda device: device)
        monkeypatch.setattr(torch.cuda, "set_stream", lambda stream: None)
        monkeypatch.setattr(torch.distributed, "init_process_group", lambda backend: None)
        for name in ("benchmark", "allow_tf32"):
            monkeypatch.setattr(torch.backends.cudnn, name, getattr(torch.backends.cudnn, name))


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cuda]:
    precision = torch.get_float32_matmul_precision()
    yield Cuda(monkeypatch)
    torch.set_float32_matmul_precision(precision)
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("torchrun", [False, True])
@pytest.mark.parametrize(
    ("arguments", "device"), [((), "cuda:0"), (("--device=cuda",), "cuda:0"), (("--device=cuda:1",), "cuda:1")]
)
def test_a_device_has_an_index(
    script: Callable[..., Any], cuda: Cuda, arguments: tuple[str, ...], device: str, torchrun: bool
) -> None:
    """What torch.cuda.set_device is given is a device with an index: by default, by name and under torchrun."""
    train = script("WRN(10, 1) on digits", *arguments, torchrun=torchrun)
    args = train.options()
    assert train.start(args) == torch.device(device)
    assert cuda.current == [torch.device(device).index]
    assert args.precision == "bf16" and train.why_no_graph(args) == ""


def test_other_devices(script: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    train = script("WRN(10, 1) on digits")
    assert train.find_device("cpu") == torch.device("cpu")
    with pytest.raises(RuntimeError, match="none of cpu, cuda"):
        train.find_device("opengl")
    zeros = torch.zeros
    monkeypatch.setattr(torch, "zeros", lambda *size, device: zeros(*size))
    for name in ("mps", "xpu"):
        with pytest.raises(RuntimeError, match=f"there is no {name} on this machine"):
            train.find_device(name)
        monkeypatch.setattr(torch.get_device_module(name), "is_available", lambda: True)
        assert train.find_device(name) == torch.device(name, 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    train.WORLD, train.LOCAL_RANK = 2, 1
    assert train.find_device("cuda") == torch.device("cuda", 1)
    with pytest.raises(RuntimeError, match="a device each"):
        train.find_device("cuda:0")


def test_a_split_chooses_its_devices(script: Callable[..., Any], cuda: Cuda) -> None:
    train = script("MultiResNet(8, k=2) on digits", place="split:2")
    assert train.find_device("cuda") == torch.device("cuda", 0)
    with pytest.raises(RuntimeError, match="leave its number out"):
        train.find_device("cuda:1")


@pytest.mark.parametrize("place", ["split:2", "mesh:2"])
def test_no_graph_where_none_is_recorded(script: Callable[..., Any], place: str) -> None:
    train = script("MultiResNet(8, k=2) on digits", place=place)
    assert not hasattr(train, "Step") and not hasattr(train, "WARM_UP")


def test_a_device_that_is_not_there(script: Callable[..., Any], cuda: Cuda) -> None:
    train = script("WRN(10, 1) on digits", "--device=cuda:7")
    with pytest.raises(SystemExit, match=r"^cannot use --device cuda:7: CUDA error: invalid device ordinal$"):
        train.start(train.options())


@pytest.mark.parametrize(
    ("precision", "tf32", "reason"),
    [
        ("fp32", False, ""),
        ("tf32", True, ""),
        ("bf16", True, ""),
        ("fp16", True, "fp16, whose update depends on whether gradients are finite"),
    ],
)
def test_precisions(script: Callable[..., Any], cuda: Cuda, precision: str, tf32: bool, reason: str) -> None:
    """fp32 is without TF32, in convolutions and in other products."""
    train = script("WRN(10, 1) on digits", f"--precision={precision}", "--deterministic")
    args = train.options()
    train.start(args)
    assert torch.backends.cudnn.allow_tf32 is tf32 and torch.backends.cudnn.benchmark is False
    assert torch.get_float32_matmul_precision() == ("high" if tf32 else "highest")
    assert torch.are_deterministic_algorithms_enabled()
    assert train.why_no_graph(args) == reason


def test_tf32_needs_a_gpu(script: Callable[..., Any]) -> None:
    train = script(SMALL.format("precision tf32"), "--device=cpu")
    with pytest.raises(SystemExit, match="--precision tf32 needs"):
        train.start(train.options())


@pytest.mark.parametrize(("place", "reason"), [("mesh:2", "a mesh"), ("split:2", "several devices"), ("fused", "")])
def test_placements_that_are_no_graph(script: Callable[..., Any], place: str, reason: str) -> None:
    train = script("MultiResNet(8, k=2) on digits", place=place)
    assert reason in train.why_no_graph(train.options())
    assert bool(reason) == bool(train.why_no_graph(train.options()))


# ---- the rules of a graph


class Tape(TorchDispatchMode):
    """The operations of a call, with the tensors that were there before it and the numbers that Python gave them."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[object, ...]] = []
        self.own: dict[int, Tensor] = {}
        """Tensors that the call has made, by where they are; they are held, so that no two share a place."""

    def __torch_dispatch__(self, function: Any, kinds: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("operation not permitted when stream is capturing: a number is read on the host")
        given, _ = tree_flatten((args, kwargs or {}))
        self.operations.append((str(function), *(self.about(value) for value in given)))
        result = function(*args, **(kwargs or {}))
        for tensor in tree_flatten(result)[0]:
            if isinstance(tensor, Tensor) and self.place(tensor) not in self.known:
                self.own[self.place(tensor)] = tensor
        return result

    @staticmethod
    def place(tensor: Tensor) -> int:
        return tensor.untyped_storage().data_ptr()

    def about(self, value: object) -> object:
        if not isinstance(value, Tensor):
            return value if isinstance(value, int | float | bool | str | type(None)) else str(value)
        if self.place(value) in self.own:
            return "made", tuple(value.shape), value.stride()
        self.known.add(self.place(value))
        return self.place(value), tuple(value.shape), value.stride()

    known: set[int]

    def __enter__(self) -> Tape:
        self.known = set()
        super().__enter__()
        return self


class Replayed:
    """What stands in for a graph: it calls the function again, which must do what it did at first."""

    def __init__(self, call: Callable[[], None]) -> None:
        self.call, self.first = call, None
        self.count = 0

    first: list[tuple[object, ...]] | None

    def replay(self) -> None:
        with Tape() as tape:
            self.call()
        self.count += 1
        if self.first is None:
            self.first = tape.operations
        for one, other in zip(self.first, tape.operations, strict=True):
            assert one == other, f"a graph would do {one}, and not {other}"


def recording(step: Any, replays: list[Replayed]) -> Any:
    """A train.py's Step whose graphs are stand-ins, recorded after two calls."""

    class Recorded(step):  # type: ignore[misc]
        def __init__(self, function: Callable[..., None], warm_up: int, together: bool) -> None:
            super().__init__(function, 2, together)

        def record(self, images: int, *inputs: Tensor) -> None:
            held = [tensor.clone() for tensor in inputs]
            replays.append(Replayed(partial(self.function, images, *held)))
            self.graphs[images] = replays[-1], held

    return Recorded


def weights(folder: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = torch.load(folder / "checkpoint.pt", weights_only=True)["model"]
    return found


HELD = {
    "dropout": (SMALL.format("crop_padding 1; milestones [1, 2]"), None),
    "smooth": (SMALL.format("accumulate 3; label_smoothing 0.1; schedule cosine"), None),
    "adamw": (SMALL.format("optimizer adamw; lr 0.001; milestones [1, 2]"), None),
    "masks": ("Swapout(8, 1) on fake", None),
    "paths": ("FractalNet(columns=2) on fake", None),
    "depth": ("StochasticDepth(8) on fake", None),
    "heads": ("DSN() on fake", None),
    "fused": ("MultiResNet(8, k=2) on fake", "fused"),
}


@pytest.mark.parametrize("name", HELD)
def test_a_step_obeys_the_rules_of_a_graph(
    name: str, script: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signals: None
) -> None:
    """The same tensors and numbers at every call, and nothing read on the host; and the run is the eager one."""
    spec, place = HELD[name]
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    for optimizer in ("SGD", "AdamW"):  # as on a GPU: not fused, they read the rate
        made = partial(getattr(torch.optim, optimizer))
        monkeypatch.setattr(torch.optim, optimizer, lambda *a, made=made, **k: made(*a, **k | {"fused": True}))
    replays: list[Replayed] = []
    for run in ("eager", "graph"):
        arguments = ("--epochs=2", "--batch-size=8", f"--run-dir={tmp_path / run}", "--device=cpu")
        train = script(spec, *arguments, place=place)
        torch.manual_seed(0)
        few = train.Data(*(tensor[:44] for tensor in train.load_data(train.options(), torch.device("cpu"))))
        train.load_data = lambda args, device, few=few: few
        if run == "graph":
            train.Step = recording(train.Step, replays)
        train.main()
    assert sum(replay.count for replay in replays) > 5
    torch.testing.assert_close(weights(tmp_path / "graph"), weights(tmp_path / "eager"), rtol=0, atol=0)


def test_what_the_stand_in_refuses() -> None:
    """It fails on what a graph would get wrong: a number read, a value that changes, a tensor that moves."""
    total, numbers = torch.zeros(3), iter(range(9))

    def reads() -> None:
        total.add_(1)
        total.sum().item()

    def changes() -> None:
        total.add_(next(numbers))

    def moves() -> None:
        nonlocal total
        total = total + 1

    with pytest.raises(RuntimeError, match="read on the host"):
        Replayed(reads).replay()
    for wrong in (changes, moves):
        replayed = Replayed(wrong)
        replayed.replay()
        with pytest.raises(AssertionError, match="a graph would do"):
            replayed.replay()


# ---- what fails


class Generator:
    """What a GPU's generator has, and a CPU's lacks."""

    def clone_state(self) -> Generator:
        return self

    def graphsafe_set_state(self, state: Generator) -> None:
        assert state is self


def test_a_recording_that_fails(
    script: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    signals: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One line says why; the run goes on, and is the one that it would have been."""

    def refuse() -> None:
        raise RuntimeError("operation not permitted when stream is capturing\nSearch for it in the manual.")

    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "default_generators", (Generator(),))
    monkeypatch.setattr(torch.cuda, "CUDAGraph", refuse)
    for run in ("eager", "graph"):
        train = script(SMALL.format("crop_padding 1; milestones [1, 2]"), f"--run-dir={tmp_path / run}", "--device=cpu")
        if run == "graph":
            train.Step = partial(lambda step, function, _, together: step(function, 3, together), train.Step)
        train.main()
    lines = [line for line in capsys.readouterr().out.splitlines() if "CUDA graph" in line]
    why = "operation not permitted when stream is capturing"
    assert lines == [f"no CUDA graph of train_batch for 100 images, it runs as it is written: {why}"]
    torch.testing.assert_close(weights(tmp_path / "graph"), weights(tmp_path / "eager"), rtol=0, atol=0)


@pytest.mark.parametrize("fails", [False, True])
def test_each_distinct_block_is_compiled_once(
    fails: bool,
    script: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    signals: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Deeper networks take no more compilations; evaluation and a last, shorter batch add none; nor does a failure."""
    graphs: list[object] = []
    counts = []

    def backend(graph: Any, inputs: Any) -> Any:
        if fails:
            raise ValueError("no compiler here\nmore")
        graphs.append(graph)
        return graph.forward

    compile_as_usual = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda self, **rest: compile_as_usual(self, **rest, backend=backend))
    try:
        for run, depth, flags in (("plain", 20, ()), ("compiled", 20, ("--compile",)), ("deeper", 32, ("--compile",))):
            torch._dynamo.reset()
            graphs.clear()
            spec = f"PreResNet({depth}) on fake"
            arguments = ("--epochs=1", "--batch-size=150", f"--run-dir={tmp_path / run}", "--device=cpu")
            script(spec, *arguments, *flags).main()
            counts.append(len(graphs))
    finally:
        torch.compiler.set_stance("default")
        torch._dynamo.reset()
    said = capsys.readouterr().out
    if fails:
        assert "--compile failed, the model runs as it is written: " in said and "no compiler here" in said
    else:
        assert "compiled 9 blocks in " in said and "compiled 15 blocks in " in said
        assert counts[0] == 0 < counts[1] == counts[2] <= 6
    torch.testing.assert_close(weights(tmp_path / "compiled"), weights(tmp_path / "plain"), rtol=0, atol=0)


def test_too_little_memory(
    script: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signals: None
) -> None:
    """The batch that would fit, by the compiler's prediction; nothing that was there is lost."""
    train = script("WRN(10, 1) on fake", f"--run-dir={tmp_path}", "--device=cpu", "--batch-size=256", "--epochs=1")
    train.main()
    before = (tmp_path / "checkpoint.pt").read_bytes()

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")

    at_rest, image = train.MEMORY_FULL
    free = at_rest + 100 * image
    data = 4 * (512 + 128) * 3 * 32 * 32 + 8 * (512 + 128)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (round(free / 0.9) + data, 0))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 0)
    monkeypatch.setattr(torch, "get_device_module", lambda device: torch.cuda)
    monkeypatch.setattr(train.Step, "__call__", full)
    monkeypatch.setattr(sys, "argv", [*sys.argv[:-1], "--epochs=2", "--resume"])
    with pytest.raises(SystemExit, match=r"^\n256 images in a step are too many for cpu: try --batch-size (99|100)$"):
        train.main()
    assert (tmp_path / "checkpoint.pt").read_bytes() == before
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10 * round(free / 0.9) + data, 0))
    with pytest.raises(SystemExit, match=r"try --batch-size 192$"):  # less than what has just failed
        train.main()
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (data, 0))
    with pytest.raises(SystemExit, match="not even one image fits"):
        train.main()


def test_images_a_second(script: Callable[..., Any], tmp_path: Path, signals: None) -> None:
    train = script(SMALL.format("crop_padding 1; milestones [1, 2]"), f"--run-dir={tmp_path}", "--device=cpu")
    train.main()
    with (tmp_path / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:  # an epoch has 1,437 images, and takes the time of its steps and of evaluation
        assert 0 < 1437 / float(row["images_per_second"]) <= float(row["seconds"]) * 1.001


def test_images_that_do_not_fit(script: Callable[..., Any], tmp_path: Path) -> None:
    train = script(SMALL.format("crop_padding 1"), f"--run-dir={tmp_path}", "--device=cpu")

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    train.load_data = full
    with pytest.raises(SystemExit, match=r"^cpu has too little memory for the images$"):
        train.main()


def test_too_few_images(script: Callable[..., Any], tmp_path: Path, signals: None) -> None:
    train = script(SMALL.format("crop_padding 1"), f"--run-dir={tmp_path}", "--device=cpu")
    data = train.load_data(train.options(), torch.device("cpu"))
    train.load_data = lambda args, device: train.Data(*(tensor[:1] for tensor in data))
    with pytest.raises(SystemExit, match=r"^1 images are too few: a step needs 2$"):
        train.main()


def test_metrics_without_a_checkpoint(script: Callable[..., Any], tmp_path: Path, signals: None) -> None:
    """--resume begins anew where there is no checkpoint, and puts the figures that are there aside."""
    train = script(SMALL.format("crop_padding 1"), f"--run-dir={tmp_path}", "--device=cpu", "--epochs=1")
    train.main()
    before = (tmp_path / "metrics.csv").read_bytes()
    for path in tmp_path.glob("checkpoint*"):
        path.unlink()
    sys.argv.append("--resume")
    train.main()
    (aside,) = tmp_path.glob("*.metrics.csv")
    assert aside.read_bytes() == before


CUT_OFF = """
import os
import sys
sys.path.insert(0, sys.argv.pop(1))
import torch
import train

torch.cuda.synchronize = lambda: None
torch.cuda.current_device = lambda: 0


class Generator:
    clone_state = graphsafe_set_state = lambda self, state=None: self


class Graph:
    def __init__(self):
        next(run.model.parameters()).register_hook(stop)  # the last gradient: others are on their way


def stop(*_):
    global failures
    failures += 1
    if failures == 1:
        raise RuntimeError("a collective cannot be captured")


class Recording:
    __enter__ = lambda self: self
    __exit__ = lambda self, *problem: None


failures = 0
torch.cuda.default_generators = (Generator(),)
torch.cuda.CUDAGraph = Graph
torch.cuda.graph = lambda *_, **__: Recording()
torch.cuda.current_stream = lambda: None
args = train.options()
device = train.start(args)
run = train.Run(args, device, train.load_data(args, device))
run.training_step.warm_up = 2
run.train()
train.say(f"ended with {failures} failures")
train.dist.barrier()  # no process leaves while another still listens
sys.stdout.flush()
os._exit(0)  # a thread of gloo can abort a process that is torn down (pytorch/pytorch 190489)
"""


def test_a_recording_that_fails_amid_an_exchange(tmp_path: Path) -> None:
    """Two processes, whose backward pass is cut off while they average gradients: both go on as written."""
    (tmp_path / "spec.arch").write_text(SMALL.format("crop_padding 1"), encoding="utf-8")
    succeed(sys.executable, "-m", "archdsl", "compile", tmp_path / "spec.arch", "-o", tmp_path / "net")
    driver = tmp_path / "driver.py"
    driver.write_text(CUT_OFF)
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    text = succeed(sys.executable, *torchrun, driver, tmp_path / "net", "--device=cpu", "--run-dir", tmp_path)
    assert "it runs as it is written: a collective cannot be captured" in text and "ended with" in text
