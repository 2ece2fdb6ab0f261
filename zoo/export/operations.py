"""The operations that an exported graph may have: stock, old, and with kernels in every server.

Operations on strings, tables and examples run on the CPU, also on a machine with a GPU.
"""

from pathlib import Path

# Frozen from the graphs of every model and activation of the zoo; an addition is a decision, not a side effect.
ALLOWED = frozenset(
    """
    Abs AddV2 All ArgMax Assert AssignVariableOp BatchToSpaceND BiasAdd BlockLSTM BroadcastTo Cast ConcatV2 Const Conv2D
    Cumsum DenseBincount DisableCopyOnRead DynamicStitch Elu EnsureShape Equal Erfc Exp ExpandDims Expm1 Fill FloorDiv
    FloorMod GatherV2 Greater GreaterEqual HashTableV2 Identity IdentityN IsFinite LeakyRelu Less LessEqual Log
    LogicalAnd LookupTableFindV2 LookupTableImportV2 MatMul Max MaxPool Maximum MergeV2Checkpoints Min Minimum Mul Neg
    NoOp Pack Pad ParseExampleV2 Placeholder Prod RaggedTensorToTensor Range ReadVariableOp RealDiv Relu Relu6 Reshape
    RestoreV2 ReverseV2 Rsqrt SaveV2 Select SelectV2 Selu Shape ShardedFilename Sigmoid Size Slice Softmax Softplus
    Softsign SpaceToBatchND Split Sqrt Square Squeeze StatefulPartitionedCall StatelessWhile StaticRegexFullMatch
    StaticRegexReplace StridedSlice StringJoin StringLower StringSplitV2 Sub Sum Tanh TensorListFromTensor
    TensorListGetItem TensorListReserve TensorListSetItem TensorListStack Tile TopKV2 Transpose UnicodeDecode
    UnicodeTranscode VarHandleOp VarIsInitializedOp While ZerosLike
    """.split()  # noqa: SIM905  (a block of names is read at a glance, 70 quoted strings are not)
)


def operations(path: Path) -> set[str]:
    """Every operation in the SavedModel at `path`, its functions included.

    Raises:
        FileNotFoundError: There is no `saved_model.pb`.
    """
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    graphs = [meta.graph_def for meta in saved.meta_graphs]
    nodes = [node for graph in graphs for node in graph.node]
    nodes += [node for graph in graphs for function in graph.library.function for node in function.node_def]
    return {node.op for node in nodes}


def refused_operations(path: Path) -> list[str]:
    """The operations in the SavedModel at `path` that are not allowed, sorted."""
    return sorted(operations(path) - ALLOWED)
