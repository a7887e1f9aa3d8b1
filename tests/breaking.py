"""Ways to break one rule of TensorRT, each by changing a legal graph in one place.

A way takes a model, which it changes, and `pick`, which chooses among the places where it can.
"""

import numpy as np
from editing import activations, insert, made_by, new_constant, nodes, set_value, takers, value, weights
from onnx import TensorProto, helper


def taking(rewrite):
    """Return a way that puts nodes between a Relu, Clip or pool and what it takes."""

    def broken(model, pick):
        node = pick(nodes(model, "Relu", "Clip", "GlobalAveragePool"))
        node.input[0] = rewrite(model, node, node.input[0])

    return broken


def opset(version):
    def broken(model, pick):
        model.opset_import[0].version = version

    return broken


def newer_format(model, pick):
    model.ir_version = 11


def weights_elsewhere(model, pick):
    tensor = pick([one for one in model.graph.initializer if one.dims])
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")


@taking
def unknown_operator(model, node, name):
    return insert(model, node, "Selu", [name])


@taking
def foreign_operator(model, node, name):
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    return insert(model, node, "Relu", [name], domain="com.example")


@taking
def branch(model, node, name):
    kind = TensorProto.FLOAT
    branches = [
        helper.make_graph(
            [helper.make_node(operator, [name], ["chosen"])],
            operator,
            [],
            [helper.make_tensor_value_info("chosen", kind, None)],
        )
        for operator in ("Neg", "Abs")
    ]
    condition = new_constant(model, np.array(True))
    return insert(model, node, "If", [condition], then_branch=branches[0], else_branch=branches[1])


@taking
def boolean_indexing(model, node, name):
    picked = insert(model, node, "Compress", [name, new_constant(model, np.array([True]))], axis=0)
    return insert(model, node, "Add", [name, picked])


@taking
def positions_of_values(model, node, name):
    found = insert(model, node, "NonZero", [name])
    count = insert(model, node, "ReduceSum", [insert(model, node, "Cast", [found], to=TensorProto.FLOAT)], keepdims=0)
    return insert(model, node, "Add", [name, count])


@taking
def computed_shape(model, node, name):
    model.graph.input.append(helper.make_tensor_value_info("shape", TensorProto.INT64, [4]))
    return insert(model, node, "Expand", [name, "shape"])


def missing_tensor(model, pick):
    pick(nodes(model, "Relu", "Conv")).input[0] = "nobody_makes_this"


@taking
def sum_of_other_size(model, node, name):
    return insert(model, node, "Add", [name, new_constant(model, np.zeros((1, 8, 5, 5), np.float32))])


def open_height(model, pick):
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"


def no_shape(model, pick):
    model.graph.input[0].type.tensor_type.ClearField("shape")


@taking
def double(model, node, name):
    wide = insert(model, node, "Cast", [name], to=TensorProto.DOUBLE)
    wide = insert(model, node, "Mul", [wide, new_constant(model, np.float64(0.3))])
    return insert(model, node, "Cast", [wide], to=TensorProto.FLOAT)


def bytes_without_a_cast(model, pick):
    model.graph.input.append(helper.make_tensor_value_info("planes", TensorProto.UINT8, [1, 5]))
    last = model.graph.node[-1]
    index = insert(model, last, "ReduceMax", ["planes"], keepdims=0)
    last.input[0] = insert(model, last, "Mul", [last.input[0], insert(model, last, "Cast", [index], to=1)])


@taking
def whole_numbers(model, node, name):
    return insert(
        model, node, "Cast", [insert(model, node, "Cast", [name], to=TensorProto.INT64)], to=TensorProto.FLOAT
    )


def set_in_bias(number):
    def broken(model, pick):
        name = pick(nodes(model, "Conv")).input[2]
        array = value(model, name).copy()
        array[0] = number
        set_value(model, name, array)

    return broken


@taking
def two_float_types(model, node, name):
    return insert(model, node, "Add", [name, new_constant(model, np.float16(0.5))])


def weights_left_in_float32(model, pick):
    name = pick(nodes(model, "Conv")).input[1]
    set_value(model, name, value(model, name).astype(np.float32))


