"""Sets the number of threads that a run may use."""

import keras


class ThreadsFixed(RuntimeError):
    """The number of threads cannot be changed any more in this process."""

    exit_code = 1


def use_threads(number: int | None) -> None:
    """Compute with at most `number` threads from now on; None changes nothing.

    The number decides how sums are split between threads, and so the last bits of a result. The native engine uses as
    many threads as TensorFlow.

    Args:
        number: Number of threads, 1 or more.

    Raises:
        ThreadsFixed: TensorFlow computes with another number already, or the backend is JAX, which has no such setting.
    """
    if number is None:
        return
    backend = keras.backend.backend()
    if backend == "torch":
        import torch

        torch.set_num_threads(number)
        return
    if backend != "tensorflow":
        raise ThreadsFixed(f"train.threads={number} cannot be set on the {backend} backend; leave it out")
    import tensorflow as tf

    threading = tf.config.threading
    now = threading.get_intra_op_parallelism_threads(), threading.get_inter_op_parallelism_threads()
    if now != (number, number):
        try:
            threading.set_intra_op_parallelism_threads(number)
            threading.set_inter_op_parallelism_threads(number)
        except RuntimeError as error:
            raise ThreadsFixed(
                f"train.threads={number} comes too late: TensorFlow computes with {now[0] or 'all'} threads in this "
                "process already; set it before anything is computed, or in a new process"
            ) from error
