"""Training on several nodes of a cluster, as a TrainJob of Kubeflow Trainer.

The step itself (launcher.py) puts the dataset into the store, starts the TrainJob, follows it, and fetches
the model. Each pod of the TrainJob (__main__.py) fetches the dataset and trains with the others; the first
puts the model, or what is wrong, into the store.
"""
