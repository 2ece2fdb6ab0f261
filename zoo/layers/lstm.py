"""The LSTM layer: a drop-in for `keras.layers.LSTM` with a separate activation for each gate."""

import logging
import warnings
from typing import Any, ClassVar

import keras
from keras import ops

from zoo import kernels
from zoo.activations import Activation
from zoo.interception import replaced
from zoo.kernels import target
from zoo.kernels.contract import Engine, LayerSpec, Operands, Options
from zoo.kernels.masking import without_masked
from zoo.kernels.target import Place
from zoo.layers._arguments import Checks
from zoo.layers._cell_layer import CellLayer, OfCell
from zoo.layers.lstm_cell import LSTMCell, without_dropout_of_one
from zoo.types import Gates, Tensor

logger = logging.getLogger(__name__)

MANY_STEPS = 100  # above this number of steps the layer warns about an unbounded candidate


@keras.saving.register_keras_serializable("sequence_zoo")
class LSTM(CellLayer):
    """Long short-term memory with a separate activation for each gate.

    At step t, with `x_t` the input, `h` the hidden state and `c` the cell state:

        i = input_gate_activation(x_t @ W_i + h @ U_i + b_i)
        f = forget_gate_activation(x_t @ W_f + h @ U_f + b_f)
        g = candidate_activation(x_t @ W_c + h @ U_c + b_c)
        o = output_gate_activation(x_t @ W_o + h @ U_o + b_o)
        c = clip(f * c + i * g, -cell_clip, cell_clip)    (not clipped without `cell_clip`)
        h = o * hidden_activation(c)

    With Keras's arguments this is `keras.layers.LSTM`: same defaults, same weights in the same order (i, f, c, o),
    same results; `set_weights` carries them across in either direction.

    Args:
        units: Positive int, the width of `h` and `c`.
        activation: What `candidate_activation` and `hidden_activation` inherit. Default "tanh".
        recurrent_activation: What the three gates inherit. Default "sigmoid".
        input_gate_activation: Activation of i: a name ("relu", "leaky_relu(0.33)"), a function, a Keras layer, or
            `None` to inherit. The identity is "linear". The next four arguments are alike.
        forget_gate_activation: Activation of f.
        candidate_activation: Activation of g.
        output_gate_activation: Activation of o.
        hidden_activation: Activation applied to `c` before the output gate scales it.
        cell_clip: Bound for `c`, a positive number, or `None` (the default) for none. The gradient is 0 where it cuts.
        engine: The code that runs the recurrence: a name in `zoo.kernels.ENGINES`, which is obeyed or refused, or
            "auto". `resolved_engine` says which one runs.
        use_cudnn: As in Keras. `True` means engine="cudnn", and raises an error when the layer is called where cuDNN
            cannot run; with `False` "auto" chooses another engine.
        **kwargs: Every other argument of `keras.layers.LSTM`, with its default: `use_bias`, initializers,
            regularizers, constraints, `unit_forget_bias`, `dropout`, `recurrent_dropout`, `seed`,
            `return_sequences`, `return_state`, `go_backwards`, `stateful`, `unroll`, `zero_output_for_mask`, ...

    Call arguments:
        sequences: (batch, steps, channels).
        initial_state: `[h, c]`, each (batch, units), or (1, units) for every row; zeros by default.
        mask: Bool (batch, steps). Where it is false the states stay as they are, and the values of the sequences, even
            NaN, affect neither results nor gradients.
        training: Bool; dropout and random slopes act only in training.

    Returns:
        `h` of the last step, (batch, units), or of every step, (batch, steps, units), with `return_sequences`. With
        `return_state` a list: that tensor, the last `h`, the last `c`.

    Raises:
        ValueError: `units`, a dropout rate, an activation, `cell_clip`, `use_cudnn` or `engine` is not valid; the
            message names it.
        AttributeError: An argument that the weights are made from, such as `units`, is set again.

    Warns:
        UserWarning: Once for each layer, when the sequences are known to have more than 100 steps,
            `candidate_activation` is an unbounded function of the table and there is no `cell_clip`: `c` is then an
            unbounded sum.

    Example:
    >>> import numpy as np
    >>> layer = LSTM(4, activation="leaky_relu(0.33)", forget_gate_activation="hard_sigmoid", engine="reference")
    >>> tuple(layer(np.ones((2, 5, 3), "float32")).shape), layer.resolved_engine
    ((2, 4), 'reference')
    >>> layer.get_config()["activation"]
    'leaky_relu(0.33)'

    References:
        Hochreiter and Schmidhuber (1997), "Long Short-Term Memory", https://doi.org/10.1162/neco.1997.9.8.1735;
        Gers, Schmidhuber and Cummins (2000), "Learning to Forget", https://doi.org/10.1162/089976600300015015.
    """

    cell_class = LSTMCell
    argument_checks: ClassVar[Checks] = {
        "engine": lambda _, value: kernels.known(value),
        "use_cudnn": lambda _, value: kernels.requested("auto", value) and value,
    }

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        unit_forget_bias: bool = True,
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        use_cudnn: bool | str = "auto",
        *,
        input_gate_activation: Any = None,
        forget_gate_activation: Any = None,
        candidate_activation: Any = None,
        output_gate_activation: Any = None,
        hidden_activation: Any = None,
        cell_clip: float | None = None,
        engine: str = "auto",
        **kwargs: Any,
    ) -> None:
        cell_arguments = {
            name: value for name, value in locals().items() if isinstance(getattr(LSTM, name, None), OfCell)
        }
        kernels.requested(engine, use_cudnn)
        cell = LSTMCell(
            **cell_arguments,
            dtype=kwargs.get("dtype"),
            trainable=kwargs.get("trainable", True),
            implementation=kwargs.pop("implementation", 2),
            name="lstm_cell",
        )
        super().__init__(
            cell,
            return_sequences=return_sequences,
            return_state=return_state,
            go_backwards=go_backwards,
            stateful=stateful,
            unroll=unroll,
            activity_regularizer=activity_regularizer,
            **kwargs,
        )
        cell.sees_padding = False
        self.use_cudnn = use_cudnn
        self.engine = engine
        if use_cudnn is not True:  # a named engine is checked here, and `use_cudnn` at the call, as in Keras
            kernels.resolve(engine, self._layer_spec)
        self._logged_engine: str | None = None
        self._warned = False

    @property
    def resolved_engine(self) -> str:
        """The name of the engine that runs the layer in this process.

        A graph that leaves the process has stock operations instead. A graph for XLA has the reference where XLA cannot
        compile the engine. See `zoo.kernels.target`.
        """
        return kernels.resolve(self._requested_engine, self._layer_spec)

    @property
    def _requested_engine(self) -> str:
        return kernels.requested(self.engine, self.use_cudnn)

    @property
    def _layer_spec(self) -> LayerSpec:
        return LayerSpec(
            activations=Gates(**self.gate_activations),
            units=self.units,
            dtype=self.compute_dtype,
            cell_clip=self.cell_clip,
            recurrent_dropout=self.recurrent_dropout,
            use_cudnn=self.use_cudnn is not False,
        )

    @property
    def supports_jit(self) -> bool:
        """Whether XLA can compile the layer, which depends on the engine."""
        requested = self._requested_engine  # not resolved where it is a name, which may be refused
        engine = kernels.ENGINES[self.resolved_engine if requested == "auto" else requested]
        return self._supports_jit and engine.for_xla

    @supports_jit.setter
    def supports_jit(self, value: bool) -> None:
        self._supports_jit = bool(value)

    def build(self, sequences_shape: Any, initial_state_shape: Any = None) -> None:
        super().build(sequences_shape, initial_state_shape)
        self._warn_of_growth(sequences_shape[1])

    def _warn_of_growth(self, steps: int | None) -> None:
        candidate = self.gate_activations["candidate"]
        unbounded = isinstance(candidate, Activation) and not candidate.bounded
        # For an unknown size JAX has a symbol, which cannot be compared with a number.
        few = not isinstance(steps, int) or steps <= MANY_STEPS
        if self._warned or not unbounded or self.cell_clip is not None or few:
            return
        self._warned = True
        warnings.warn(
            f"{self.name}: the candidate activation {str(candidate)!r} is unbounded and the sequences have {steps} "
            "steps, so the cell state can grow until it overflows. Pass cell_clip=..., or a bounded "
            "candidate_activation such as 'relu6' or 'hard_tanh'.",
            UserWarning,
            stacklevel=2,
        )

    def call(self, sequences: Tensor, initial_state: Any = None, mask: Any = None, training: bool = False) -> Any:
        self._warn_of_growth(sequences.shape[1])
        return super().call(sequences, initial_state, mask, training)

    def inner_loop(self, sequences: Tensor, initial_state: Any, mask: Any, training: bool = False) -> Any:
        mask, training = mask[0] if isinstance(mask, list | tuple) else mask, bool(training)
        mask = None if mask is None else ops.cast(mask, "bool")
        requested = self._requested_engine
        traced_for = target.of_trace((sequences, *initial_state), training)
        # Keras's unrolled loop forgets to reverse the mask before it applies `zero_output_for_mask`. "auto" gives
        # Keras's result; a named engine gives the intended one.
        quirk = self.unroll and self.go_backwards and self.zero_output_for_mask and mask is not None
        if quirk and requested == "auto":
            name = kernels.REFERENCE
        else:
            name = kernels.resolve_in(traced_for, requested, self._layer_spec, training)
        if name != self._logged_engine:
            self._logged_engine = name
            logger.info("%s: engine %s (requested: %s)", self.name, name, requested)
        engine = kernels.ENGINES[name]
        if engine.run is not None:
            return self._engine_loop(engine, sequences, initial_state, mask, training, traced_for.compiled)
        # torch's exporters unroll every loop, and the ONNX exporter turns Keras's loop over reversed steps into a file
        # that no runtime loads. Keras's unrolled loop fails on reversed steps with a mask.
        exported = keras.backend.backend() == "torch" and traced_for.place is Place.ELSEWHERE
        unroll = self.unroll or (exported and not (self.go_backwards and mask is not None))
        with replaced(self, "unroll", unroll):
            return super().inner_loop(without_masked(sequences, mask), initial_state, mask=mask, training=training)

    def _engine_loop(
        self, engine: Engine, sequences: Tensor, initial_state: Any, mask: Any, training: bool, compiled: bool
    ) -> Any:
        cell, dtype = self.cell, engine.computes_in(self.compute_dtype)

        def cast(tensor: Any) -> Tensor:
            return None if tensor is None else ops.cast(tensor, dtype)

        sequences, dropout, (h, c) = cast(sequences), None, map(cast, initial_state)
        if self.stateful:  # torch overwrites these in place by the last states, and the backward pass needs them
            h, c = ops.copy(h), ops.copy(c)
        drawn = cell.drawn if training else None
        if drawn and cell.implementation == 1:
            dropout = cell.dropout_by_gate(sequences)
        elif drawn and drawn.inputs:
            sequences = sequences * ops.expand_dims(cast(drawn.inputs[0]), 1)
        results = kernels.run(
            engine,
            Operands(
                x=sequences,
                kernel=cast(cell.kernel),
                recurrent_kernel=cast(cell.recurrent_kernel),
                bias=cast(cell.bias),
                h=h,
                c=c,
                mask=mask,
                dropout=dropout,
                slopes=Gates(*map(cast, cell.slopes(training))),
            ),
            Options(
                activations=cell.engine_activations(),
                cell_clip=cell.cell_clip,
                go_backwards=self.go_backwards,
                return_sequences=self.return_sequences,
                zero_output_for_mask=self.zero_output_for_mask,
                training=training,
                compiled=compiled,
            ),
        )
        outputs, *states = (ops.cast(tensor, self.compute_dtype) for tensor in results)
        if self.return_sequences:
            return outputs[:, -1], outputs, states
        return outputs, ops.expand_dims(outputs, 1), states

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "use_cudnn": self.use_cudnn, "engine": self.engine}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "LSTM":
        config = without_dropout_of_one(config)
        try:
            return cls(**config)
        except kernels.EngineUnavailable as refused:
            # A model must load where the engine with which it was trained is not available.
            warnings.warn(f"{refused}. Falling back to engine='auto'.", UserWarning, stacklevel=2)
            return cls(**{**config, "engine": "auto"})
