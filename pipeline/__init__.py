"""The KFP side: the pipeline, where it runs, and what a store holds of its runs."""

PIPELINE = "defectline"
"""What the pipeline is called, here and on a Kubeflow Pipelines server."""
CROSSVAL_PIPELINE = "defectline-crossval"
"""That of a cross-validation."""
