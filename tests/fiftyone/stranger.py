"""A FiftyOne of somebody else, that goes on as long as its stdin."""

import sys

import fiftyone

fiftyone.Dataset("theirs", persistent=True)
print("ready", flush=True)
sys.stdin.read()
print(",".join(fiftyone.list_datasets()))
fiftyone.delete_dataset("theirs")  # where a FiftyOne ran already, this one shared its database
