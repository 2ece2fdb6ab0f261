"""Who traces, and which operations the graph holds: the engine stays in the process, whatever leaves has stock ones."""

import keras
import numpy as np
import pytest

from zoo.kernels import target
from zoo.kernels.target import Place, Target, tracing_for
from zoo.layers import LSTM
from zoo.models import SequenceTask, build

tf = pytest.importorskip("tensorflow")

X = np.random.default_rng(0).normal(size=(4, 6, 3)).astype("float32")
Y = np.zeros((4, 2), "float32")
OURS = {"ZooLstm", "ZooLstmGrad"}
TENSORFLOW = keras.backend.backend() == "tensorflow"
on_tensorflow = pytest.mark.skipif(not TENSORFLOW, reason="TensorFlow's graphs")


@pytest.fixture
def traced(monkeypatch):
    """The targets that layers were traced for, in order, eager calls left out."""
    seen, find = [], target.of_trace

    def noted(tensors, training=False):
        found = find(tensors, training)
        if TENSORFLOW and not tf.executing_eagerly():
            seen.append(found)
        return found

    monkeypatch.setattr(target, "of_trace", noted)
    return seen


def made(**arguments):
    inputs = keras.Input((None, 3))
    model = keras.Model(inputs, LSTM(2, **arguments)(inputs))
    model.compile("sgd", "mse")
    return model


def operations(concrete):
    """Of a function and all that it calls."""
    definition = concrete.graph.as_graph_def()
    nodes = [*definition.node, *(node for function in definition.library.function for node in function.node_def)]
    return {node.op for node in nodes}


def only(function):
    """What a function has traced, without asking for more."""
    [concrete] = function._list_all_concrete_functions()
    return operations(concrete)


def losses(model):
    return tf.reduce_mean(tf.square(model(X) - Y))


# === TensorFlow: what stays ===


@on_tensorflow
@pytest.mark.parametrize(
    "use",
    [
        pytest.param(lambda model: model.fit(X, Y, verbose=0), id="fit"),
        pytest.param(lambda model: model.predict_on_batch(X), id="predict_on_batch"),
        pytest.param(lambda model: model.train_on_batch(X, Y), id="train_on_batch", marks=pytest.mark.slow),
        pytest.param(lambda model: model.evaluate(X, Y, verbose=0), id="evaluate", marks=pytest.mark.slow),
        pytest.param(lambda model: model.predict(X, verbose=0), id="predict", marks=pytest.mark.slow),
    ],
)
def test_keras_own_trainer_keeps_the_engine(traced, use):
    model = made()
    traced.clear()
    use(model)
    assert {found.place for found in traced} == {Place.HERE}


@on_tensorflow
def test_the_graphs_of_fit_and_predict_hold_the_native_operation():
    model = made()
    model.fit(X, Y, verbose=0)
    model.predict(X, verbose=0)
    functions = [model.train_function, model.predict_function]
    # Keras wraps its functions: those of TensorFlow are found where they are held.
    for function in functions:
        held = [cell.cell_contents for cell in getattr(function, "__closure__", None) or ()] + [function]
        graphs = [f for f in held if isinstance(f, tf.types.experimental.PolymorphicFunction)]
        assert any("ZooLstm" in operations(c) for f in graphs for c in f._list_all_concrete_functions())


def tape_inside(model):
    @tf.function(autograph=False)
    def step():
        with tf.GradientTape() as tape:
            loss = losses(model)
        return tape.gradient(loss, model.trainable_variables)

    step()
    return step


def tape_outside(model):
    forward = tf.function(lambda: losses(model), autograph=False)
    with tf.GradientTape() as tape:
        loss = forward()
    tape.gradient(loss, model.trainable_variables)
    return forward


def training_by_name(model):
    function = tf.function(lambda: model(X, training=True), autograph=False)
    function()
    return function


def in_a_loop(model):
    @tf.function
    def epoch():
        total = 0.0
        for _ in tf.range(2):
            with tf.GradientTape() as tape:
                loss = losses(model)
            tape.gradient(loss, model.trainable_variables)
            total += loss
        return total

    epoch()
    return epoch


@on_tensorflow
@pytest.mark.parametrize("loop", [tape_inside, tape_outside, training_by_name, in_a_loop])
def test_a_training_loop_of_ones_own_keeps_the_engine(loop):
    assert "ZooLstm" in only(loop(made()))


@on_tensorflow
@pytest.mark.slow
def test_a_distributed_training_step_keeps_the_engine(traced):
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        model = made()
    traced.clear()
    model.fit(X, Y, verbose=0)
    assert {found.place for found in traced} == {Place.HERE}


# === TensorFlow: what leaves, or may ===


@on_tensorflow
def test_a_function_that_infers_holds_stock_operations_for_it_may_be_saved():
    model = made()
    function = tf.function(lambda x: model(x), autograph=False)
    function(tf.constant(X))
    assert not OURS & only(function)
    # Who asks for an engine by name gets it, and may not save it.
    named = made(engine="native")
    obeyed = tf.function(lambda x: named(x), autograph=False)
    obeyed(tf.constant(X))
    assert "ZooLstm" in only(obeyed)


@on_tensorflow
@pytest.mark.parametrize("arguments", [{}, {"engine": "native"}, {"engine": "loop"}])
def test_a_concrete_function_that_is_asked_for_holds_keras_own_loop(arguments):
    model = made(**arguments)
    found = operations(tf.function(lambda: losses(model), autograph=False).get_concrete_function())
    assert not found & {*OURS, "BlockLSTM", "BlockLSTMV2"}
    assert found & {"While", "StatelessWhile"}


