"""The LSTM recurrence and the engines that can run it.

One recurrence, several engines behind one dict: a layer names an engine or says "auto". The reference is the judge
of every other.

>>> resolve("auto")
'reference'
>>> resolve("refrence")
Traceback (most recent call last):
ValueError: unknown engine 'refrence'; did you mean 'reference'? Valid: auto, reference
"""

from zoo.suggest import unknown

ENGINES: dict[str, str] = {
    "reference": "Keras operations on any backend, one step at a time; the judge of every other engine",
}


def resolve(engine: str) -> str:
    """The engine that runs when `engine` is asked for.

    Args:
        engine: "auto", or a name in `ENGINES`, which is obeyed.

    Raises:
        ValueError: `engine` is neither.
    """
    if engine == "auto":
        return "reference"
    if engine not in ENGINES:
        raise ValueError(unknown("engine", engine, ["auto", *ENGINES]))
    return engine
