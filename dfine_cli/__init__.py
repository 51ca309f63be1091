"""D-FINE from a COCO JSON file to a deployed detector. Importing the package imports nothing heavy."""

__version__ = "0.1.0"
