"""A trainer of one's own: what gateways reported goes in, a model that every gateway of the group uses comes out.

    python own_trainer.py BACKEND.db IDENTITY.pem GROUP APP_ID

opens a backend on its store, trains one application with scikit-learn where it is installed and in plain Python otherwise,
offers the model and says what became of it. In a service the same three lines stand where `Features` events are handled:

    samples = backend.samples(group, app)
    backend.offer(group, app, train(samples, app))
    ...                                           # a Trained event tells whether it was better than what is in use

What the words mean is in docs/training.md.
"""

from __future__ import annotations

import math
import struct
import sys
from collections.abc import Sequence
from typing import NamedTuple

import hailpost

FEATURES = 32
"""Features that a model looks at, the ones that hold the classes farthest apart."""


class Network(NamedTuple):
    """One hidden layer of tanh and a logistic output, over standardised features clamped to -5..5."""

    looks_at: list[int]
    centres: list[float]
    scales: list[float]
    rows: list[list[float]]
    biases: list[float]
    outputs: list[float]
    output_bias: float
    threshold: float = 0.5
    reach: float = 5.0


def words(network: Network) -> list[int]:
    """A model as the words that travel."""
    bits = [0, 0, 0]
    for feature in network.looks_at:
        bits[feature // 24] |= 1 << feature % 24
    numbers = [float(len(network.rows)), *map(float, bits), network.threshold, network.reach]
    numbers += network.centres + network.scales
    for row in network.rows:
        numbers += row
    numbers += [*network.biases, *network.outputs, network.output_bias]
    form, revision = 1, 1
    head = hailpost.FEATURE_SET << 16 | form << 12 | revision
    return [head, *struct.unpack(f">{len(numbers)}I", struct.pack(f">{len(numbers)}f", *numbers))]


def train(samples: Sequence[hailpost.Sample], app: int) -> list[int]:
    """The words of a model that tells an application from the others."""
    looks_at = far_apart(samples, app)
    columns = [[sample.features[feature] for sample in samples] for feature in looks_at]
    centres = [sum(column) / len(column) for column in columns]
    scales = [max(deviation(column), 1e-3) for column in columns]
    rows = [
        [clamp((sample.features[feature] - centre) / scale) for feature, centre, scale in zip(looks_at, centres, scales)]
        for sample in samples
    ]
    wanted = [sample.app == app for sample in samples]
    weights = [sample.weight for sample in samples]
    try:
        hidden, biases, outputs, bias = by_scikit_learn(rows, wanted)
    except ImportError:
        hidden, biases, outputs, bias = by_hand(rows, wanted, weights)
    return words(Network(looks_at, centres, scales, hidden, biases, outputs, bias))


def by_scikit_learn(
    rows: list[list[float]], wanted: list[bool]
) -> tuple[list[list[float]], list[float], list[float], float]:
    from sklearn.neural_network import MLPClassifier  # type: ignore[import-not-found,import-untyped,unused-ignore]

    model = MLPClassifier(hidden_layer_sizes=(5,), activation="tanh", max_iter=500, random_state=1).fit(rows, wanted)
    hidden = [[float(weight) for weight in row] for row in model.coefs_[0].T]
    biases = [float(bias) for bias in model.intercepts_[0]]
    outputs = [float(weight) for weight in model.coefs_[1][:, 0]]
    return hidden, biases, outputs, float(model.intercepts_[1][0])


def by_hand(
    rows: list[list[float]], wanted: list[bool], weights: list[float]
) -> tuple[list[list[float]], list[float], list[float], float]:
    """Logistic regression by gradient descent, as a network of one unit: tanh(x) is x where x is small."""
    shares = {kind: sum(weight for weight, is_it in zip(weights, wanted) if is_it == kind) for kind in (True, False)}
    slope = [0.0] * len(rows[0])
    bias = 0.0
    for _ in range(200):
        steps = [0.0] * len(slope)
        step = 0.0
        for row, is_it, weight in zip(rows, wanted, weights):
            error = (logistic(bias + dot(slope, row)) - is_it) * weight / shares[is_it]
            step += error
            for number, value in enumerate(row):
                steps[number] += error * value
        bias -= 0.5 * step
        slope = [weight - 0.5 * (change + 0.001 * weight) for weight, change in zip(slope, steps)]
    small = 0.001
    return [[small * weight for weight in slope]], [0.0], [1 / small], bias


def far_apart(samples: Sequence[hailpost.Sample], app: int) -> list[int]:
    """The features whose means differ most between an application and the others, in deviations."""

    def distance(feature: int) -> float:
        own = [sample.features[feature] for sample in samples if sample.app == app]
        others = [sample.features[feature] for sample in samples if sample.app != app]
        if not own or not others:
            return 0.0
        between = abs(sum(own) / len(own) - sum(others) / len(others))
        return between / (deviation(own) + deviation(others) + 1e-6)

    count = len(samples[0].features)
    return sorted(sorted(range(count), key=distance, reverse=True)[:FEATURES])


def deviation(values: Sequence[float]) -> float:
    mean = sum(values) / len(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))


def dot(left: Sequence[float], right: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(left, right))


def clamp(value: float) -> float:
    return min(5.0, max(-5.0, value))


def logistic(value: float) -> float:
    return 1 / (1 + math.exp(-max(-30.0, min(30.0, value))))


def main(store: str, identity: str, group: str, app: str) -> None:
    with hailpost.Backend("tls://127.0.0.1:0", store=store, identity=identity) as backend:
        samples = backend.samples(group, int(app))
        if not samples:
            sys.exit(f"no samples of application {app} in group {group}: gateways report them as they see its flows")
        backend.offer(group, int(app), train(samples, int(app)))
        for event in backend.events(timeout=60):
            if isinstance(event, hailpost.Trained) and event.app == int(app):
                print("accepted" if event.accepted else "refused", event.text)
                break


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    main(*sys.argv[1:])
