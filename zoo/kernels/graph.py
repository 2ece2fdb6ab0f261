"""The LSTM recurrence as a graph of few operations: what a SavedModel holds, for inference.

A server runs a graph one operation after the other, and at small batches an operation costs more to start than to
compute. Sigmoid gates with tanh are one operation of TensorFlow for all steps, `BlockLSTM`. It multiplies by W again
at every step, so a large W goes the way of every other activation: all that needs no state is computed for every step
at once, and the loop takes several steps an iteration:

    z = x @ W + b                              all steps in one product, time-major: (steps * batch, 4 * units)
    K steps an iteration:
        h, c = step(z_t + h @ U, c)            K times; `zoo.kernels.reference.lstm_step`

A mask costs no operation in either. The valid steps of each row are moved to its front, after which every row is
valid up to its end. The one operation keeps the states of all steps, among which each row's last is found. In the
loop, K steps at once run until the first row ends, single steps from there on, and only those hold an ended row:

    order  = argsort(not mask), stable         ends = sum(mask)
    K steps: t < min(ends)                     singles: t < max(ends);  h, c = where(t < ends, new, old)

Outputs go back to where the valid steps were. The gates are not put under shared operations: measured, cutting one
tensor in two ways costs more than the one or two operations that this saves.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from zoo.kernels.contract import unusual_gate
from zoo.kernels.reference import Function, lstm_step, split_gates
from zoo.types import Gates, Tensor

STEPS_AT_ONCE = (8, 1)  # steps an iteration, one loop each; what the first leaves over is for the next
LARGE = 2**17  # numbers in W above which reading W at every step costs more than a loop of operations


class Weights(NamedTuple):
    """The weights of an LSTM, gates in the order i, f, c, o, in the precision that it computes in.

    Attributes:
        kernel: W, (channels, 4 * units).
        recurrent_kernel: U, (units, 4 * units).
        bias: b, (4 * units,), or `None`.
    """

    kernel: Tensor
    recurrent_kernel: Tensor
    bias: Tensor | None


class GraphOptions(NamedTuple):
    """What an LSTM does with its steps; see `zoo.layers.LSTM`."""

    functions: Gates[Function]
    cell_clip: float | None = None
    go_backwards: bool = False
    return_sequences: bool = False
    zero_output_for_mask: bool = False
    compiled: bool = False  # by XLA, for which an iteration costs next to nothing: one step each


def lstm(
    sequences: Tensor, states: Sequence[Tensor], mask: Tensor | None, weights: Weights, options: GraphOptions
) -> tuple[Tensor, Tensor, Tensor]:
    """Run an LSTM over sequences, as Keras's loop does.

    Args:
        sequences: (batch, steps, channels).
        states: h and c before the first step, each (batch, units).
        mask: Bool (batch, steps), true where a step is valid, or `None` where all are.
        weights: Of the layer.
        options: Of the layer.

    Returns:
        The outputs, h and c. The outputs are (batch, steps, units) with `return_sequences`, else those of the last
        step, (batch, units). At a step that is not valid the output is the one before it, or zeros: where there is
        none, and with `zero_output_for_mask`.
    """
    import tensorflow as tf

    if options.go_backwards:
        sequences = tf.reverse(sequences, [1])
        mask = None if mask is None else tf.reverse(mask, [1])
    ends = None
    if mask is not None:
        ends = tf.reduce_sum(tf.cast(mask, tf.int32), axis=1)
        sequences = tf.where(mask[..., tf.newaxis], sequences, 0)  # a NaN that is masked would reach the gradients
        sequences = tf.gather(sequences, _valid_first(mask), batch_dims=1)
    run = _one_operation if _fits_one_operation(sequences, weights, options) else _loops
    rows = run(sequences, states, ends, weights, options)
    if mask is None:
        return rows
    outputs, hidden, cell = rows
    return _restore(outputs, mask, ends, options), hidden, cell


def _valid_first(mask: Tensor) -> Tensor:
    """Where the steps are that come first when each row's valid ones do, in their order; int32 (batch, steps)."""
    import tensorflow as tf

    steps = tf.shape(mask)[1]
    later = tf.range(steps, 0, -1)  # keys that differ: not every sort keeps the order of equal ones
    return tf.math.top_k(tf.where(mask, later + steps, later), k=steps).indices


