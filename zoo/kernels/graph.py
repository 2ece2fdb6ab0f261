"""The LSTM recurrence as a graph of few operations, for inference in a SavedModel.

A server runs a graph operation by operation, and at small batches an operation costs more to start than to compute.
For sigmoid gates with tanh, TensorFlow has one operation for all steps, `BlockLSTM`. It multiplies by W at every step,
so a large W is treated like other activations: everything that needs no state is computed for all steps at once, and
the loop runs several steps an iteration:

    z = x @ W + b                              all steps in one product, time-major: (steps * batch, 4 * units)
    K steps an iteration:
        h, c = step(z_t + h @ U, c)            K times; `zoo.kernels.reference.lstm_step`

A mask adds no operation to a step. The valid steps of each row are moved to its front, so every row is valid up to its
end. `BlockLSTM` returns the states of all steps, from which each row's last is taken. The loop runs K steps an
iteration until the first row ends, and then single steps, which keep the state of a row that has ended:

    order  = argsort(not mask), stable         ends = sum(mask)
    K steps: t < min(ends)                     singles: t < max(ends);  h, c = where(t < ends, new, old)

At the end outputs move back to the places of the valid steps. Gates with the same activation do not share an operation:
cutting a tensor in two ways was measured to cost more than the one or two operations saved.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from zoo.kernels.contract import Operands, Options, Outputs, bound, unusual_gate
from zoo.kernels.loop import plain_lstm
from zoo.kernels.loop.products import product
from zoo.kernels.masking import masked_outputs, restore, valid_first
from zoo.kernels.reference import Function, lstm_step, split_gates
from zoo.kernels.target import vectorised
from zoo.types import Gates, Tensor

STEPS_AT_ONCE = (8, 1)  # steps an iteration, one loop each; the second runs the steps that the first leaves
LARGE = 2**17  # elements of W above which reading W at every step costs more than a loop of operations


def lstm(operands: Operands, options: Options) -> Outputs:
    """Run the recurrence of `zoo.kernels.reference.lstm_step` over a sequence; a `zoo.kernels.contract.Run`.

    With `options.compiled` there is one step an iteration, because under XLA an iteration costs almost nothing.
    """
    import tensorflow as tf

    if vectorised(operands.x) or _in_forward_mode(operands):  # not in a SavedModel: where the engine was named
        return plain_lstm(operands, options)
    x, mask = operands.x, operands.mask
    if options.go_backwards:
        x, mask = tf.reverse(x, [1]), None if mask is None else tf.reverse(mask, [1])
    run = _one_operation if _fits_one_operation(operands, options) else _loops
    if mask is None:
        return run(replace(operands, x=x), None, options)
    x, _, count = valid_first(x, mask)
    outputs, h, c = run(replace(operands, x=x), count[:, -1], options)
    if options.return_sequences:
        outputs = restore(outputs, count)
    return masked_outputs(outputs, mask, options.zero_output_for_mask, count), h, c


def _in_forward_mode(operands: Operands) -> bool:
    """Whether a `tf.autodiff.ForwardAccumulator` watches an operand of an eager call: tensor lists have no tangents."""
    import tensorflow as tf
    from tensorflow.python.eager import forwardprop_util

    tensors = [operands.x, operands.kernel, operands.recurrent_kernel, operands.h, operands.c]
    return tf.executing_eagerly() and bool(forwardprop_util.pack_tangents(tensors).tangents)


# === All steps: row r is valid before step `ends[r]`, or everywhere where `ends` is `None` ===


def _fits_one_operation(operands: Operands, options: Options) -> bool:
    """Whether `BlockLSTM` computes this, and faster than the loops."""
    # Measured with BlockLSTMV2 at batch 1: 2.3 to 6.7 times as fast as Keras's export; the loops 1.4 to 2.3 times.
    channels, columns = operands.kernel.shape
    return (
        unusual_gate(options.activations) is None
        and operands.dropout is None
        and options.cell_clip is None  # it clips a NaN to a number
        and operands.x.dtype == "float32"
        and columns % 8 == 0  # odd units in an odd batch make it copy rows and write to the server's log
        and channels * columns <= LARGE
        and not options.compiled
    )


def _one_operation(operands: Operands, ends: Tensor | None, options: Options) -> Outputs:
    import tensorflow as tf

    kernel, hidden, cell, bias = operands.kernel, operands.h, operands.c, operands.bias
    x, units = tf.transpose(operands.x, [1, 0, 2]), operands.recurrent_kernel.shape[0]
    if kernel.shape[0] % 2:  # with odd channels it would copy rows too
        x, kernel = tf.pad(x, [[0, 0], [0, 0], [0, 1]]), tf.pad(kernel, [[0, 1], [0, 0]])
    steps, batch, none = tf.shape(x)[0], tf.shape(x)[1], tf.zeros([units])
    if ends is None:
        ends = tf.fill([batch], steps)
    # Not BlockLSTMV2: TensorFlow has one gradient for both, and that reads the gates in the order of BlockLSTM.
    states = tf.raw_ops.BlockLSTM(
        seq_len_max=tf.cast(tf.clip_by_value(tf.reduce_max(ends), 0, steps), tf.int64),  # also for a batch of no rows
        x=x,
        cs_prev=cell,
        h_prev=hidden,
        w=tf.reshape(_in_its_order([kernel, operands.recurrent_kernel], units), [-1, 4 * units]),
        b=tf.zeros([4 * units]) if bias is None else tf.reshape(_in_its_order([bias], units), [-1]),
        wci=none,
        wcf=none,
        wco=none,
        forget_bias=0.0,
        cell_clip=-1.0,  # no clipping
    )
    last = tf.maximum(ends - 1, 0) * batch + tf.range(batch)
    any_step = (ends > 0)[:, tf.newaxis]
    cell = tf.where(any_step, tf.gather(tf.reshape(states.cs, [-1, units]), last), cell)
    hidden = tf.where(any_step, tf.gather(tf.reshape(states.h, [-1, units]), last), hidden)
    return tf.transpose(states.h, [1, 0, 2]) if options.return_sequences else hidden, hidden, cell


def _in_its_order(kernels: list[Tensor], units: int) -> Tensor:
    """Join kernels (m, 4 * units) row by row, gates in the order i, c, f, o, in one copy: (rows, units)."""
    import tensorflow as tf

    blocks = [tf.reshape(kernel, [-1, units]) for kernel in kernels]
    ends = np.cumsum([block.shape[0] for block in blocks])
    order = np.arange(ends[-1]).reshape(-1, 4)[:, [0, 2, 1, 3]].ravel().astype("int32")
    return tf.dynamic_stitch(np.split(order, ends[:-1]), blocks)


def _loops(operands: Operands, ends: Tensor | None, options: Options) -> Outputs:
    import tensorflow as tf

    channels, x_factors, h_factors = operands.kernel.shape[0], None, None
    if operands.dropout is not None:
        x_factors, h_factors = operands.dropout[..., :channels], operands.dropout[..., channels:]
    batch, steps = tf.shape(operands.x)[0], tf.shape(operands.x)[1]
    by_rows = product(operands.kernel, x_factors, lambda x, kernel: tf.matmul(tf.reshape(x, [-1, channels]), kernel))
    z, times = by_rows(tf.transpose(operands.x, [1, 0, 2])), product(operands.recurrent_kernel, h_factors)
    if operands.bias is not None:
        z = tf.nn.bias_add(z, operands.bias)
    if ends is None and options.compiled:
        ends = tf.fill([batch], steps)  # XLA's code for a step with a choice in it was measured 1.6 times as fast
    longest = shortest = steps
    if ends is not None:  # the maximum and minimum over no rows have to be bounded too
        longest = tf.maximum(tf.reduce_max(ends), 0)
        shortest = tf.minimum(tf.reduce_min(ends), longest)
    done, hidden, cell, outputs = tf.constant(0), operands.h, operands.c, []
    functions = bound(options.activations, operands.slopes)
    for at_once in (1,) if options.compiled else STEPS_AT_ONCE:
        last = at_once == 1
        count = longest - done if last else (shortest - done) // at_once
        loop = _Loop(z, batch, at_once, done, ends if last else None, times, functions, options)
        # After the end of the longest row nothing is computed, and the outputs stay zeros.
        hidden, cell, rows = loop.run(count, hidden, cell, places=steps - done if last else count)
        outputs.append(rows)
        done = done + count * at_once
    if not options.return_sequences:
        return hidden, hidden, cell
    rows = tf.reshape(tf.concat(outputs, axis=0), [steps, batch, hidden.shape[-1]])
    return tf.transpose(rows, [1, 0, 2]), hidden, cell


class _Loop(NamedTuple):
    """A loop of `at_once` steps an iteration, from step `start`.

    Attributes:
        z: The inputs' part of the preactivations, (steps * batch, 4 * units).
        batch: Number of rows.
        at_once: Steps an iteration.
        start: The first step of the first iteration.
        ends: (batch,), the step from which a row keeps its state; `None` where no row ends in this loop.
        times: The product of h with U.
        functions: The activations as functions of one tensor.
        options: The options of the call.
    """

    z: Tensor
    batch: Tensor
    at_once: int
    start: Tensor
    ends: Tensor | None
    times: Function
    functions: Gates[Function]
    options: Options

    def run(self, count: Tensor, hidden: Tensor, cell: Tensor, places: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Run `count` iterations: h, c and, with `return_sequences`, h of `places` iterations as (rows, units)."""
        import tensorflow as tf

        units = hidden.shape[-1]
        variables, shapes = [tf.constant(0), hidden, cell], [[], [None, units], [None, units]]
        rows = {"element_shape": tf.stack([self.at_once * self.batch, units]), "element_dtype": cell.dtype}
        if self.options.return_sequences:
            variables.append(tf.raw_ops.TensorListReserve(num_elements=places, **rows))
            shapes.append([])
        _, hidden, cell, *kept = tf.while_loop(
            lambda index, *_: index < count,
            self._iteration,
            variables,
            shape_invariants=[tf.TensorShape(shape) for shape in shapes],
            parallel_iterations=1,  # each iteration needs the one before it
        )
        if not kept:
            return hidden, cell, None
        return hidden, cell, tf.reshape(tf.raw_ops.TensorListStack(input_handle=kept[0], **rows), [-1, units])

    def _iteration(self, index: Tensor, hidden: Tensor, cell: Tensor, *kept: Tensor) -> list[Tensor]:
        import tensorflow as tf

        done = self.start + index * self.at_once
        hiddens = []
        for z in self._of_each_step(done):
            # z = x W + b + h U
            new = lstm_step(
                split_gates(z + self.times(hidden)),
                cell,
                self.functions,
                self.options.cell_clip,
            )
            if self.ends is not None:
                valid = (done < self.ends)[:, tf.newaxis]
                new = tuple(tf.where(valid, after, before) for after, before in zip(new, (hidden, cell), strict=True))
            hidden, cell = new
            hiddens.append(hidden)
        if kept:
            rows = tf.concat(hiddens, axis=0) if self.at_once > 1 else hidden
            kept = (tf.raw_ops.TensorListSetItem(input_handle=kept[0], index=index, item=rows),)
        return [index + 1, hidden, cell, *kept]

    def _of_each_step(self, done: Tensor) -> list[Tensor]:
        """The z of each step of an iteration, (batch, 4 * units), without a copy: steps are contiguous in z."""
        import tensorflow as tf

        width = self.z.shape[-1]
        if self.at_once == 1:
            steps = [tf.slice(self.z, [done * self.batch, 0], [self.batch, width])]  # its size is known to XLA
        else:
            steps = tf.split(self.z[done * self.batch : (done + self.at_once) * self.batch], self.at_once, axis=0)
        for z in steps:
            z.set_shape([None, width])
        return steps
