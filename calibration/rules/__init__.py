"""What a graph must keep to so that TensorRT reads it, builds it well, and answers as the FP32 graph does.

Each rule has a name, says why it is there and what to do; docs/tensorrt-rules.md lists them. Needs NumPy and onnx.
"""

from onnx import ModelProto

from calibration.rules import form, placement, scales, values
from calibration.rules.view import look_up
from calibration.rules.violation import Rule as Rule
from calibration.rules.violation import Violation as Violation

FORM = (
    Rule(
        name="opset",
        severity="error",
        forbids="an opset below 13 or above 20",
        why="TensorRT 10.3 reads up to 20, and Q/DQ per channel begins with 13",
        fix="export at opset 20",
        find=form.opset,
    ),
    Rule(
        name="ir-version",
        severity="error",
        forbids="an IR version above 10",
        why="the parser of TensorRT 10.3 is as old as opset 20",
        fix="save with ir_version 10",
        find=form.ir_version,
    ),
    Rule(
        name="external-data",
        severity="error",
        forbids="weights in a file beside the graph",
        why="a bundle hashes and hands over each graph as one file",
        fix="save the model in one file",
        find=form.external_data,
    ),
    Rule(
        name="unsupported-operator",
        severity="error",
        forbids="an operator that no graph of ours has built with",
        why="TensorRT knows fewer operators than ONNX, and each release others",
        fix="write it with the operators of calibration/rules/form.py",
        find=form.unsupported_operator,
    ),
    Rule(
        name="control-flow",
        severity="error",
        forbids="If, Loop and Scan",
        why="they cannot be captured in a CUDA graph, and hide their nodes from every check",
        fix="export a network without branches on values",
        find=form.control_flow,
    ),
    Rule(
        name="data-dependent-shape",
        severity="error",
        forbids="shapes that follow from values, as boolean indexing makes them",
        why="memory cannot be laid out before the flight",
        fix="multiply by a mask instead of picking, and give shapes as constants",
        find=form.data_dependent_shape,
    ),
    Rule(
        name="invalid-graph",
        severity="error",
        forbids="what ONNX's own checker refuses",
        why="no parser need read it, and the rules below cannot judge it",
        fix="export again; report it if this project's export wrote it",
        find=form.invalid_graph,
    ),
)
"""Rules that can be asked of any model, however broken."""

