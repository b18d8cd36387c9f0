"""The step of `step/lru.rs` in JAX, as the published code has it: what `cargo xtask bench step` compares with.

    python3 -m venv venv && venv/bin/pip install "jax[cpu]==0.10.2" optax
    venv/bin/python crates/trainer/benches/step_jax.py [--filter smnist,mid] [--states 256,28] [--threads 2]

Per sequence an associative scan over complex states, `vmap` over the batch, batch normalization, GELU, dropout, a gated
linear unit and AdamW with two groups, in f32 under one `jit`. Compilation is not timed. One line per row: shape, number
of states, median milliseconds of a step and of a forward pass, number of steps timed.
"""

import argparse
import functools
import os
import statistics
import time

arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
arguments.add_argument("--filter", default="", help="only shapes whose name contains one of these, comma-separated")
arguments.add_argument("--states", default="", help="only these numbers of states, comma-separated")
arguments.add_argument("--seconds", type=float, default=8.0, help="how long a row is measured, after compilation")
arguments.add_argument("--threads", type=int, default=os.cpu_count(), help="processors to run on")
options = arguments.parse_args()
# Before JAX starts its threads.
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])

import jax
import jax.numpy as jnp
import numpy as np
import optax

# Name, batch, length, channels, hidden, blocks, numbers of states: as in step/lru.rs.
SHAPES = [
    ("smnist", 50, 784, 1, 8, 1, [256, 128, 47, 28, 13]),
    ("mid", 16, 1024, 1, 64, 2, [128, 64, 32, 16]),
    ("scifar", 4, 1024, 3, 512, 6, [384, 96, 26]),
]
CLASSES = 10
DROPOUT = 0.1
RECURRENT = ("nu_log", "theta_log", "B_re", "B_im", "gamma_log")


def init(rng, channels, hidden, blocks, states):
    def normal(*shape, scale):
        return jnp.asarray(rng.standard_normal(shape) * scale, jnp.float32)

    def block():
        modulus = np.sqrt(rng.random(states) * (0.999**2 - 0.9**2) + 0.9**2)
        return {
            "nu_log": jnp.asarray(np.log(-np.log(modulus)), jnp.float32),
            "theta_log": jnp.asarray(np.log(2 * np.pi * rng.random(states)), jnp.float32),
            "gamma_log": jnp.asarray(np.log(np.sqrt(1 - modulus**2)), jnp.float32),
            "B_re": normal(states, hidden, scale=(2 * hidden) ** -0.5),
            "B_im": normal(states, hidden, scale=(2 * hidden) ** -0.5),
            "C_re": normal(hidden, states, scale=states**-0.5),
            "C_im": normal(hidden, states, scale=states**-0.5),
            "D": normal(hidden, scale=1.0),
            "w1": normal(hidden, hidden, scale=hidden**-0.5),
            "b1": jnp.zeros(hidden),
            "w2": normal(hidden, hidden, scale=hidden**-0.5),
            "b2": jnp.zeros(hidden),
        }

    return {
        "encoder": {"weight": normal(channels, hidden, scale=channels**-0.5), "bias": jnp.zeros(hidden)},
        "blocks": [block() for _ in range(blocks)],
        "head": {"weight": normal(hidden, CLASSES, scale=hidden**-0.5), "bias": jnp.zeros(CLASSES)},
    }


def recurrence(p, u):
    """One sequence, [length, hidden]."""
    decay = jnp.exp(-jnp.exp(p["nu_log"]) + 1j * jnp.exp(p["theta_log"]))
    matrix = (p["B_re"] + 1j * p["B_im"]) * jnp.exp(p["gamma_log"])[:, None]
    driven = u @ matrix.T
    decays = jnp.broadcast_to(decay, driven.shape)

    def combine(first, second):
        return first[0] * second[0], second[0] * first[1] + second[1]

    _, states = jax.lax.associative_scan(combine, (decays, driven))
    return (states @ (p["C_re"] + 1j * p["C_im"]).T).real + p["D"] * u


def forward(params, x, key):
    x = x @ params["encoder"]["weight"] + params["encoder"]["bias"]
    for p in params["blocks"]:
        skip = x
        x = (x - x.mean((0, 1))) * jax.lax.rsqrt(x.var((0, 1)) + 1e-5)
        x = jax.nn.gelu(jax.vmap(functools.partial(recurrence, p))(x))
        for_activation, for_output, key = jax.random.split(key, 3)
        # One mask for the whole batch, which saves random numbers.
        keep = functools.partial(jax.random.bernoulli, p=1 - DROPOUT, shape=x.shape[1:])
        x = jnp.where(keep(for_activation), x / (1 - DROPOUT), 0.0)
        x = (x @ p["w1"] + p["b1"]) * jax.nn.sigmoid(x @ p["w2"] + p["b2"])
        x = skip + jnp.where(keep(for_output), x / (1 - DROPOUT), 0.0)
    return x.mean(1) @ params["head"]["weight"] + params["head"]["bias"]


def loss(params, x, labels, key):
    return optax.softmax_cross_entropy_with_integer_labels(forward(params, x, key), labels).mean()


def median_ms(work, seconds):
    jax.block_until_ready(work())
    times, end = [], time.perf_counter() + seconds
    while len(times) < 3 or (time.perf_counter() < end and len(times) < 100):
        start = time.perf_counter()
        jax.block_until_ready(work())
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times), len(times)


def measure(name, batch, length, channels, hidden, blocks, states):
    rng = np.random.default_rng(1)
    params = init(rng, channels, hidden, blocks, states)
    x = jnp.asarray(rng.random((batch, length, channels)), jnp.float32)
    labels = jnp.arange(batch) % CLASSES
    group = jax.tree_util.tree_map_with_path(
        lambda path, _: "recurrent" if getattr(path[-1], "key", None) in RECURRENT else "main", params
    )
    optimizer = optax.multi_transform(
        {"main": optax.adamw(4e-4, weight_decay=0.05), "recurrent": optax.adam(1e-4)}, group
    )

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state, key):
        key, dropout = jax.random.split(key)
        value, gradients = jax.value_and_grad(loss)(params, x, labels, dropout)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, key, value

    evaluate = jax.jit(forward)
    key = jax.random.key(0)
    forward_ms, _ = median_ms(lambda: evaluate(params, x, key), options.seconds / 4)
    training = [params, optimizer.init(params), key]

    def one_step():
        *training[:], value = step(*training)
        return value

    step_ms, count = median_ms(one_step, options.seconds)
    print(f"{name:8}{states:5}  step {step_ms:9.1f} ms  forward {forward_ms:9.1f} ms  of {count}", flush=True)


print(f"jax {jax.__version__}, {options.threads} processors")
for name, *sizes, numbers in SHAPES:
    if options.filter and not any(text in name for text in options.filter.split(",")):
        continue
    for states in numbers:
        if not options.states or str(states) in options.states.split(","):
            measure(name, *sizes, states)