def _restore(outputs: Tensor, mask: Tensor, ends: Tensor, options: GraphOptions) -> Tensor:
    """Put the outputs of valid steps back to where these were."""
    import tensorflow as tf

    if options.return_sequences:
        seen = tf.cumsum(tf.cast(mask, tf.int32), axis=1)
        outputs = tf.gather(outputs, tf.maximum(seen - 1, 0), batch_dims=1)
        kept = mask if options.zero_output_for_mask else seen > 0
    else:
        kept = mask[:, -1] if options.zero_output_for_mask else ends > 0
    return tf.where(kept[..., tf.newaxis], outputs, tf.zeros_like(outputs))


# === All steps: outputs, h and c. Row r is valid before step `ends[r]`, or everywhere where `ends` is `None` ===


def _fits_one_operation(sequences: Tensor, weights: Weights, options: GraphOptions) -> bool:
    """Whether `BlockLSTM` computes this, and faster than the loops."""
    channels, columns = weights.kernel.shape
    return (
        unusual_gate(options.functions) is None
        and options.cell_clip is None  # it makes a number of a NaN that it clips
        and sequences.dtype == "float32"
        and columns % 8 == 0  # of rows of odd units in an odd batch it makes copies, and says so in the server's log
        and channels * columns <= LARGE
        and not options.compiled
    )


def _one_operation(
    sequences: Tensor, states: Sequence[Tensor], ends: Tensor | None, weights: Weights, options: GraphOptions
) -> tuple[Tensor, Tensor, Tensor]:
    import tensorflow as tf

    kernel, (hidden, cell) = weights.kernel, states
    x, units = tf.transpose(sequences, [1, 0, 2]), hidden.shape[-1]
    if kernel.shape[0] % 2:  # odd channels are rows to be copied too
        x, kernel = tf.pad(x, [[0, 0], [0, 0], [0, 1]]), tf.pad(kernel, [[0, 1], [0, 0]])
    steps, batch, none = tf.shape(x)[0], tf.shape(x)[1], tf.zeros([units])
    if ends is None:
        ends = tf.fill([batch], steps)
    # Not BlockLSTMV2: TensorFlow has one gradient for both, and that reads the gates in the order of BlockLSTM.
    found = tf.raw_ops.BlockLSTM(
        seq_len_max=tf.cast(tf.clip_by_value(tf.reduce_max(ends), 0, steps), tf.int64),  # also of no rows
        x=x,
        cs_prev=cell,
        h_prev=hidden,
        w=tf.reshape(_in_its_order([kernel, weights.recurrent_kernel], units), [-1, 4 * units]),
        b=tf.zeros([4 * units]) if weights.bias is None else tf.reshape(_in_its_order([weights.bias], units), [-1]),
        wci=none,
        wcf=none,
        wco=none,
        forget_bias=0.0,
        cell_clip=-1.0,  # not at all
    )
    last = tf.maximum(ends - 1, 0) * batch + tf.range(batch)
    any_step = (ends > 0)[:, tf.newaxis]
    cell = tf.where(any_step, tf.gather(tf.reshape(found.cs, [-1, units]), last), cell)
    hidden = tf.where(any_step, tf.gather(tf.reshape(found.h, [-1, units]), last), hidden)
    return tf.transpose(found.h, [1, 0, 2]) if options.return_sequences else hidden, hidden, cell


def _in_its_order(kernels: list[Tensor], units: int) -> Tensor:
    """Put kernels (m, 4 * units) one below the other, gates in the order i, c, f, o, in one copy: (rows, units)."""
    import tensorflow as tf

    blocks = [tf.reshape(kernel, [-1, units]) for kernel in kernels]
    ends = np.cumsum([block.shape[0] for block in blocks])
    order = np.arange(ends[-1]).reshape(-1, 4)[:, [0, 2, 1, 3]].ravel().astype("int32")
    return tf.dynamic_stitch(np.split(order, ends[:-1]), blocks)


