"""Learn to write like Python's own documentation, one character at a time.

    pip install ".[progress]" && python examples/character_model.py [--short]

The text of ``help("topics")`` comes with every CPython, some 460,000 characters. Batches read it
in rows side by side, each of which goes on where it stopped in the batch before: truncated
back-propagation through time, ``Trainer(stateful=True)``. Prints how many bits a character of the
last tenth takes, which the network has not read: by how frequent characters are, by how frequent
pairs are and by the LSTM, which must need the fewest. Then the network makes up some text.
``--short`` reads the text once.
"""

import sys
from pydoc_data.topics import topics

import numpy as np

import fastnn
from fastnn.preprocessing import continue_rows

BATCH, STEPS = 32, 64  # rows side by side; characters that gradients go back over
HELD_OUT = 720 * STEPS  # characters
TEMPERATURE = 0.7  # below 1 likely characters become more likely still


def load():
    """Return the characters that occur, and the text to learn from and to test with, as indices.

    The first character to test with is the last one to learn from: it has a successor in both.
    """
    text = "\n".join(topics[name] for name in sorted(topics))
    characters, indices = np.unique(list(text), return_inverse=True)
    return characters, indices[:-HELD_OUT], indices[-HELD_OUT - 1 :]


def bits_by_counting(train, test, characters):
    """Return the bits per character by counted single characters and by counted pairs.

    Counts start at one, so that nothing is impossible because it has not been seen (Laplace).
    """
    single, pair = np.ones(characters), np.ones((characters, characters))
    np.add.at(single, train, 1)
    np.add.at(pair, (train[:-1], train[1:]), 1)
    before, after = test[:-1], test[1:]
    likelihoods = single[after] / single.sum(), pair[before, after] / pair.sum(axis=1)[before]
    return [-np.log2(likelihood).mean() for likelihood in likelihoods]


def train_network(train, characters, epochs):
    """Return the trainer of a network that has read the text."""
    x, y = (continue_rows(part, BATCH, STEPS) for part in (train[:-1], train[1:]))
    model = fastnn.Sequential(
        fastnn.Embedding(characters, 32),
        fastnn.LSTM(32, 128),
        fastnn.Linear(128, characters),
        rng=0,
    )
    lr = fastnn.schedules.cosine_decay(5e-3, epochs * len(x) // BATCH)
    optimizer = fastnn.optim.Adam(model.parameters(), lr=lr, clip_norm=1.0)
    trainer = fastnn.Trainer(model, "cross_entropy", optimizer, stateful=True)
    trainer.fit(x, y, epochs=epochs, batch_size=BATCH, shuffle=False)
    return trainer


def bits_by_network(trainer, test):
    """Return the bits per character of one row that goes through the whole text."""
    x, y = (continue_rows(part, 1, STEPS) for part in (test[:-1], test[1:]))
    return trainer.evaluate(x, y, batch_size=1)["loss"] / np.log(2)


def make_up(model, characters, beginning, count, rng):
    """Return the beginning and `count` characters after it.

    Each is drawn from what the model expects after all those before, which is in the LSTM's state.
    """
    embedding, lstm, linear = model.layers
    unread, state = np.searchsorted(characters, list(beginning)), (None, None)
    drawn = []
    for _ in range(count):
        h = lstm(embedding(unread[np.newaxis]), *state)
        state = lstm.final_state
        logits = linear(h[:, -1])[0].astype(float)
        unread = rng.choice(len(characters), 1, p=fastnn.ops.softmax(logits / TEMPERATURE))
        drawn.append(characters[unread[0]])
    return beginning + "".join(drawn)


def main(short=False):
    characters, train, test = load()
    trainer = train_network(train, len(characters), epochs=1 if short else 10)
    single, pair = bits_by_counting(train, test, len(characters))
    network = bits_by_network(trainer, test)
    print(f"bits per character of {HELD_OUT:,} after the {len(train):,} to learn from:")
    print(f"  single characters {single:.3f}\n  pairs             {pair:.3f}")
    print(f"  LSTM              {network:.3f}\n")
    rng = np.random.default_rng(0)
    print(make_up(trainer.model, characters, "The statement ", 300, rng))
    return 0 if network < pair else 1


if __name__ == "__main__":
    sys.exit(main("--short" in sys.argv[1:]))
