"""Hankel singular values of graded systems to every digit of a double: writes relative_accuracy.json beside itself.

Numbers of each system are rounded to few decimals and then to doubles; those doubles are the system, exactly. Gramians
in closed form, P_ij = b_i b_j^* / (1 - l_i conj(l_j)), their Cholesky factors, and the singular values of L_Q^* L_P, all
in 150 digits: a spectrum over 30 decades has Gramians over 60, and 90 digits are left. The same again in 200 digits
must give the same doubles.

    pip install mpmath==1.4.1 gmpy2==2.3.2 && python relative_accuracy.py
"""

import json
import math
import random
from pathlib import Path

import mpmath as mp


def rounded(x, digits):
    return float(f"{x:.{digits}g}")


class Maker:
    def __init__(self, seed):
        self.rng = random.Random(seed)

    def point(self, radius, angle, digits=6):
        """A pole; the decimals of a slow one must reach its distance to the circle."""
        return complex(rounded(radius * math.cos(angle), digits), rounded(radius * math.sin(angle), digits))

    def ring(self, states, inner=0.9, outer=0.999):
        return [
            self.point(math.sqrt(self.rng.uniform(inner**2, outer**2)), self.rng.uniform(0, 2 * math.pi))
            for _ in range(states)
        ]

    def entry(self, size):
        return complex(rounded(self.rng.uniform(-size, size), 5), rounded(self.rng.uniform(-size, size), 5))

    def system(self, name, lam, inputs, outputs, weight=lambda i: 1.0):
        """Rows of B of about length sqrt(1 - |lambda|^2), as a linear recurrent unit starts them."""
        b = [[self.entry(weight(i) * math.sqrt(1.5 * (1 - abs(l) ** 2) / inputs)) for _ in range(inputs)]
             for i, l in enumerate(lam)]
        c = [[self.entry(1 / math.sqrt(len(lam))) for _ in lam] for _ in range(outputs)]
        return {"name": name, "lambda": lam, "B": b, "C": c}


def systems():
    for states, inputs, outputs in [(24, 1, 1), (32, 1, 1), (24, 2, 2), (24, 4, 4), (20, 1, 3), (6, 9, 9)]:
        make = Maker(100 * states + inputs)
        yield make.system(f"ring N={states}, {inputs} in, {outputs} out", make.ring(states), inputs, outputs)
    for exponent in (6, 9):
        for ports in (1, 2):
            make = Maker(exponent + ports)
            lam = make.ring(18)
            for i in range(0, 18, 3):
                radius = 1 - make.rng.uniform(0.5, 2.0) * 10.0**-exponent
                lam[i] = make.point(radius, make.rng.uniform(0, 2 * math.pi), 16)
            yield make.system(f"six poles within 1e-{exponent} of the circle, H={ports}", lam, ports, ports)
    for ports in (1, 2):
        make = Maker(40 + ports)
        centers = make.ring(4)
        lam = [centers[i // 4] + 1e-6 * make.point(1.0, 1.5 * i) for i in range(16)]
        lam = [complex(rounded(l.real, 12), rounded(l.imag, 12)) for l in lam]
        yield make.system(f"four clusters of four at 1e-6, H={ports}", lam, ports, ports)
    for states, ports in [(20, 1), (26, 1), (26, 2), (32, 4)]:
        make = Maker(50 + states + ports)
        lam = [complex(rounded(0.97 * (1 - ((i + 0.5) / states) ** 2), 4), 0.0) for i in range(states)]
        yield make.system(f"real poles, smooth decay, N={states}, H={ports}", lam, ports, ports)
    for states, ports in [(24, 1), (30, 2)]:
        make = Maker(70 + states + ports)
        yield make.system(f"disk to 0.7, N={states}, H={ports}", make.ring(states, 0.0, 0.7), ports, ports)
    for ports in (1, 2):
        make = Maker(60 + ports)
        yield make.system(f"rows of B from 1 to 1e-9, H={ports}", make.ring(18), ports, ports,
                          lambda i: 10.0 ** (-0.5 * i))
    # Each mode nearly cancelled by a neighbor: the transfer function is a small difference of large parts.
    make = Maker(80)
    lam = [p + s for p in make.ring(6, 0.5, 0.95) for s in (0.0, 1e-5)]
    lam = [complex(rounded(l.real, 12), rounded(l.imag, 12)) for l in lam]
    pairs = make.system("strong modes that cancel, H=1", lam, 1, 1)
    for i in range(0, 12, 2):
        pairs["B"][i + 1] = pairs["B"][i]
        pairs["C"][0][i + 1] = -pairs["C"][0][i]
    yield pairs


def cholesky_factor(lam, rows):
    n = len(lam)
    lam = [mp.mpc(l) for l in lam]
    rows = [[mp.mpc(x) for x in row] for row in rows]
    gramian = mp.matrix(n, n)
    for i in range(n):
        for j in range(n):
            product = mp.fsum(a * mp.conj(b) for a, b in zip(rows[i], rows[j]))
            gramian[i, j] = product / (1 - lam[i] * mp.conj(lam[j]))
    factor = mp.matrix(n, n)
    for j in range(n):
        rest = gramian[j, j].real - mp.fsum(abs(factor[j, k]) ** 2 for k in range(j))
        assert rest > 0
        factor[j, j] = mp.sqrt(rest)
        for i in range(j + 1, n):
            known = mp.fsum(factor[i, k] * mp.conj(factor[j, k]) for k in range(j))
            factor[i, j] = (gramian[i, j] - known) / factor[j, j]
    return factor


def hankel_singular_values(system, digits):
    with mp.workdps(digits):
        lam, b, c = system["lambda"], system["B"], system["C"]
        l_p = cholesky_factor(lam, b)
        dual_rows = [[row[i].conjugate() for row in c] for i in range(len(lam))]
        l_q = cholesky_factor([l.conjugate() for l in lam], dual_rows)
        values = mp.svd_c(l_q.transpose_conj() * l_p, compute_uv=False)
        return sorted((float(v) for v in values), reverse=True)


def parts(matrix):
    rows = matrix if isinstance(matrix[0], list) else [matrix]
    return {"re": [[z.real for z in row] for row in rows], "im": [[z.imag for z in row] for row in rows]}


def main():
    out = []
    for system in systems():
        values = hankel_singular_values(system, 150)
        assert values == hankel_singular_values(system, 200)
        print(f"{system['name']}: {values[0]:.2e} .. {values[-1]:.2e}")
        fields = {key: parts(system[key]) for key in ("lambda", "B", "C")}
        out.append({"name": system["name"], **fields, "hsv": values})
    lines = ",\n".join(json.dumps(system, separators=(",", ":")) for system in out)
    Path(__file__).with_suffix(".json").write_text(f"[\n{lines}\n]\n")


main()
