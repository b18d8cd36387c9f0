"""Classifiers of S5 and S4D layers, and their logits by a plain recurrence in f64.

python state_space.py writes s5_tiny.safetensors and s4d_tiny.safetensors (weights in f32, under the published names)
and *_io.safetensors (input `x`, `logits`). Needs numpy and safetensors; made with numpy 2 and seed 7.
"""

import numpy as np
from safetensors.numpy import save_file

H, P, CHANNELS, CLASSES, BATCH, LENGTH, BLOCKS = 6, 5, 2, 3, 4, 37, 2


def s5(w, u):
    """One step after the other; eigenvalues clipped, zero-order hold."""
    lam = np.minimum(w["Lambda_re"], -1e-4) + 1j * w["Lambda_im"]
    dt = np.exp(w["log_step"][:, 0])
    b = w["B"][..., 0] + 1j * w["B"][..., 1]
    c = w["C"][..., 0] + 1j * w["C"][..., 1]
    discrete = np.exp(lam * dt)
    b = ((discrete - 1) / lam)[:, None] * b
    x = np.zeros((u.shape[0], len(lam)), complex)
    y = np.empty_like(u)
    for k in range(u.shape[1]):
        x = discrete * x + u[:, k] @ b.T
        y[:, k] = 2 * (x @ c.T).real + w["D"] * u[:, k]
    return y


def s4d(w, u):
    """The kernel 2 Re sum_n C_n (exp(dt A_n) - 1) / A_n exp(dt A_n l), then a causal convolution."""
    a = -np.exp(w["log_A_real"]) + 1j * w["A_imag"]
    dt = np.exp(w["log_dt"])[:, None]
    c = w["C"][..., 0] + 1j * w["C"][..., 1]
    steps = np.arange(u.shape[1])
    powers = np.exp((dt * a)[..., None] * steps)
    kernel = 2 * np.einsum("hn,hnl->hl", c * (np.exp(dt * a) - 1) / a, powers).real
    y = np.empty_like(u)
    for k in range(u.shape[1]):
        y[:, k] = np.einsum("blh,hl->bh", u[:, : k + 1], kernel[:, k::-1]) + w["D"] * u[:, k]
    return y


def classifier(w, x, kind, layer):
    def affine(name, v):
        return v @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    x = affine("linear_encoder", x)
    for i in range(BLOCKS):
        block = f"blocks.{i}"
        z = (x - w[f"{block}.norm.mean"]) / np.sqrt(w[f"{block}.norm.var"] + 1e-5)
        own = {k.split(".")[-1]: v for k, v in w.items() if k.startswith(f"{block}.{kind}.")}
        z = layer(own, z)
        z = 0.5 * z * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)))
        value, gate = affine(f"{block}.glu.w1", z), affine(f"{block}.glu.w2", z)
        x = x + value / (1 + np.exp(-gate))
    return affine("linear_layer", x.mean(axis=1))


def main():
    rng = np.random.default_rng(7)
    normal = lambda *shape: rng.normal(size=shape)
    for kind, layer in [("s5", s5), ("s4d", s4d)]:
        w = {}

        def linear(name, outputs, inputs):
            w[f"{name}.weight"] = normal(outputs, inputs) / np.sqrt(inputs)
            w[f"{name}.bias"] = 0.1 * normal(outputs)

        linear("linear_encoder", H, CHANNELS)
        for i in range(BLOCKS):
            block = f"blocks.{i}"
            w[f"{block}.norm.mean"] = 0.3 * normal(H)
            w[f"{block}.norm.var"] = rng.uniform(0.5, 2.0, H)
            linear(f"{block}.glu.w1", H, H)
            linear(f"{block}.glu.w2", H, H)
            if kind == "s5":
                # One eigenvalue beyond the clip.
                own = {
                    "Lambda_re": np.append(-rng.uniform(0.1, 1.0, P - 1), 0.3),
                    "Lambda_im": 8 * normal(P),
                    "B": normal(P, H, 2),
                    "C": normal(H, P, 2),
                    "log_step": rng.uniform(np.log(0.01), np.log(0.3), (P, 1)),
                }
            else:
                own = {
                    "log_dt": rng.uniform(np.log(0.01), np.log(0.3), H),
                    "log_A_real": 0.5 * normal(H, P),
                    "A_imag": 8 * normal(H, P),
                    "C": normal(H, P, 2),
                }
            own["D"] = normal(H)
            w.update({f"{block}.{kind}.{name}": value for name, value in own.items()})
        linear("linear_layer", CLASSES, H)
        # What is in the file is what the logits are of.
        w = {name: value.astype(np.float32) for name, value in w.items()}
        exact = {name: value.astype(np.float64) for name, value in w.items()}
        x = normal(BATCH, LENGTH, CHANNELS).astype(np.float32)
        logits = classifier(exact, x.astype(np.float64), kind, layer)
        save_file(w, f"{kind}_tiny.safetensors")
        save_file({"x": x, "logits": logits}, f"{kind}_tiny_io.safetensors")


if __name__ == "__main__":
    main()