def _loops(
    sequences: Tensor, states: Sequence[Tensor], ends: Tensor | None, weights: Weights, options: GraphOptions
) -> tuple[Tensor, Tensor, Tensor]:
    import tensorflow as tf

    batch, steps = tf.shape(sequences)[0], tf.shape(sequences)[1]
    z = tf.matmul(tf.reshape(tf.transpose(sequences, [1, 0, 2]), [-1, sequences.shape[-1]]), weights.kernel)
    if weights.bias is not None:
        z = tf.nn.bias_add(z, weights.bias)
    if ends is None and options.compiled:
        ends = tf.fill([batch], steps)  # XLA makes code of a step with a choice in it that is 1.6 times as fast
    longest = shortest = steps
    if ends is not None:  # the bounds hold for a batch of no rows too
        longest = tf.maximum(tf.reduce_max(ends), 0)
        shortest = tf.minimum(tf.reduce_min(ends), longest)
    done, (hidden, cell), outputs = tf.constant(0), states, []
    for at_once in (1,) if options.compiled else STEPS_AT_ONCE:
        last = at_once == 1
        count = longest - done if last else (shortest - done) // at_once
        loop = _Loop(z, batch, at_once, done, ends if last else None, weights.recurrent_kernel, options)
        # Past the last row's end there is nothing to compute, and the outputs stay zeros.
        hidden, cell, found = loop.run(count, hidden, cell, places=steps - done if last else count)
        outputs.append(found)
        done = done + count * at_once
    if not options.return_sequences:
        return hidden, hidden, cell
    rows = tf.reshape(tf.concat(outputs, axis=0), [steps, batch, hidden.shape[-1]])
    return tf.transpose(rows, [1, 0, 2]), hidden, cell


class _Loop(NamedTuple):
    """A loop of `at_once` steps an iteration, from step `start`.

    Attributes:
        z: What the gates receive from the inputs, (steps * batch, 4 * units).
        batch: Number of rows.
        at_once: Steps an iteration.
        start: The first step of the first iteration.
        ends: (batch,), the step from which a row keeps its state; `None` where none ends in this loop.
        recurrent_kernel: U.
        options: Of the layer.
    """

    z: Tensor
    batch: Tensor
    at_once: int
    start: Tensor
    ends: Tensor | None
    recurrent_kernel: Tensor
    options: GraphOptions

    def run(self, count: Tensor, hidden: Tensor, cell: Tensor, places: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`count` iterations. Gives h, c and, with `return_sequences`, `places` iterations of h: (rows, units)."""
        import tensorflow as tf

        units = self.recurrent_kernel.shape[0]
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
            parallel_iterations=1,  # each waits for the one before it
        )
        if not kept:
            return hidden, cell, None
        return hidden, cell, tf.reshape(tf.raw_ops.TensorListStack(input_handle=kept[0], **rows), [-1, units])

    def _iteration(self, index: Tensor, hidden: Tensor, cell: Tensor, *kept: Tensor) -> list[Tensor]:
        import tensorflow as tf

        done = self.start + index * self.at_once
        hiddens = []
        for z in self._of_each_step(done):
            new = lstm_step(
                split_gates(z + tf.matmul(hidden, self.recurrent_kernel)),
                cell,
                self.options.functions,
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
        """The z of each step of an iteration, (batch, 4 * units): no copies, rows of z lie one after the other."""
        import tensorflow as tf

        width = self.z.shape[-1]
        if self.at_once == 1:
            steps = [tf.slice(self.z, [done * self.batch, 0], [self.batch, width])]  # of a size that XLA knows
        else:
            steps = tf.split(self.z[done * self.batch : (done + self.at_once) * self.batch], self.at_once, axis=0)
        for z in steps:
            z.set_shape([None, width])
        return steps
