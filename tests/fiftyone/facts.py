"""Run beside the App: what is in our database, as JSON on stdout."""

import json
import sys
from pathlib import Path

from dfine_cli.errors import UsageError
from dfine_cli.visualize.fiftyone_bridge import open_dataset
from dfine_cli.visualize.fiftyone_database import connect

fiftyone = connect(Path(sys.argv[1]))
name, origin = sys.argv[2], Path(sys.argv[3])
dataset = fiftyone.load_dataset(name)
refused = {}
fiftyone.Dataset("foreign", persistent=True)
for wanted, made_from in (("foreign", origin), (name, origin.with_name("other.json"))):
    try:
        open_dataset(fiftyone, wanted, made_from)
    except UsageError as error:
        refused[wanted] = [error.message, error.hint]
fields = ["filepath", "image_id", "metadata.width", *sys.argv[4:]]
print(
    json.dumps(
        {
            "datasets": fiftyone.list_datasets(),
            "persistent": dataset.persistent,
            "fields": {field: dataset.values(field) for field in fields},
            "views": {
                view: dataset.load_saved_view(view).values("image_id") for view in dataset.list_saved_views()
            },
            "misses": dataset.load_saved_view("good: misses").values("ground_truth.detections.annotation"),
            "wrong": dataset.load_saved_view("good: false positives").values("good.detections.bounding_box"),
            "refused": refused,
        }
    )
)
