"""DRAW with attention in one file, from the data to the picture.

Read it with the paper beside you: Gregor, Danihelka, Graves, Rezende and Wierstra
(2015), "DRAW: A recurrent neural network for image generation", arXiv:1502.04623. The
sections are the paper's, in its order, and ``# Eq. (25)`` stands at the line that
computes equation (25). Equations (17) and (18) are for a network without attention.

The file needs torch and torchvision alone, and can be copied and run anywhere::

    python -m drawlib.textbook

fetches MNIST, trains for five epochs (82 seconds each on one core of a busy machine),
and writes what the network draws to ``draw.png``. Its numbers are those of
``drawlib.DRAW``: the bound, every gradient and the images are compared by test.

In the shapes, n is the number of images, B and A are their rows and columns, and a
patch has N × N pixels.
"""

import argparse
import gzip
import math
import os
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from torchvision import datasets
from torchvision.utils import save_image


class DRAW(nn.Module):
    """Two LSTMs: the encoder looks at an image, the decoder draws it, in T steps.

    Images are (n, 1, B, A), from 0 to 1. All draws of N(0, I) that a pass needs are
    given to it as ``eps``, of shape (n, T, z).

    >>> model = DRAW(T=4)
    >>> x = torch.bernoulli(torch.full((2, 1, 28, 28), 0.1))
    >>> model.loss(x, model.noise(2)).shape
    torch.Size([2])
    """

    def __init__(self, size=(28, 28), T=8, hidden=256, z=20, read=5, write=7):
        super().__init__()
        self.size, self.T, self.z, self.N_read, self.N_write = size, T, z, read, write
        self.encoder = nn.LSTMCell(2 * read**2 + hidden, hidden)
        self.mu = nn.Linear(hidden, z)
        self.log_sigma = nn.Linear(hidden, z)
        self.decoder = nn.LSTMCell(z, hidden)
        self.read_head = nn.Linear(hidden, 5)
        self.write_head = nn.Linear(hidden, 5)
        self.writer = nn.Linear(hidden, write**2)
        # What the LSTMs (h and s of both) and the canvas start from is learned.
        self.h_0 = nn.Parameter(torch.zeros(4, hidden))
        self.c_0 = nn.Parameter(torch.zeros(1, *size))

    def noise(self, n):
        """Draws of N(0, I) for n images, (n, T, z)."""
        return torch.randn(n, self.T, self.z, device=self.c_0.device)

    # 2.1 Network architecture

    def forward(self, x, eps):
        """The canvases c_1 … c_T, each (n, 1, B, A), and each step's KL, (n, T)."""
        h_enc, s_enc, h_dec, s_dec = self.h_0.unsqueeze(1).expand(-1, len(x), -1)
        c = self.c_0.expand_as(x)
        canvases, kl = [], []
        for t in range(self.T):
            x_hat = x - torch.sigmoid(c)  # Eq. (3)
            r = self.read(x, x_hat, h_dec)  # Eq. (4)
            seen = torch.cat([r, h_dec], 1)
            h_enc, s_enc = self.encoder(seen, (h_enc, s_enc))  # Eq. (5)
            mu = self.mu(h_enc)  # Eq. (1)
            log_sigma = self.log_sigma(h_enc)
            sigma = torch.exp(log_sigma)  # Eq. (2)
            z = mu + sigma * eps[:, t]  # Eq. (6)
            h_dec, s_dec = self.decoder(z, (h_dec, s_dec))  # Eq. (7)
            c = c + self.write(h_dec)  # Eq. (8)
            canvases.append(c)
            # The paper's −T/2 is right for one latent number: each of them has a −1/2.
            kl.append((mu**2 + sigma**2 - 2 * log_sigma - 1).sum(1) / 2)  # Eq. (11)
        return canvases, torch.stack(kl, 1)

    # 2.2 Loss function

    def loss(self, x, eps):
        """−ELBO in nats for each image, (n,); its mean is at least −log p(x)."""
        canvases, kl = self(x, eps)
        bits = F.binary_cross_entropy_with_logits(canvases[-1], x, reduction="none")
        L_x = bits.sum((1, 2, 3))  # Eq. (9)
        L_z = kl.sum(1)  # Eq. (10)
        return L_x + L_z  # Eq. (12)

    # 2.3 Stochastic data generation

    def generate(self, eps):
        """New images after each step, (T, n, 1, B, A): the encoder is not needed."""
        n = len(eps)
        _, _, h_dec, s_dec = self.h_0.unsqueeze(1).expand(-1, n, -1)
        c = self.c_0.expand(n, -1, -1, -1)
        canvases = []
        for t in range(self.T):
            z = eps[:, t]  # Eq. (13)
            h_dec, s_dec = self.decoder(z, (h_dec, s_dec))  # Eq. (14)
            c = c + self.write(h_dec)  # Eq. (15)
            canvases.append(c)
        return torch.sigmoid(torch.stack(canvases))  # Eq. (16): the mean of x

    # 3.2 Selective attention model

    def filters(self, parameters, N):
        """F_X (n, 1, N, A), F_Y (n, 1, N, B) and γ (n, 1, 1, 1) from five numbers each.

        Pixels, rows and columns of a patch are counted from 0, where the paper counts
        from 1. Five zeros: the grid runs from the first pixel to the last.
        """
        B, A = self.size
        five = parameters.T[..., None, None, None]  # each of them (n, 1, 1, 1)
        g_x, g_y, log_variance, log_delta, log_gamma = five  # Eq. (21)
        g_x = (A - 1) / 2 + (A + 1) / 2 * g_x  # Eq. (22)
        g_y = (B - 1) / 2 + (B + 1) / 2 * g_y  # Eq. (23)
        delta = (max(A, B) - 1) / max(N - 1, 1) * torch.exp(log_delta)  # Eq. (24)
        a, b, i = (torch.arange(k, device=delta.device) for k in (A, B, N))
        i = i.unsqueeze(1) - (N - 1) / 2
        mu_x = g_x + i * delta  # Eq. (19), (n, 1, N, 1)
        mu_y = g_y + i * delta  # Eq. (20)
        # A softmax divides each row by its sum: the Z of both equations.
        double = 2 * torch.exp(log_variance)
        F_x = torch.softmax(-((a - mu_x) ** 2) / double, dim=3)  # Eq. (25)
        F_y = torch.softmax(-((b - mu_y) ** 2) / double, dim=3)  # Eq. (26)
        return F_x, F_y, torch.exp(log_gamma)

    # 3.3 Reading and writing with attention

    def read(self, x, x_hat, h_dec):
        """What the encoder sees of the image and of what is still wrong, (n, 2N²)."""
        F_x, F_y, gamma = self.filters(self.read_head(h_dec), self.N_read)
        both = torch.cat([x, x_hat], 1)
        return (gamma * (F_y @ both @ F_x.mT)).flatten(1)  # Eq. (27)

    def write(self, h_dec):
        """What a step adds to the canvas, (n, 1, B, A), in a window of its own."""
        N = self.N_write
        F_x, F_y, gamma = self.filters(self.write_head(h_dec), N)
        w = self.writer(h_dec).view(-1, 1, N, N)  # Eq. (28)
        return F_y.mT @ (w / gamma) @ F_x  # Eq. (29)


