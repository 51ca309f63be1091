"""Shows results with an image missing, with all, and another model's with all in another folder; says what is there."""

import json
import shutil
import sys
from pathlib import Path

from dfine_cli.data.layout import SplitFiles
from dfine_cli.visualize.fiftyone_bridge import open_dataset, put_model
from dfine_cli.visualize.fiftyone_database import connect
from dfine_cli.visualize.source import show_results

home, data = Path(sys.argv[1]), Path(sys.argv[2])
here, elsewhere = home / "here", home / "elsewhere"
for folder in (here, elsewhere):
    shutil.copytree(data / "val", folder)
late = min(here.iterdir())
late.rename(home / "late")  # not by its name, or it would be found beside the annotations
annotations = home / "val.json"
shutil.copy(data / "annotations" / "instances_val.json", annotations)
fiftyone = connect(home / "fiftyone")
dataset = open_dataset(fiftyone, "later", annotations)
seen = []


def put(name: str, images: Path) -> None:
    """Show results on images and note what the dataset has then."""
    shown = show_results(data / f"{name}.json", SplitFiles(annotations, images))
    put_model(fiftyone, dataset, shown, data / f"{name}.json", 0.5, lambda done, total: None)
    dataset.reload()
    fields = {"ids": "id", "paths": "filepath", "truth": "ground_truth.detections.annotation"}
    fields |= {"outcomes": f"ground_truth.detections.{name}", "good": "good.detections.confidence"}
    view = dataset.sort_by("image_id")
    seen.append({key: view.values(field) for key, field in fields.items()})


put("good", here)
(home / "late").rename(late)
put("good", here)
put("poor", elsewhere)
print(json.dumps(seen))