@on_tensorflow
@pytest.mark.slow
def test_a_data_pipeline_holds_stock_operations(traced):
    model = made()
    traced.clear()
    list(tf.data.Dataset.from_tensors(X).map(lambda x: model(x)))
    assert {found.place for found in traced} == {Place.ELSEWHERE}


@on_tensorflow
def test_what_is_declared_decides():
    model = made()
    function = tf.function(lambda: losses(model), autograph=False)
    with tracing_for(Place.HERE):
        assert "ZooLstm" in operations(function.get_concrete_function())


@on_tensorflow
def test_xla_is_recognised_outside_and_inside():
    found = []

    class Asking(keras.layers.Layer):
        def call(self, x):
            found.append(target.of_trace([x]))
            return x

    layer = Asking()
    tf.function(layer, jit_compile=True)(X)
    inner = tf.function(layer)
    tf.function(lambda x: inner(x), jit_compile=True)(X)
    assert found == [Target(Place.UNKNOWN, compiled=True)] * 2


@pytest.fixture
def blind(monkeypatch):
    """Lets nothing look at the stack."""
    monkeypatch.setattr(target, "_stack", lambda: pytest.fail("a frame was looked at"))


@on_tensorflow
def test_where_a_target_is_declared_no_frame_is_looked_at(blind):
    model = made()
    function = tf.function(lambda: losses(model), autograph=False)
    with tracing_for(Place.SAVED_MODEL):
        assert "BlockLSTM" in operations(function.get_concrete_function())


@on_tensorflow
@pytest.mark.slow
def test_an_export_looks_at_no_frame(blind, tmp_path):
    from zoo.export import export

    task = SequenceTask(channels=3, classes=2, mean=(0.0,) * 3, variance=(1.0,) * 3)
    export(build("lstm", task, units=4), {"classes": ["a", "b"]}, tmp_path, xla=True)


# === TensorFlow: what slips through is not saved ===


def training_step(model):
    """A step that trains, called before it is asked for: the trace that is kept has the engine."""
    step = tape_inside(model)
    concrete = step.get_concrete_function()
    assert operations(concrete) >= OURS
    return concrete


@on_tensorflow
@pytest.mark.parametrize("signature", [True, False], ids=["signature", "attribute"])
def test_a_trace_with_the_engine_is_not_saved(tmp_path, capfd, signature):
    module, model = tf.Module(), made()
    module.variables_of_model = [variable.value for variable in model.variables]
    concrete = training_step(model)
    if not signature:
        module.step = concrete
    with pytest.raises(ValueError, match=r"zoo_lstm|ZooLstm") as refused:
        tf.saved_model.save(module, str(tmp_path / "m"), signatures=concrete if signature else None)
    assert "engine='reference'" in str(refused.value.__cause__)
    assert not (tmp_path / "m/saved_model.pb").exists()
    capfd.readouterr()  # TensorFlow prints the cause as well


@on_tensorflow
def test_a_training_step_saved_with_its_module_is_traced_anew(tmp_path):
    module, model = tf.Module(), made()
    module.variables_of_model = [variable.value for variable in model.variables]
    module.step = tape_inside(model)
    tf.saved_model.save(module, str(tmp_path))
    definition = (tmp_path / "saved_model.pb").read_bytes()
    assert b"ZooLstm" not in definition


# === Every backend ===


@pytest.mark.any_backend
def test_an_eager_call_stays_and_looks_at_no_frame(blind):
    assert target.of_trace([X]) == Target(Place.HERE)
    made()(X)


@pytest.mark.any_backend
@pytest.mark.skipif(keras.backend.backend() != "jax", reason="JAX's exporter")
@pytest.mark.parametrize("activation", ["tanh", "relu", "prelu"])
def test_jax_exports_any_number_of_steps(activation):
    import jax
    from jax import export

    model = made(activation=activation)
    assert [found.place for found in _places_of_jax(jax, lambda run: jax.jit(run)(X))] == [Place.HERE]
    shape = export.symbolic_shape("batch, steps, 3")
    exported = export.export(jax.jit(lambda x: model(x)))(jax.ShapeDtypeStruct(shape, "float32"))
    np.testing.assert_allclose(exported.call(X), model(X), atol=1e-6)
    spec = jax.ShapeDtypeStruct(X.shape, "float32")
    assert [found.place for found in _places_of_jax(jax, lambda run: export.export(jax.jit(run))(spec))] == [
        Place.ELSEWHERE
    ]


def _places_of_jax(jax, trace):
    found = []
    trace(lambda x: found.append(target.of_trace([x])) or x)
    return found


@pytest.mark.any_backend
@pytest.mark.skipif(keras.backend.backend() != "torch", reason="torch's exporters")
@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:DeprecationWarning")
def test_torch_says_when_it_exports():
    import torch

    found = []

    class Asking(torch.nn.Module):
        def forward(self, x):
            found.append(target.of_trace([x]).place)
            return x + 1

    x = torch.ones(2)
    Asking()(x)
    torch.jit.trace(Asking(), (x,), check_trace=False)
    torch.export.export(Asking(), (x,), strict=False)
    assert found[0] is Place.HERE
    assert set(found[1:]) == {Place.ELSEWHERE}
    assert len(found) >= 3