SUBSTANCE = (
    Rule(
        name="dynamic-dimension",
        severity="error",
        forbids="an input with an open dimension other than the batch",
        why="INT8 kernels are chosen for known shapes, and a profile would be needed for each",
        fix="fix all dimensions but the first at export",
        find=form.dynamic_dimension,
    ),
    Rule(
        name="unsupported-type",
        severity="error",
        forbids="float64, bfloat16 and other types beside float32, float16, int32, int64, bool; uint8 but for an input",
        why="TensorRT casts float64 down or refuses it, and takes uint8 only where a Cast follows an input",
        fix="cast weights to float32 at export, and images at once after the input",
        find=values.unsupported_type,
    ),
    Rule(
        name="int64-data",
        severity="warning",
        forbids="int64 computed from data",
        why="there are no fast kernels for it, and releases before 10 cast it to int32",
        fix="compute in int32 or float32",
        find=values.int64_data,
    ),
    Rule(
        name="non-finite-weight",
        severity="error",
        forbids="NaN or infinity in a constant",
        why="one of them spreads to every answer; in float16 it is often a number above 65504",
        fix="export again from sound weights, and keep large constants in float32",
        find=values.non_finite_weight,
    ),
    Rule(
        name="mixed-types",
        severity="error",
        forbids="float16 and float32 at one node",
        why="a strongly typed network casts nothing by itself: the parser refuses",
        fix="put a Cast before one of its inputs",
        find=values.mixed_types,
    ),
    Rule(
        name="fp16-underflow",
        severity="error",
        forbids="a float16 constant below 1e-4 that guards from zero, or a float16 scale below 6.1e-5",
        why="float16 loses digits there, then is zero, and the logarithm or quotient is infinite",
        fix="clamp at 1e-4 or above, or keep this part in float32",
        find=values.fp16_underflow,
    ),
    Rule(
        name="fp16-softmax",
        severity="warning",
        forbids="Softmax, LogSoftmax, Exp and Log in float16",
        why="entropies, hence fusion weights, lose three digits, for hardly any time saved",
        fix="cast to float32 before and back after",
        find=values.fp16_softmax,
    ),
    Rule(
        name="zero-point",
        severity="error",
        forbids="a zero point that is not 0",
        why="TensorRT quantizes symmetrically: the parser refuses",
        fix="quantize symmetrically: scale = largest magnitude / 127, zero point 0",
        find=scales.zero_point,
    ),
    Rule(
        name="quantized-type",
        severity="error",
        forbids="uint8, int16 or anything but int8 between Q and DQ",
        why="int8 is what both TensorRT 10.3 and Orin compute in",
        fix="quantize to int8 with an int8 zero point of 0",
        find=scales.quantized_type,
    ),
    Rule(
        name="quantized-bias",
        severity="error",
        forbids="a bias behind DequantizeLinear, as int32 or at all",
        why="the parser refuses int32 there; TensorRT quantizes the bias by itself",
        fix="keep the bias in float",
        find=scales.quantized_bias,
    ),
    Rule(
        name="computed-scale",
        severity="error",
        forbids="a scale or zero point that is not a constant",
        why="scales are built into the kernels",
        fix="calibrate, and store scales as initializers",
        find=scales.computed_scale,
    ),
    Rule(
        name="scale-value",
        severity="error",
        forbids="a scale that is zero, negative, infinite or NaN",
        why="it maps everything to nothing",
        fix="give a channel or tensor that is all zero a small positive scale",
        find=scales.scale_value,
    ),
    Rule(
        name="scale-type",
        severity="error",
        forbids="a scale of another float type than what it scales, or a float16 one before opset 19",
        why="a strongly typed network takes the type of a tensor from its scale",
        fix="give the scale the type of the tensor, at opset 20",
        find=scales.scale_type,
    ),
    Rule(
        name="scale-mismatch",
        severity="error",
        forbids="a DequantizeLinear with another scale or axis than its QuantizeLinear",
        why="the tensor comes out stretched",
        fix="give both the same scale, type and axis",
        find=scales.scale_mismatch,
    ),
    Rule(
        name="weight-axis",
        severity="error",
        forbids="weights with scales along another axis than their output channels",
        why="kernels scale output channels: axis 0 of Conv and Gemm with transB, 1 of ConvTranspose, last of MatMul",
        fix="set `axis` (ONNX's default is 1), with one scale per output channel",
        find=scales.weight_axis,
    ),
    Rule(
        name="per-tensor-weights",
        severity="warning",
        forbids="one scale for all the channels of a weight",
        why="it costs accuracy and saves no time",
        fix="quantize weights per output channel",
        find=scales.per_tensor_weights,
    ),
    Rule(
        name="per-channel-activation",
        severity="error",
        forbids="several scales for an activation",
        why="TensorRT has kernels for one",
        fix="quantize activations per tensor",
        find=scales.per_channel_activation,
    ),
    Rule(
        name="lone-quantize",
        severity="error",
        forbids="a QuantizeLinear without DequantizeLinear",
        why="TensorRT merges pairs; there are no INT8 operators in ONNX that it reads",
        fix="put DequantizeLinear after it, or drop it",
        find=placement.lone_quantize,
    ),
    Rule(
        name="lone-dequantize",
        severity="error",
        forbids="a DequantizeLinear of an input or of anything but a QuantizeLinear or a constant",
        why="TensorRT merges pairs",
        fix="quantize inside of the graph, or drop it",
        find=placement.lone_dequantize,
    ),
    Rule(
        name="float-activation",
        severity="error",
        forbids="quantized weights that meet a float activation",
        why="they lose accuracy, and the operator still computes in float",
        fix="quantize the activation too, or keep the weights in float",
        find=placement.float_activation,
    ),
    Rule(
        name="float-weights",
        severity="error",
        forbids="a quantized activation that meets a float operand",
        why="it loses accuracy, and the operator still computes in float",
        fix="quantize the other operand too, or take the activation from before its Q/DQ",
        find=placement.float_weights,
    ),
    Rule(
        name="split-fusion",
        severity="warning",
        forbids="Q/DQ between an operator and its activation, or on both addends of a residual Add",
        why="it keeps TensorRT from merging them: the usual cause of INT8 slower than FP16",
        fix="quantize after the activation, and the skip branch alone of an Add",
        find=placement.split_fusion,
    ),
    Rule(
        name="unquantized-skip",
        severity="warning",
        forbids="a float skip branch into a residual Add between INT8 operators",
        why="Conv, Add and activation then cannot stay in INT8 together",
        fix="put one Q/DQ on the skip branch",
        find=placement.unquantized_skip,
    ),
)
"""Rules that need a model which can be walked."""

LAST = Rule(
    name="contradiction",
    severity="error",
    forbids="shapes or types that do not fit each other",
    why="the parser refuses, or the builder ends the process",
    fix="export again; report it if this project's export wrote it",
    find=form.contradiction,
)
"""ONNX's own verdict on types and shapes: asked for where no rule has found an error, since rules say it better."""

RULES = (*FORM, *SUBSTANCE, LAST)


def check_graph(model: ModelProto) -> list[Violation]:
    """Return every place where a model breaks a rule, rule by rule; a broken model is asked for its form alone."""
    view = look_up(model)
    rules = FORM if form.complaint(model) is not None else (*FORM, *SUBSTANCE)
    found = [violation for rule in rules for violation in rule.judge(view)]
    if not any(violation.severity == "error" for violation in found):
        found += LAST.judge(view)
    return found
