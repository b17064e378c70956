# /// script
# requires-python = ">=3.10"
# dependencies = ["torch", "onnx", "onnxruntime", "numpy"]
# ///
"""How fast are the dense products that people would run instead? torch, oneDNN and ONNX Runtime.

    pip install torch onnx onnxruntime numpy
    python xtask/peers/dense.py --out peers.csv
    ONEDNN_MAX_CPU_ISA=AVX2 python xtask/peers/dense.py --out peers-avx2.csv
    cargo xtask bench --peers peers.csv --peers peers-avx2.csv

y = x W^T with W [rows, cols] constant and x [tokens, cols], every library as it runs fastest:

    torch_f32                 F.linear (MKL)
    torch_bf16                F.linear in bf16 (oneDNN, with avx512_bf16 or amx where there is any)
    torch_mkldnn_packed_f32   oneDNN, the weight reordered once before
    ort_f32                   ONNX Runtime, MatMul with a constant weight, which it packs at load

With ONEDNN_MAX_CPU_ISA=AVX2 only oneDNN's f32 product is held to AVX2, so that only it is measured, as
onednn_avx2_f32. For rows on two threads, run it once more with --threads 2. All have a turn in every round, timed over some milliseconds after a call to warm up.
"""

import argparse
import math
import os
import sys
import time

COLUMNS = "shape,tokens,threads,impl,min_ms,med_ms,gflops_min,gflops_med"
# Threads of the last turn's library spin before they sleep, on the cores that this turn needs.
PAUSE = 0.05
# Without arguments: every shape and number of tokens that `cargo xtask bench` measures without arguments.
SMALL = ["3072x768", "768x3072", "1536x384", "384x1536", "384x384"]
LARGE = ["4096x4096", "11008x4096"]
USUAL = [(shape, [16, 32, 64, 128, 512]) for shape in SMALL] + [(shape, [1, 128, 512]) for shape in LARGE]
USUAL[0] = ("3072x768", [1, 16, 32, 64, 128, 512])


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    whole = lambda text: [int(one) for one in text.split(",")]
    parser.add_argument("--shapes", type=lambda text: text.split(","), metavar="ROWSxCOLS,...")
    parser.add_argument("--tokens", type=whole, metavar="N,...")
    parser.add_argument("--threads", type=int, default=1, metavar="N")
    parser.add_argument("--rounds", type=int, default=15, metavar="N")
    parser.add_argument("--seconds", type=float, default=0.005, help="of a turn, at least")
    parser.add_argument("--out", metavar="FILE.csv", help="default: standard output")
    args = parser.parse_args()
    if args.threads < 1 or args.rounds < 1:
        parser.error("--threads and --rounds are at least 1")
    if args.shapes is None and args.tokens is None:
        args.cases = USUAL
    else:
        args.cases = [(shape, args.tokens or [1, 16, 128, 512]) for shape in args.shapes or ["3072x768"]]
    try:
        args.cases = [(tuple(int(side) for side in shape.split("x")), tokens) for shape, tokens in args.cases]
        if any(len(shape) != 2 or min(*shape, *tokens) < 1 for shape, tokens in args.cases):
            raise ValueError
    except ValueError:
        parser.error("a shape is ROWSxCOLS, and tokens are at least 1")
    return args


ARGS = arguments()
# Read by the libraries when they are imported.
os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(ARGS.threads)

import numpy  # noqa: E402
import onnx  # noqa: E402
import onnxruntime  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(ARGS.threads)


def onnx_product(weight, tokens):
    """A session that multiplies with this weight, and packs it when it is loaded."""
    rows, cols = weight.shape
    float_type = onnx.TensorProto.FLOAT
    constant = onnx.numpy_helper.from_array(numpy.ascontiguousarray(weight.numpy().T), "w")
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "w"], ["y"])],
        "product",
        [onnx.helper.make_tensor_value_info("x", float_type, [tokens, cols])],
        [onnx.helper.make_tensor_value_info("y", float_type, [tokens, rows])],
        [constant],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)])
    model.ir_version = 8  # older runtimes read it too
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = ARGS.threads
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def contenders(weight, tokens):
    """Name and product of everybody who multiplies here."""
    x = torch.randn(tokens, weight.shape[1])
    reordered = torch.ops.mkldnn._reorder_linear_weight(weight, tokens)
    packed = lambda: torch.ops.mkldnn._linear_pointwise(x, reordered, None, "none", [], "")
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper()
    if limit == "AVX2":
        all_of_them = {"onednn_avx2_f32": packed}
    elif limit:
        sys.exit(f"ONEDNN_MAX_CPU_ISA is {limit}: leave it unset, or set it to AVX2")
    else:
        half_weight, half_x = weight.bfloat16(), x.bfloat16()
        session, inputs = onnx_product(weight, tokens), {"x": x.numpy()}
        all_of_them = {
            "torch_f32": lambda: torch.nn.functional.linear(x, weight),
            "torch_bf16": lambda: torch.nn.functional.linear(half_x, half_weight),
            "torch_mkldnn_packed_f32": packed,
            "ort_f32": lambda: torch.from_numpy(session.run(None, inputs)[0]),
        }
    exact = x.double() @ weight.double().T
    for name, product in all_of_them.items():
        error = (product().double() - exact).abs().max().item()
        largest = exact.abs().max().item() * (2e-2 if name.endswith("bf16") else 1e-4)
        if not error <= largest:
            sys.exit(f"{name} is wrong by {error}")
    return all_of_them


def timed(product):
    """Seconds of one call: the mean over a turn, after a call to warm up."""
    if ARGS.threads > 1:
        time.sleep(PAUSE)
    start = time.perf_counter()
    product()
    one = time.perf_counter() - start
    start, calls, took = time.perf_counter(), 0, 0.0
    while calls == 0 or took < ARGS.seconds:
        more = max(1, math.ceil((ARGS.seconds - took) / max(one, 1e-9)))
        for _ in range(more):
            product()
        calls += more
        took = time.perf_counter() - start
        one = took / calls
    return one


def main():
    out = open(ARGS.out, "w") if ARGS.out else sys.stdout
    print(COLUMNS, file=out)
    for (rows, cols), all_tokens in ARGS.cases:
        weight = torch.randn(rows, cols) / cols**0.5
        for tokens in all_tokens:
            with torch.inference_mode():
                products = contenders(weight, tokens)
                seconds = {name: [] for name in products}
                for _ in range(ARGS.rounds):
                    for name, product in products.items():
                        seconds[name].append(timed(product))
            for name, times in seconds.items():
                figures = min(times), float(numpy.median(times))
                ms = ",".join(f"{figure * 1e3:.4f}" for figure in figures)
                gflops = ",".join(f"{2e-9 * rows * cols * tokens / figure:.1f}" for figure in figures)
                print(f"{rows}x{cols},{tokens},{ARGS.threads},{name},{ms},{gflops}", file=out, flush=True)
                if ARGS.out:
                    print(f"{rows}x{cols}, {tokens} tokens, {name}: {gflops.split(',')[1]} GFLOP/s")


main()