def clamp_at(number):
    def broken(model, pick):
        clip = next(node for node in nodes(model, "Clip") if len(node.input) == 2)
        set_value(model, clip.input[1], np.float16(number))

    return broken


def clamp_half_at_zero(model, pick):
    """Clamp at what 1e-8 is in float16, and divide by it."""
    last = model.graph.node[-1]
    clamped = insert(model, last, "Max", [last.input[0], new_constant(model, np.float16(1e-8))])
    last.input[0] = insert(model, last, "Div", [last.input[0], clamped])


def tiny_epsilon(model, pick):
    last = model.graph.node[-1]
    last.input[0] = insert(model, last, "Add", [last.input[0], new_constant(model, np.float16(1e-6))])


def tiny_half_scale(model, pick):
    name = pick(activations(model)).input[1]
    set_value(model, name, np.float16(3e-6))


def no_island(operator):
    def broken(model, pick):
        """Compute in float16 and cast behind it."""
        node = next(iter(nodes(model, operator)))
        cast = made_by(model, node.input[0])
        node.input[0] = cast.input[0]
        for taker in takers(model, node.output[0]):
            wide = insert(model, taker, "Cast", [node.output[0]], to=TensorProto.FLOAT)
            taker.input[:] = [wide if name == node.output[0] else name for name in taker.input]

    return broken


def zero_point_of_activation(number):
    def broken(model, pick):
        set_value(model, pick(activations(model)).input[2], np.int8(number))

    return broken


def zero_point_of_weights(model, pick):
    name = pick(weights(model, "Conv")).input[2]
    points = value(model, name).copy()
    points[-1] = 1
    set_value(model, name, points)


def quantized_to(dtype):
    def broken(model, pick):
        set_value(model, pick(activations(model)).input[2], dtype(0))

    return broken


def no_zero_point(model, pick):
    del pick(nodes(model, "QuantizeLinear")).input[2]


def dequantized_bias(dtype):
    def broken(model, pick):
        conv = pick(nodes(model, "Conv"))
        stored = new_constant(model, np.ones(value(model, conv.input[2]).shape, dtype))
        scale = new_constant(model, np.float32(0.01))
        conv.input[2] = insert(model, conv, "DequantizeLinear", [stored, scale])

    return broken


def scale_from_data(model, pick):
    dequantize = pick(activations(model))
    quantize = made_by(model, dequantize.input[0])
    largest = insert(model, quantize, "ReduceMax", [insert(model, quantize, "Abs", [quantize.input[0]])], keepdims=0)
    scale = insert(model, quantize, "Div", [largest, new_constant(model, np.float32(127))])
    quantize.input[1] = dequantize.input[1] = scale


def scale_of(number):
    def broken(model, pick):
        name = pick(activations(model)).input[1]
        set_value(model, name, value(model, name).dtype.type(number))

    return broken


def one_channel_scale_zero(model, pick):
    name = pick(weights(model, "Conv")).input[1]
    scales = value(model, name).copy()
    scales[3] = 0
    set_value(model, name, scales)


@taking
def float32_scale_in_half(model, node, name):
    numbers = [new_constant(model, np.float32(0.1)), new_constant(model, np.int8(0))]
    stored = insert(model, node, "QuantizeLinear", [name, *numbers])
    wide = insert(model, node, "DequantizeLinear", [stored, *numbers])
    return insert(model, node, "Cast", [wide], to=TensorProto.FLOAT16)


def other_scale_back(model, pick):
    dequantize = pick(activations(model))
    dequantize.input[1] = new_constant(model, value(model, dequantize.input[1]) * 2)


def other_axis_back(model, pick):
    """Quantize float weights along the second axis, dequantize along the first."""
    dequantize = pick([one for one in weights(model, "Conv") if made_by(model, one.input[0]) is not None])
    made_by(model, dequantize.input[0]).attribute[0].i = 1


def axis_of_weights(operator, axis):
    """Scale weights along another axis, at both ends of a pair; None leaves ONNX's own, which is 1."""

    def broken(model, pick):
        dequantize = pick([one for one in weights(model, operator) if len(set(_shape(model, one)[:2])) == 1])
        for node in filter(None, (dequantize, made_by(model, dequantize.input[0]))):
            del node.attribute[:]
            if axis is not None:
                node.attribute.append(helper.make_attribute("axis", axis))

    return broken


