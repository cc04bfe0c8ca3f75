"""`gated`: any JAX network as a function that takes a rule, without rewriting it.

A network is traced by JAX, which gives a program: a list of operations. Those that are linear at the image
are run as they are; at the others, the nonlinearities, a rule is asked. The way of a network, and the file of
each step:

    gated(network)                                            network.py
      |
      |  the network as function(params, images):             libraries.py
      |  flax, equinox, haiku, Keras, transformers, or one
      v
    trace it for one image and for several                    network.py
      |
      v
    Flat: one list of operations, nested calls and loops      program.py
    laid flat, each with its place in the user's source
      |
      |  which axis of a value is the images', which the      axes.py
      |  channels'; images that are mixed are refused
      |  what computes a ReLU, however it is written          probes.py
      |  other activations and maxima, their slopes at        activations.py
      |  kinks
      |  layers: linear operations with parameters            layers.py
      v
    NetworkProgram: a list of steps, each with the name       plan.py
    of its layer or activation; what has no linear map is
    refused with its place in the source
      |
      v
    run the steps under a rule                                steps.py

Parameters of layers, for metrics that randomize them: `layer_parameters` in `network.py`.
"""

from dmbp_jax._gated.network import Gated, GatedApply, gated, layer_parameters

__all__ = ["Gated", "GatedApply", "gated", "layer_parameters"]
