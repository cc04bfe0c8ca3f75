"""An evaluation: methods explain images, metrics measure the maps, and each value is a row of a table.

The way of the data, from the call to the page, and the file of each step:

    evaluate(network, samples, methods=..., metrics=...)      _evaluate.py
      |
      |  Evaluation: the options, checked; the command has    _evaluate.py
      |  its own from there
      |  Plan: samples, methods and metrics in the order      _plan.py, _methods.py, _registry.py
      |  in which they are computed
      v
    for each chunk of images and each method:                 _run.py
      |
      |  Item: an image and a target                          _items.py
      |  its maps: explained, kept before, or from a folder   _run.py, _methods.py
      |  its values: a metric of each map                     _package_metrics.py, _measures.py,
      |                                                       _own_metrics.py
      v
    Store: rows in SQLite, a transaction for each             _store.py, _store_files.py
    method and chunk, so that a run can be killed at any
    moment and continued
      |
      v
    EvaluationResult: rows, means, intervals                  _evaluate.py, _summary.py
      |
      v
    the report: tables, curves, maps                          _report.py, _tables.py, _page.py

A run is continued only by what began it: `_fingerprint.py` tells whether a method, a metric or a network is
the same function with the same values as before. Random numbers come from a key of their own for each image,
target and method (`item_key` in `_items.py`), so that rows do not depend on the size of a chunk. Several
processes share a run by JAX's own runtime (`_processes.py`); each writes a file of its own.

A metric is added in `_package_metrics.py` (or by a user with `dmbp_jax.register_metric`), a column of the
report in `_tables.py`.
"""
