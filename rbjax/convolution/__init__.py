"""Any JAX function's convolutions and pooling, with gradients that stay fast inside loops on CPU.

XLA's CPU backend runs the gradients of a convolution 10 to 30 times slower inside `fori_loop`,
`scan` and `while_loop` than outside (jax-ml/jax issue 12868). `loop_safe` traces a function and
puts a primitive of ours (`primitives`) in the place of each plain 2-D convolution, also in the
jitted, rematerialised and looped functions inside it; pooling is treated likewise (`pooling`). What
it does not know it leaves as it is.
"""

from rbjax.convolution.rewrite import loop_safe

__all__ = ["loop_safe"]
