"""Trains `flatconv.examples.image_vae` on photographs and writes the weights that ship with flatconv.

    python examples/train_image_vae.py [--steps 5000] [--out src/flatconv/examples/image_vae.safetensors]

The data are the colour photographs that come with scikit-image and examples/photo.png, cut into random crops. That is
far too little for an autoencoder of general use, and plenty for one whose output is recognisably its input.

Each crop is a video of one frame, as when an image model is trained with a video architecture. So the taps that meet
only the zeros in front get no gradient, and Adam without weight decay leaves them at their first, random values. They
are kept: a tap that is dead for images is not a tap that is zero, and only the padding tells the two apart.
"""

import argparse
import math
from pathlib import Path

import numpy as np
import skimage.data
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from flatconv.examples import image_vae
from flatconv.examples.image_vae import WEIGHTS, CausalConv3d

PHOTO = Path(__file__).with_name("photo.png")
CROP = 64
BATCH = 4
LEARNING_RATE = 1e-3


def to_tensor(image: Image.Image) -> Tensor:
    """An RGB image to (3, H, W) in [-1, 1]."""
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1) / 127.5 - 1.0


def photographs() -> list[Tensor]:
    """Each photograph at full size, half size and a third, so that crops show whole objects as well as details."""
    images = [Image.open(PHOTO)]
    for load in (skimage.data.astronaut, skimage.data.chelsea, skimage.data.coffee, skimage.data.rocket):
        images.append(Image.fromarray(load()))
    scaled = [image.reduce(factor) for image in images for factor in (1, 2, 3)]
    return [to_tensor(image) for image in scaled if min(image.size) >= CROP]


def random_crops(images: list[Tensor], generator: torch.Generator) -> Tensor:
    """(BATCH, 3, 1, CROP, CROP), half of them mirrored."""

    def below(limit: int) -> int:
        return int(torch.randint(limit, (), generator=generator))

    crops = []
    for _ in range(BATCH):
        image = images[below(len(images))]
        top, left = below(image.shape[1] - CROP + 1), below(image.shape[2] - CROP + 1)
        crop = image[:, top : top + CROP, left : left + CROP]
        crops.append(crop.flip(2) if below(2) else crop)
    return torch.stack(crops).unsqueeze(2)


def last_tap(conv: CausalConv3d, x: Tensor) -> Tensor:
    """What a causal convolution computes on one frame, at a third of the cost: (N, C, 1, H, W) -> (N, C', 1, H, W).

    This is by hand, for this one model, what flatconv does for any. Here it makes training twice as fast.
    """
    height, width = conv.kernel_size[1:]
    weight = conv.weight[:, :, -1]
    frame = x.squeeze(2).contiguous(memory_format=torch.channels_last)  # faster than the default
    return F.conv2d(frame, weight, conv.bias, padding=(height // 2, width // 2)).unsqueeze(2)


def psnr(x: Tensor, y: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of two images in [-1, 1]."""
    return 10 * math.log10(4.0 / float(F.mse_loss(x, y)))


def main() -> None:
    """Trains, then stores the weights in half precision and says how well these do."""
    parser = argparse.ArgumentParser(description="Trains flatconv's example autoencoder on a handful of photographs.")
    parser.add_argument("--steps", type=int, default=5000, help="twenty minutes on one core")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    generator = torch.Generator().manual_seed(0)
    images = photographs()
    model = image_vae(pretrained=False)
    slow_forward, CausalConv3d.forward = CausalConv3d.forward, last_tap
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.99))
    # Warm up over the first 50 steps, then down along a cosine to zero.
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / 50) * (1 + math.cos(math.pi * step / options.steps)) / 2
    )

    for step in range(1, options.steps + 1):
        x = random_crops(images, generator)
        # The decoder itself and not `decode`, whose clamp has no gradient where the output is out of range.
        y = model.decoder(model.encode(x))
        loss = F.l1_loss(y, x) + F.mse_loss(y, x)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            quality = psnr(x, y.detach())
            print(f"step {step}/{options.steps}  loss {loss.item():.4f}  crops {quality:.2f} dB", flush=True)

    weights = {name: weight.half().contiguous() for name, weight in model.state_dict().items()}
    save_file(weights, options.out)

    # Judge what was stored, with the convolutions as users will run them.
    model.load_state_dict(weights)
    CausalConv3d.forward = slow_forward
    photo = to_tensor(Image.open(PHOTO))[None, :, None]
    with torch.inference_mode():
        print(f"photo.png: {psnr(photo, model(photo)):.2f} dB; wrote {options.out}")


if __name__ == "__main__":
    main()
