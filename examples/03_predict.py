"""Find objects in a picture and draw them.

python examples/03_predict.py RUN_OR_CHECKPOINT PICTURE OUT.png
"""

import sys
from pathlib import Path

from PIL import Image

from dfine_cli.backends.detector import open_detector
from dfine_cli.data.images import read_image
from dfine_cli.data.preprocess import resize
from dfine_cli.visualize.draw import draw_boxes


def main(model: Path, picture: Path, out: Path, threshold: float = 0.5) -> int:
    """Write ``picture`` with its detections to ``out``; returns how many there are."""
    detector = open_detector(model)
    image = read_image(picture, "apply")
    batch = resize(image, detector.input_size)[None]
    found = detector.detect(batch, [(image.shape[0], image.shape[1])])[0]
    keep = found.scores >= threshold
    names = detector.classes.names
    drawn = draw_boxes(image, found.boxes[keep], found.labels[keep], names, found.scores[keep])
    Image.fromarray(drawn).save(out)
    return int(keep.sum())


if __name__ == "__main__":
    print(main(*map(Path, sys.argv[1:4])), "objects")
