"""ONNX Runtime: inference of the network as a graph of its own operators."""

import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from asv_bench.benchmarks.workloads import initial_weights

OPERATORS = {"relu": "Relu", "tanh": "Tanh"}
LAST_OPERATORS = {"binary_cross_entropy": "Sigmoid", "cross_entropy": "Softmax"}


def predictor(work, threads):
    weights, nodes, x = [], [], "x"
    layers = initial_weights(work)
    for index, (W, b) in enumerate(layers):
        weights += [numpy_helper.from_array(W, f"W{index}"), numpy_helper.from_array(b, f"b{index}")]
        nodes.append(helper.make_node("Gemm", [x, f"W{index}", f"b{index}"], [f"z{index}"]))
        last = index == len(layers) - 1
        operator = LAST_OPERATORS.get(work.loss) if last else OPERATORS[work.activation]
        x = f"z{index}"
        if operator:
            nodes.append(helper.make_node(operator, [x], [f"y{index}"]))
            x = f"y{index}"
    real = TensorProto.FLOAT if work.dtype == "float32" else TensorProto.DOUBLE
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", real, [None, work.sizes[0]])],
        [helper.make_tensor_value_info(x, real, [None, work.sizes[-1]])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return lambda rows: session.run(None, {"x": rows})[0]
