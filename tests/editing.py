"""Looking things up in an ONNX model, and changing it in place; for tests."""

import numpy as np
from onnx import helper, numpy_helper


def nodes(model, *operators):
    return [node for node in model.graph.node if node.op_type in operators]


def made_by(model, name):
    return next((node for node in model.graph.node if name in node.output), None)


def takers(model, name):
    return [node for node in model.graph.node if name in node.input]


def is_constant(model, name):
    return any(tensor.name == name for tensor in model.graph.initializer)


def is_weight(model, dequantize):
    source = made_by(model, dequantize.input[0])
    return is_constant(model, dequantize.input[0] if source is None else source.input[0])


def activations(model):
    """Return the DequantizeLinear nodes of activations."""
    return [node for node in nodes(model, "DequantizeLinear") if not is_weight(model, node)]


def weights(model, *operators):
    """Return the DequantizeLinear nodes of the weights of some operators."""
    users = [node for node in nodes(model, *operators) if len(node.input) > 1]
    found = [made_by(model, user.input[1]) for user in users]
    return [one for one in found if one is not None and one.op_type == "DequantizeLinear" and is_weight(model, one)]


def value(model, name):
    return numpy_helper.to_array(next(tensor for tensor in model.graph.initializer if tensor.name == name))


def set_value(model, name, array):
    """Give a constant other values, for all who take it."""
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(array), name))


def new_constant(model, array):
    name = f"new_{len(model.graph.initializer)}"
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
    return name


def insert(model, before, operator, inputs, **attributes):
    """Put a node before another one, and return the name of what it makes."""
    name = f"new_{operator.lower()}_{len(model.graph.node)}"
    place = list(model.graph.node).index(before)
    model.graph.node.insert(place, helper.make_node(operator, inputs, [f"{name}_out"], name=name, **attributes))
    return f"{name}_out"