# From here on: data, training and pictures, of which the paper's Section 4 tells.


def mnist():
    """60,000 digits, (60000, 1, 28, 28), grey levels from 0 to 1.

    From the folder ``DRAWLIB_DATA`` where it is set and has them, or downloaded.
    """
    name = "mnist/train-images-idx3-ubyte.gz"
    file = Path(os.environ.get("DRAWLIB_DATA", "data")) / name
    if file.exists():
        numbers = bytearray(gzip.decompress(file.read_bytes()))
        pixels = torch.frombuffer(numbers, dtype=torch.uint8, offset=16)
    else:
        pixels = datasets.MNIST("data", train=True, download=True).data
    return pixels.reshape(-1, 1, 28, 28) / 255


def optimisers(model):
    """Muon for the large matrices, which learn in fewer epochs with it; else Adam.

    PyTorch has Muon from 2.9 on; before, Adam has all.
    """
    weights = list(model.parameters())
    if not hasattr(torch.optim, "Muon"):
        return [torch.optim.Adam(weights, lr=4e-3)]
    large = [w for w in weights if w.ndim == 2 and min(w.shape) > 5]
    rest = [w for w in weights if w.ndim != 2 or min(w.shape) <= 5]
    muon = torch.optim.Muon(large, lr=0.02, weight_decay=0.0)
    return [muon, torch.optim.Adam(rest, lr=4e-3)]


def train(model, images, valid, epochs, batch=100):
    """Minimise the loss, and print −ELBO on ``valid`` after each epoch."""
    with torch.no_grad():  # start from the mean image: half of the way for nothing
        model.c_0.copy_(torch.logit(images.mean(0), eps=0.01))
    steps = epochs * math.ceil(len(images) / batch)

    def rate(step):  # up over 100 steps, then down along a cosine
        return min(1, (step + 1) / 100) * (1 + math.cos(math.pi * step / steps)) / 2

    steppers = optimisers(model)
    steppers += [torch.optim.lr_scheduler.LambdaLR(one, rate) for one in steppers]
    for epoch in range(1, epochs + 1):
        for chosen in torch.randperm(len(images)).split(batch):
            # Dynamic binarisation: a pixel's grey is the chance that it is 1.
            x = torch.bernoulli(images[chosen])
            model.zero_grad()
            model.loss(x, model.noise(len(x))).mean().backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5)
            for one in steppers:
                one.step()
        print(f"epoch {epoch}: -ELBO {evaluate(model, valid):.1f} nats", flush=True)


@torch.no_grad()
def evaluate(model, images, batch=500):
    """The mean of −ELBO in nats, with one draw for each image."""
    losses = [model.loss(x, model.noise(len(x))) for x in images.split(batch)]
    return torch.cat(losses).mean().item()


@torch.no_grad()
def draw(model, x, file):
    """A picture, a row for each digit: first those of x, redrawn; then new ones.

    The first column is the image, or the empty canvas; then come all steps.
    """
    canvases, _ = model(x, model.noise(len(x)))
    redrawn = torch.sigmoid(torch.stack(canvases))
    new = model.generate(model.noise(len(x)))
    blank = torch.sigmoid(model.c_0).expand_as(x)
    old, new = torch.cat([x[None], redrawn]), torch.cat([blank[None], new])
    tiles = torch.cat([old, new], dim=1).transpose(0, 1).flatten(0, 1)
    tiles = tiles.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    aside = f"{file}.partial"  # a picture is there whole or not at all
    save_image(tiles, aside, format="png", nrow=model.T + 1, pad_value=0.5)
    os.replace(aside, file)


def main():
    """Train and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--T", type=int, default=8, help="steps")
    parser.add_argument("--hidden", type=int, default=256, help="units of an LSTM")
    given = parser.parse_args()
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("medium")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    images = mnist().to(device)
    images, valid = images[:-10_000], torch.bernoulli(images[-10_000:])
    model = DRAW(T=given.T, hidden=given.hidden).to(device)
    train(model, images, valid, given.epochs)
    draw(model, valid[:6], "draw.png")
    print("the pictures are in draw.png: six digits, redrawn, and six new ones")


if __name__ == "__main__":
    main()