def _shape(model, dequantize):
    quantize = made_by(model, dequantize.input[0])
    return value(model, dequantize.input[0] if quantize is None else quantize.input[0]).shape


def too_few_scales(model, pick):
    dequantize = pick(weights(model, "Conv"))
    for position in (1, 2):
        set_value(model, dequantize.input[position], value(model, dequantize.input[position])[:-1])


def one_scale_for_weights(model, pick):
    dequantize = pick(weights(model, "Conv"))
    for position in (1, 2):
        set_value(model, dequantize.input[position], value(model, dequantize.input[position])[0])


def scale_per_channel_of_activation(model, pick):
    dequantize = pick([one for one in activations(model) if _has_channels(model, one)])
    for position in (1, 2):
        set_value(model, dequantize.input[position], np.repeat(value(model, dequantize.input[position]), 8))


def _has_channels(model, dequantize):
    """Say whether an activation has eight channels in its second dimension of four."""
    source = made_by(model, made_by(model, dequantize.input[0]).input[0])
    return source is not None and source.op_type in ("Relu", "Clip", "Add", "Conv")


def quantized_output(model, pick):
    name = pick([one for one in activations(model) if _has_channels(model, one)]).input[0]
    model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.INT8, [None] * 4))


def quantized_to_nowhere(model, pick):
    last = model.graph.node[-1]
    numbers = [new_constant(model, np.float32(0.1)), new_constant(model, np.int8(0))]
    insert(model, last, "QuantizeLinear", [pick(nodes(model, "Relu", "Clip", "Conv")).output[0], *numbers])


def quantized_input(model, pick):
    model.graph.input.append(helper.make_tensor_value_info("bytes", TensorProto.INT8, [1, 5]))
    last = model.graph.node[-1]
    scale = new_constant(model, np.float32(0.1))
    wide = insert(model, last, "DequantizeLinear", ["bytes", scale])
    last.input[0] = insert(model, last, "Add", [last.input[0], wide])


def activation_from_before_its_pair(model, pick):
    conv = pick([one for one in nodes(model, "Conv", "Gemm") if _is_quantized(model, one)])
    conv.input[0] = made_by(model, made_by(model, conv.input[0]).input[0]).input[0]


def weights_in_float(model, pick):
    conv = pick([one for one in nodes(model, "Conv", "Gemm") if _is_quantized(model, one)])
    conv.input[1] = new_constant(model, np.zeros(_shape(model, made_by(model, conv.input[1])), np.float32))


def _is_quantized(model, node):
    makers = [made_by(model, name) for name in node.input[:2]]
    return all(maker is not None and maker.op_type == "DequantizeLinear" for maker in makers)


def pair_before_activation(model, pick):
    node = pick(
        [one for one in nodes(model, "Relu", "Clip") if made_by(model, one.input[0]).op_type in ("Conv", "Add")]
    )
    node.input[0] = _pair(model, node, node.input[0])


def pairs_on_both_addends(model, pick):
    add = pick(nodes(model, "Add"))
    position = next(n for n, name in enumerate(add.input) if made_by(model, name).op_type == "Conv")
    add.input[position] = _pair(model, add, add.input[position])


def _pair(model, node, name):
    numbers = [new_constant(model, np.float32(0.1)), new_constant(model, np.int8(0))]
    return insert(model, node, "DequantizeLinear", [insert(model, node, "QuantizeLinear", [name, *numbers]), *numbers])


def float_skip(model, pick):
    add = pick([one for one in nodes(model, "Add") if _is_quantized_after(model, one.output[0])])
    position = next(n for n, name in enumerate(add.input) if made_by(model, name).op_type == "DequantizeLinear")
    add.input[position] = made_by(model, made_by(model, add.input[position]).input[0]).input[0]


def _is_quantized_after(model, name):
    behind = [taker for one in takers(model, name) if one.op_type == "Relu" for taker in takers(model, one.output[0])]
    return any(one.op_type == "QuantizeLinear" for one in (*takers(model, name), *behind))
